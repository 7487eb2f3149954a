#!/bin/sh
# Puts zpa before an app in the kind cluster `zpa`, lets the app fall asleep, and
# wakes it with a request. Then leaves a way in for more of them.
# Usage: run-kind.sh docker|podman
set -eu

engine=$1
cluster=zpa
image=zero-pod-autoscaler:latest
# The port on this machine that leads to the proxy.
port=${PORT:-8080}
url=http://127.0.0.1:$port/hostname
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
    curl --silent --show-error --fail --max-time 300 \
        --write-out '\nanswered after %{time_total} s\n' "$url"
}

# Waits until there are so many pods of the name, those that terminate included.
wait_for_pods() {
    until [ "$(kube get pods --selector "app.kubernetes.io/name=$1" --output name | wc -l)" -eq "$2" ]; do
        sleep 1
    done
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
wait_for_pods zero-pod-autoscaler 1

say "Waiting until the app has had no connection for 30 s, and sleeps"
kube wait deployment/my-app --for=jsonpath='{.spec.replicas}'=0 --timeout=3m
wait_for_pods my-app 0
kube get deployment my-app

: >target/port-forward.log
# Not through kube(): the process to kill would be a shell, and not kubectl.
kubectl --context "kind-$cluster" port-forward service/my-app-zpa "$port:80" \
    >target/port-forward.log 2>&1 &
forward=$!
# Listening is enough: the first connection must be that of the show.
until grep -q '^Forwarding' target/port-forward.log; do
    kill -0 "$forward" 2>/dev/null || { cat target/port-forward.log >&2; exit 1; }
    sleep 0.1
done

say "A request to the sleeping app: curl $url"
ask
kube get deployment my-app

say "And one to the app awake"
ask

say "Yours to try:  curl $url"
echo "After 30 s without a connection the app sleeps again. Ctrl-C ends this; what zpa says:"
kubectl --context "kind-$cluster" logs --follow --tail=20 deployment/my-app-zpa &
logs=$!
wait "$logs"
