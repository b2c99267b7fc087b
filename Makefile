# Two commands matter to a newcomer: `make demo` and `make test`. Both set up what they need.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
TEST_JOBS ?= 2

BENCHES := spf fib gossip status coldstart healing segment idle writes small members flood handshakes

.PHONY: venv system demo deb check lint types unit test bench soak soak-hostile soak-mutants soak-packages soak-image image clean $(addprefix bench-,$(BENCHES))

venv: .venv/.ready

.venv/.ready: requirements-dev.lock setup.cfg setup/venv.sh
	@PYTHON=$(PYTHON) setup/venv.sh

# Debian packages that the lab and the kernel tests use; does nothing where they are present.
system:
	@setup/system.sh

demo: system venv
	@$(BIN)/dmssd lab demo

lint: venv
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo >/tmp/dmssd-lint-imports.$$$$ 2>&1 || { cat /tmp/dmssd-lint-imports.$$$$; rm -f /tmp/dmssd-lint-imports.$$$$; exit 1; }; rm -f /tmp/dmssd-lint-imports.$$$$

types: venv
	@$(BIN)/mypy

unit: venv
	@$(BIN)/pytest -n $(TEST_JOBS) tests/unit tests/property tests/vectors

check: lint types unit

test: system venv lint types
	@$(BIN)/pytest -n $(TEST_JOBS) tests/unit tests/property tests/vectors tests/simulation
	@$(BIN)/pytest tests/netns
	@$(BIN)/pytest tests/packaging

# All figures of docs/performance.md; the idle daemon is watched for a minute unless IDLE_SECONDS=600.
bench: system venv
	@$(BIN)/python -m benchmarks $(ARGS)

# One of them, TRIALS=N times where it has trials: make bench-healing TRIALS=5
$(addprefix bench-,$(BENCHES)): bench-%: system venv
	@$(BIN)/python -m benchmarks $* $(ARGS)

# Simulated worlds, one seed after another; a failing seed prints the command that repeats it.
SEEDS ?= 200
soak: system venv
	@$(BIN)/python -m benchmarks.soak --seeds $(SEEDS) $(ARGS)

# A million hostile inputs to every codec and core and to meshes under siege.
INPUTS ?= 1000000
soak-hostile: venv
	@$(BIN)/python -m benchmarks.hostile --inputs $(INPUTS) $(ARGS)

# A sample of small mistakes in gossip, routing and security, each of which a test should notice.
MUTANTS ?= 400
soak-mutants: venv
	@nice $(BIN)/python -m benchmarks.mutants --mutants $(MUTANTS) $(ARGS)

# Packages of every architecture: the same bytes when built again, their contents, lintian.
soak-packages: venv
	@$(BIN)/python packaging/deb/soak.py

# The container image of this tree, and the three nodes of packaging/oci/compose.yaml by podman.
image: venv
	@packaging/oci/build.sh

soak-image: venv
	@$(BIN)/python packaging/oci/soak.py

clean:
	@rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The Debian package of this tree, for this machine; the .deb is left in build/.
ARCH ?=
deb: venv
	@packaging/deb/build.sh $(ARCH)
