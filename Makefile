# setup, demo, test, lint, bench, lock: each works in a fresh clone, as root or with sudo.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SYSTEM := binutils bubblewrap e2fsprogs gcc git musl-tools python3-venv qemu-system-x86 qemu-utils shellcheck
# Not beside an engine that came another way: Debian's would replace it.
SYSTEM += $(if $(shell command -v dockerd),,docker.io)

.PHONY: setup demo test lint bench lock clean

setup: $(VENV)/.ready

# Debian's packages first (only those that are missing), then exactly what the lock file names, then pakman itself.
$(VENV)/.ready: requirements-dev.lock pyproject.toml Makefile scripts/system-packages
	@scripts/system-packages $(SYSTEM)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup
	@$(BIN)/python -m tests.demo

# One more than there are processors: a good deal of it is waiting for servers.
test: setup
	$(BIN)/python -m pytest -n $$(($$(nproc) + 1)) --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	shellcheck scripts/* .ci/run pakman/builders/*.sh
	$(BIN)/actionlint
	$(BIN)/zizmor --offline --quiet --pedantic .
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-actions action.yml
	$(BIN)/hadolint Dockerfile

bench: setup
	$(BIN)/python -m benchmarks

# The one command that updates the lock files. They name packages and hashes, never an index.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --upgrade --custom-compile-command 'make lock' -o requirements.lock pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --upgrade --custom-compile-command 'make lock' -o requirements-dev.lock -c requirements.lock --extra sandbox --group dev pyproject.toml

clean:
	rm -rf $(VENV) .cache
