#!/bin/sh
# Build the Debian package of this tree: packaging/deb/build.sh [amd64|arm64]; the .deb is left in build/.
#
# Locked wheels of that architecture are fetched here, by hash; nothing is fetched when the package is installed. armv7
# has no wheels of cffi, cryptography, msgspec and pynacl, so there is no package for it.
#
# DMSSD_DEB_VERSION=0.9.0 in the environment: the package has that version, and the program tells it, whatever the tree
# says; it is left in build/versions. For trying upgrades.
set -eu
cd "$(dirname "$0")/../.."
architecture=${1:-$(dpkg --print-architecture)}
case $architecture in
amd64) platform=x86_64 ;;
arm64) platform=aarch64 ;;
*)
    echo "there is no package for $architecture: amd64 and arm64 have the wheels that are needed" >&2
    exit 1
    ;;
esac
setup/system.sh debhelper dpkg-dev fakeroot
if [ "$architecture" != "$(dpkg --print-architecture)" ]; then
    # To strip with, and to learn what is needed of those libraries.
    tools=$(echo "$platform" | tr _ -)
    setup/system.sh "binutils-$tools-linux-gnu" "libc6-$architecture-cross" "libgcc-s1-$architecture-cross" \
        "libstdc++6-$architecture-cross"
fi

own=$(.venv/bin/python -c 'import dmssd; print(dmssd.__version__.replace(".dev", "~dev"))')
version=${DMSSD_DEB_VERSION:-$own}
into=build
[ "$version" = "$own" ] || into=build/versions
work=build/deb/$architecture
rm -rf "$work"
mkdir -p "$work"
cp -r packaging/deb/debian "$work/debian"
packaging/deb/assemble.sh "$work/tree" "$platform"
[ "$version" = "$own" ] || sed -i "s/^__version__ = .*/__version__ = \"$version\"/" "$work/tree/usr/lib/dmssd/dmssd/__init__.py"
packaging/deb/copyright.py "$work/tree/usr/lib/dmssd" >"$work/debian/copyright"
packaging/deb/changelog.py CHANGELOG.md "$version" >"$work/debian/changelog"
cp systemd/*.service systemd/*.socket "$work/debian/"
cp systemd/sysusers.d/dmssd.conf "$work/debian/dmssd.sysusers"
(cd "$work" && PATH=/usr/sbin:/usr/bin:/sbin:/bin dpkg-buildpackage --build=binary --no-sign -d \
    --host-arch "$architecture" >build.log 2>&1) || {
    tail -20 "$work/build.log" >&2
    exit 1
}
mkdir -p $into
mv build/deb/dmssd_*_"$architecture".deb $into/
file=$into/dmssd_${version}_$architecture.deb
bytes=$(stat --format %s "$file")
echo "$file: $((bytes / 10000 / 100)).$(printf %02d $((bytes / 10000 % 100))) MB (aim: 8 MB)"
