#!/bin/sh
# Make .venv with exactly the locked packages, and this project itself in place.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    setup/system.sh python3-venv
fi
echo "setting up .venv"
"$python" -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
touch .venv/.ready
