#!/bin/sh
# Writes an image to an archive in the OCI layout.
# Usage: save-image.sh ENGINE IMAGE ARCHIVE
set -eu

engine=$1 image=$2 archive=$3
mkdir -p "$(dirname "$archive")"
rm -f "$archive"
case $engine in
# Docker's own format contains the OCI layout since version 25.
docker) docker save --output "$archive" "$image" ;;
podman) podman save --quiet --format oci-archive --output "$archive" "$image" ;;
buildah) buildah push --quiet "$image" "oci-archive:$archive" ;;
*) exit 1 ;;
esac
