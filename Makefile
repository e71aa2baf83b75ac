# What a stranger types. Every target sets up what it needs, says what it does, and fails with a
# sentence that names what is missing.

.DEFAULT_GOAL := help
.PHONY: help run test lint soak fuzz bench bench-peers bench-ledger bench-fleet bench-refusals bench-fairness lock clean
SHELL := /bin/bash

# The first Python of at least 3.11 that really starts; give another with `make PYTHON=/path/to/python3.12`.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3 python3.14; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v "$$name" && break; done)
VENV := .venv
PIP := $(VENV)/bin/python -m pip -qq --disable-pip-version-check --no-input
CLIENTS := tests/end_to_end/clients
WORKERS ?= 2
SEEDS ?= 5000
export SEEDS
ARGS ?=

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

run: $(VENV)/.run ## start the sidecar, its ledger and, without a provider key, a demo provider
	@exec $(VENV)/bin/spend up $(ARGS)

test: lint $(VENV)/.clients $(VENV)/.builder $(VENV)/.postgres $(VENV)/.redis ## check everything: linters, types, and all tests but the soak
	@echo "== tests (on $(WORKERS) processes; a few minutes)"
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m pytest -n $(WORKERS) --dist worksteal -m "not soak" $(ARGS)

lint: $(VENV)/.test ## ruff and mypy
	@echo "== ruff"
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@echo "== mypy"
	@$(VENV)/bin/mypy

soak: $(VENV)/.test $(VENV)/.postgres $(VENV)/.redis ## the tests that take longer than a test run should, and SEEDS=5000 simulated histories
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m pytest -n $(WORKERS) -m soak $(ARGS)
	@HYPOTHESIS_PROFILE=explore $(VENV)/bin/python -m pytest -n $(WORKERS) tests/properties $(ARGS)

fuzz: $(VENV)/.fuzz ## fuzz every parser for a minute each (ARGS="--seconds 600 --only answers"), where atheris has a wheel
	@nice -n 10 $(VENV)/bin/python -m tests.fuzzing.run $(ARGS)

bench: $(VENV)/.test ## measure the sidecar beside nginx passing the same bytes
	@.ci/need nginx=nginx wrk=wrk taskset=util-linux
	@$(VENV)/bin/python -m tests.benchmarks.run $(ARGS)
	@$(VENV)/bin/python -m tests.benchmarks.run --server sidecar $(ARGS)
	@$(VENV)/bin/python -m tests.benchmarks.size

bench-ledger: $(VENV)/.test $(VENV)/.postgres ## measure the ledger: both engines, a fleet's syncs, balances over ten million entries (8 minutes, 10 GB)
	@$(VENV)/bin/python -m tests.benchmarks.engines $(ARGS)
	@$(VENV)/bin/python -m tests.benchmarks.fleet
	@$(VENV)/bin/python -m tests.benchmarks.balance

bench-fleet: $(VENV)/.test $(VENV)/.postgres ## of these, how long a sync of 200 sidecars takes, beside PostgreSQL's own inserts (2 minutes)
	@$(VENV)/bin/python -m tests.benchmarks.fleet $(ARGS)

bench-peers: $(VENV)/.test ## measure it beside other gateways, from PyPI, with their limits on (10 minutes)
	@.ci/need nginx=nginx wrk=wrk taskset=util-linux redis-server=redis-server
	@$(VENV)/bin/python -m tests.benchmarks.peers $(ARGS)

bench-refusals: $(VENV)/.test $(VENV)/.postgres ## whether the time of a refusal tells what is there, on both engines (some minutes)
	@$(VENV)/bin/python -m tests.benchmarks.refusals $(ARGS)

bench-fairness: $(VENV)/.test $(VENV)/.postgres ## how much longer others wait for the ledger while one customer floods it, on both engines (3 minutes)
	@$(VENV)/bin/python -m tests.benchmarks.fairness $(ARGS)

lock: $(VENV)/.test ## write what is installed here into constraints.txt, and the Node clients' lock
	@set -o pipefail; { sed -n '/^#/p' constraints.txt && $(VENV)/bin/python -m pip --disable-pip-version-check freeze --exclude-editable | \
		awk -F == '{ gsub(/[_.]+/, "-", $$1); print tolower($$1) "==" $$2 }' | LC_ALL=C sort -t= -k1,1; } > constraints.new
	@mv constraints.new constraints.txt
	@.ci/need node=nodejs npm=npm
	@npm install --package-lock-only --silent --prefix $(CLIENTS)
	@node $(CLIENTS)/trim_lock.cjs $(CLIENTS)/package-lock.json

clean: ## remove what the other targets made here (no data of yours: that is in ~/.spend)
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .bench .fuzz
	@find sidecar tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@if [ -z "$(PYTHON)" ]; then echo "A Python of at least 3.11 is needed and none was found (Debian: apt install python3)." >&2; exit 1; fi
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
		.ci/need "=$$("$(PYTHON)" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
	@echo "== a virtual environment in $(VENV), with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "== installing (once; about half a minute)"
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	@.ci/need curl=curl
	@echo "== installing, with what the tests need (once; about a minute)"
	@$(PIP) install -c constraints.txt -e '.[test]'
	@touch $@ $(VENV)/.run

# Only for `make fuzz`: there is no wheel of it for every Python.
$(VENV)/.fuzz: $(VENV)/.test
	@echo "== installing the fuzzer (once)"
	@$(PIP) install -c constraints.txt -e '.[fuzz]'
	@touch $@

# Their modules stand in the virtual environment, and not beside the scripts that use them.
$(VENV)/.clients: $(VENV)/bin/python $(CLIENTS)/package.json $(CLIENTS)/package-lock.json
	@.ci/need node=nodejs npm=npm
	@echo "== installing the Node clients that the tests use (once; some seconds)"
	@rm -rf $(VENV)/clients && mkdir $(VENV)/clients
	@cp $(CLIENTS)/package.json $(CLIENTS)/package-lock.json $(CLIENTS)/.npmrc $(VENV)/clients
	@npm ci --silent --prefix $(VENV)/clients
	@touch $@

# Installed without asking only where that is all in a day's work: on a machine whose user is root.
$(VENV)/.builder: $(VENV)/bin/python
	@if [ "$$(id -u)" -ne 0 ] || .ci/need buildah=buildah; then touch $@; else echo "== so the test that builds the image is skipped"; fi

# The tests start servers of their own with its programs, each on its own port and folder.
$(VENV)/.postgres: $(VENV)/bin/python
	@if [ "$$(id -u)" -ne 0 ] || .ci/need initdb=postgresql; then touch $@; else echo "== so the tests on PostgreSQL are skipped"; fi

$(VENV)/.redis: $(VENV)/bin/python
	@if [ "$$(id -u)" -ne 0 ] || .ci/need redis-server=redis-server; then touch $@; else echo "== so the tests on Redis are skipped"; fi
