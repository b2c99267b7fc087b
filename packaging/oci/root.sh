#!/bin/sh
# Make the root file system of the image: root.sh FILE.tar PACKAGE.deb
#
# Debian 12 and what the package depends on, from the mirror that this machine's apt uses, with the package itself.
# What apt was told meanwhile, the mirror first of all, is left in /etc/apt: packaging/oci/build.sh takes it away.
set -eu
tar=$1 deb=$2
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
apt-config dump | grep -E '^Acquire::https?::' >"$scratch/apt.conf" || true
apt-get indextargets --format 'deb [trusted=$(TRUSTED)] $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    sort -u >"$scratch/sources"
cat >"$scratch/finish" <<'FINISH'
set -eu
install -m 750 -g dmssd /usr/bin/setpriv /usr/libexec/dmssd/setpriv
setcap cap_net_admin,cap_net_raw=ep /usr/libexec/dmssd/setpriv
install -d -m 700 -o dmssd -g dmssd /var/lib/dmssd
# Where /usr has been merged nothing more is needed to merge it, and that is all that perl was for.
dpkg --purge usrmerge $(dpkg-query --show --showformat '${Package}\n' |
    grep -E '^(perl|perl-modules-.*|libperl5.*|lib.*-perl|libgdbm-compat4)$') >/dev/null
rm -rf /var/cache/* /var/log/* /usr/share/doc-base /etc/systemd/system/*.wants
rm -f /etc/hostname /etc/resolv.conf /etc/machine-id /dmssd.deb /finish
FINISH
# Of alternatives the last: a container has no service manager.
depends=$(dpkg-deb --field "$deb" Depends | tr , '\n' | sed 's/.*|//; s/(.*//; s/ //g' | sort -u | paste -sd , -)
mmdebstrap --quiet --mode=root --variant=essential --format=tar --aptopt="$scratch/apt.conf" \
    --aptopt='APT::Install-Recommends "false"' \
    --include="$depends,usr-is-merged,iproute2,iputils-ping,libcap2-bin" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --customize-hook="copy-in $scratch/finish /" \
    --customize-hook="cp '$deb' \"\$1/dmssd.deb\"" \
    --customize-hook='chroot "$1" dpkg --install /dmssd.deb >/dev/null' \
    --customize-hook="install -m 755 '$here/entry' \"\$1/usr/libexec/dmssd/entry\"" \
    --customize-hook='chroot "$1" sh /finish' \
    bookworm "$tar" - <"$scratch/sources"
