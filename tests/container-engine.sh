#!/bin/sh
# Prints the first container engine that works: docker, podman or buildah. A
# docker or podman that is installed may still have nothing to talk to.
set -eu

for engine in docker podman; do
    if "$engine" info >/dev/null 2>&1; then
        echo "$engine"
        exit
    fi
done
if command -v buildah >/dev/null; then
    echo buildah
    exit
fi
echo "no container engine: start docker or podman, or install buildah" >&2
# As a command this fails, so that make stops there.
echo false
