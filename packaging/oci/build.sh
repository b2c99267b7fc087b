#!/bin/sh
# Build the container image of this tree: packaging/oci/build.sh [OUTPUT]. OUTPUT is an archive for `podman load` and
# `docker load`; build/dmssd_VERSION_ARCH.image.tar unless given. Root is needed, and nothing but a mirror of Debian: the
# image stands on no other image. The format is Docker's, as OCI's has no health check.
set -eu
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "run it as root: it makes a file system with owners and capabilities" >&2; exit 1; }
setup/system.sh buildah mmdebstrap
architecture=$(dpkg --print-architecture)
packaging/deb/build.sh "$architecture"
version=$(.venv/bin/python -c 'import dmssd; print(dmssd.__version__.replace(".dev", "~dev"))')
deb=build/dmssd_${version}_$architecture.deb
tag=$(echo "$version" | tr '~' '-')
output=${1:-build/dmssd_${version}_$architecture.image.tar}

export BUILDAH_FORMAT=docker
store=$(mktemp -d)
container=
finish() {
    [ -z "$container" ] || in_store rm "$container" >/dev/null || true
    rm -rf "$store"
}
trap finish EXIT
in_store() { # no store of the machine's is touched
    buildah --root "$store/root" --runroot "$store/run" --storage-driver vfs "$@"
}
packaging/oci/root.sh "$store/root.tar" "$deb"

container=$(in_store from --isolation chroot scratch)
in_store add --quiet "$container" "$store/root.tar" / >/dev/null
# There is no package manager in it: a new image is its update.
in_store run --isolation chroot "$container" -- \
    sh -c 'rm -rf /etc/apt /var/lib/apt && install -d -m 755 -o dmssd -g dmssd /run/dmssd'
in_store config --user dmssd --workingdir / --env LC_ALL=C.UTF-8 --volume /var/lib/dmssd --port 4747/udp \
    --entrypoint '["/usr/libexec/dmssd/entry"]' --cmd run --stop-signal SIGTERM \
    --healthcheck 'CMD-SHELL timeout 5 dmssd role list || exit 1' --healthcheck-interval 30s --healthcheck-timeout 10s \
    --healthcheck-start-period 15s --healthcheck-retries 3 \
    --label org.opencontainers.image.title=dmssd --label "org.opencontainers.image.version=$version" \
    --label org.opencontainers.image.licenses=Apache-2.0 \
    --label org.opencontainers.image.description='leaderless daemon that makes machines one self-healing network' \
    --label "org.opencontainers.image.revision=$(git rev-parse HEAD)" "$container"
rm -f "$output"
in_store commit --quiet --format docker --squash "$container" "docker-archive:$output:localhost/dmssd:$tag" >/dev/null
bytes=$(stat --format %s "$output")
echo "$output: localhost/dmssd:$tag, $((bytes / 1000000)) MB"
