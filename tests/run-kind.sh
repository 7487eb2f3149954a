#!/bin/sh
# Puts zpa in front of an app in the kind cluster `zpa`, lets the app fall asleep, and
# wakes it with a request. Then leaves a way in for more of them.
# Usage: [PORT=8080] run-kind.sh docker|podman
set -eu

engine=$1
cluster=zpa
image=zero-pod-autoscaler:latest
# The port on this machine that leads to the proxy.
port=${PORT:-8080}
url=http://127.0.0.1:$port/hostname
# What the pods of each are labelled with.
app=app.kubernetes.io/name=my-app
proxy=app.kubernetes.io/name=zero-pod-autoscaler,app.kubernetes.io/instance=my-app
# How many seconds pods may take to come and go: four times as many as a proxy
# that drains.
limit=120
# Processes in the background.
forward=
logs=

say() {
    printf '\n== %s\n' "$1"
}

kube() {
    kubectl --context "kind-$cluster" "$@"
}

ask() {
    curl --noproxy '*' --silent --show-error --fail --max-time 300 \
        --write-out '\nanswered after %{time_total} s\n' "$url"
}

# Ends where something listens on the port: before minutes are spent on an image.
check_port() {
    code=0
    curl --noproxy '*' --silent --max-time 2 "$url" >/dev/null || code=$?
    # 7: nobody accepts the connection.
    [ "$code" -ne 7 ] || return 0
    echo "Port $port is in use. End what listens there, or choose another: PORT=8090 make run" >&2
    exit 1
}

# Waits until a Deployment ($1) has as many pods (of the selector $2) as it asks
# for, those that terminate included.
wait_for_pods() {
    wanted=$(kube get deployment "$1" --output 'jsonpath={.spec.replicas}')
    for _ in $(seq "$limit"); do
        there=$(kube get pods --selector "$2" --output name | wc -l)
        [ "$there" -ne "$wanted" ] || return 0
        sleep 1
    done
    echo "deployment/$1 asks for $wanted pods, and after $limit s there are $there:" >&2
    kube get pods --selector "$2" >&2
    exit 1
}

end() {
    status=$?
    trap - EXIT
    # shellcheck disable=SC2086 # both may be empty
    kill $forward $logs 2>/dev/null || true
    exit "$status"
}

# Ctrl-C is how this is meant to end.
interrupted() {
    say "Done. The cluster is left as it is: kind delete cluster --name $cluster"
    exit 0
}

trap end EXIT
trap interrupted INT TERM
[ "$engine" = docker ] || export KIND_EXPERIMENTAL_PROVIDER="$engine"

check_port
if ! kind get clusters 2>/dev/null | grep -qx "$cluster"; then
    say "Creating the kind cluster $cluster"
    kind create cluster --name "$cluster" --wait 3m
fi

say "Building the image and loading it into the cluster"
make --no-print-directory image ENGINE="$engine" IMAGE="$image"
mkdir -p target/image
rm -f target/image/kind.tar
if [ "$engine" = podman ]; then
    # podman says localhost/ where the node, as Docker does, says this.
    podman tag "$image" "docker.io/library/$image"
    image=docker.io/library/$image
fi
"$engine" save --output target/image/kind.tar "$image"
kind load image-archive target/image/kind.tar --name "$cluster"

say "Applying manifests/example"
kube apply -k manifests/example
# The tag of the image is the same as last time: only a restart takes the new one.
kube rollout restart deployment/my-app-zpa
kube rollout status deployment/my-app-zpa --timeout=3m
kube rollout status deployment/my-app --timeout=5m
# port-forward could choose a proxy that is about to end.
wait_for_pods my-app-zpa "$proxy"

say "Waiting until the app has had no connection for 30 s, and sleeps"
kube wait deployment/my-app --for=jsonpath='{.spec.replicas}'=0 --timeout=3m
wait_for_pods my-app "$app"
kube get deployment my-app

: >target/port-forward.log
# To one of the proxies, and not through their Service, which has no admin port.
# Not through kube(): the process to kill would be a shell, and not kubectl.
kubectl --context "kind-$cluster" port-forward deployment/my-app-zpa "$port:8080" :8081 \
    >target/port-forward.log 2>&1 &
forward=$!
# Listening is enough: the first connection must be that of the demo.
until admin=$(sed -n 's/^Forwarding from \(127\.0\.0\.1:[0-9]*\) -> 8081$/\1/p' \
    target/port-forward.log) && [ -n "$admin" ]; do
    kill -0 "$forward" 2>/dev/null || { cat target/port-forward.log >&2; exit 1; }
    sleep 0.1
done

say "A request to the sleeping app: curl $url"
ask
kube get deployment my-app

say "And one to the app awake"
ask

say "Yours to try:  curl $url"
echo "What zpa knows and does:  curl http://$admin/status"
echo "After 30 s without a connection the app sleeps again. Ctrl-C ends this; what the proxies say:"
kubectl --context "kind-$cluster" logs --follow --prefix --tail=20 --selector "$proxy" &
logs=$!
wait "$logs"
