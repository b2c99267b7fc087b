#!/bin/sh
# Put together what the package installs: assemble.sh DIRECTORY x86_64|aarch64
set -eu
tree=$1 platform=$2
private=$tree/usr/lib/dmssd
share=$tree/usr/share
mkdir -p "$tree/usr/lib/systemd/networkd.conf.d" "$private" "$tree/usr/bin" "$tree/usr/libexec/dmssd" "$tree/etc/dmssd/conf.d" \
    "$share/man/man1" "$share/man/man5" "$share/man/man8" \
    "$share/bash-completion/completions" "$share/zsh/vendor-completions" "$share/fish/vendor_completions.d"

.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --no-compile \
    --only-binary=:all: --implementation cp --python-version 3.11 --abi cp311 --abi abi3 --abi none \
    --platform "manylinux2014_$platform" --platform "manylinux_2_17_$platform" --platform "manylinux_2_28_$platform" \
    --platform "manylinux_2_34_$platform" --platform any --target "$private" -r requirements.lock
for package in sansio gossip routing dmssd; do cp -r "$package" "$private/"; done

# What a running node never imports.
rm -rf "$private/bin" "$private/examples"
find "$private" -type d \( -name __pycache__ -o -name tests -o -name test \) -prune -exec rm -rf {} +
find "$private" -type f \( -name '*.pyi' -o -name '*.c' -o -name '*.h' -o -name '*.pyx' -o -name '*.pxd' -o -name RECORD \
    -o -name '_testcapi.*.so' -o -name INSTALLER -o -name WHEEL -o -name REQUESTED -o -name direct_url.json \) -delete
find "$private" -name '*.so*' -type f -exec chmod 644 {} +
# Modules are no programs.
find "$private" -name '*.py' -type f -exec sed -i '1{/^#!/d}' {} + -exec chmod 644 {} +

install -m 644 systemd/networkd.conf.d/10-dmssd.conf "$tree/usr/lib/systemd/networkd.conf.d/"
install -m 755 packaging/deb/dmssd "$tree/usr/bin/dmssd"
install -m 755 packaging/deb/helper "$tree/usr/libexec/dmssd/helper"
.venv/bin/python packaging/deb/manual.py >"$share/man/man1/dmssd.1"
.venv/bin/python packaging/deb/manual_settings.py >"$share/man/man5/dmssd.toml.5"
.venv/bin/python packaging/deb/completion.py bash >"$share/bash-completion/completions/dmssd"
.venv/bin/python packaging/deb/completion.py zsh >"$share/zsh/vendor-completions/_dmssd"
.venv/bin/python packaging/deb/completion.py fish >"$share/fish/vendor_completions.d/dmssd.fish"
install -m 644 packaging/deb/dmssd-helper.8 "$share/man/man8/"
install -m 644 packaging/deb/dmssd.toml packaging/deb/helper.toml "$tree/etc/dmssd/"
install -D -m 644 -t "$share/doc/dmssd/monitoring" packaging/monitoring/alerts.yml packaging/monitoring/dashboard.json
