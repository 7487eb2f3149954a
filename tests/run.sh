#!/bin/sh
# Shows a sleeping app that a connection wakes: on a kind cluster where there is
# all that takes, and in the sandbox otherwise.
# Usage: [PORT=8080] run.sh
set -eu

missing=
for tool in kind kubectl curl; do
    command -v "$tool" >/dev/null || missing="$missing, no $tool"
done
engine=$(sh tests/container-engine.sh 2>/dev/null)
case $engine in
docker | podman) ;;
*) missing="$missing, no running docker or podman" ;;
esac

if [ -z "$missing" ]; then
    exec sh tests/run-kind.sh "$engine"
fi
cargo build --locked --release --bin zpa --example sandbox
exec target/release/examples/sandbox --reason "${missing#, }" --listen "127.0.0.1:${PORT:-8080}"
