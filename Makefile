# The commands of this repository; `make up` and `make test` set everything up themselves.
PYTHON ?= $(firstword $(foreach name,python3.11 python3 python,$(shell command -v $(name) 2>/dev/null)))
BIN := .venv/bin
# Every install comes from a lock file with hashes; our own package is built without downloads.
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
CONFIG ?=

.DEFAULT_GOAL := help
.PHONY: help up test check perf lock clean

help: ## Show these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: .venv/ready ## Set up, fetch the default network, and run the fleet on this machine
	@exec $(BIN)/fleet up $(CONFIG)

test: .venv/ready-dev ## Set up and run every test
	@$(BIN)/python -m pytest

check: .venv/ready-dev ## Format, lint, types, import contracts and the fast tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -q -m "not integration and not fault and not network"

perf: .venv/ready-dev ## Print the performance tables (ratios measured side by side)
	@$(BIN)/python tests/perf/bench_grouping.py
	@$(BIN)/python tests/perf/bench_openpose.py
	@$(BIN)/python tests/perf/bench_tracking.py
	@$(BIN)/python tests/perf/bench_wire.py
	@$(BIN)/python tests/perf/bench_pipeline.py

lock: ## Renew both lock files (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-annotate --custom-compile-command "make lock" --group build pyproject.toml \
	  --output-file requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-annotate --custom-compile-command "make lock" --group dev --extra eval --extra convert pyproject.toml \
	  --constraint requirements.lock \
	  --output-file requirements-dev.lock

clean: ## Remove the environment and every cache of this checkout
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find fleet agents models tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python found; install Python 3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "error: $(PYTHON) is not Python 3.11; run: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "setting up .venv (locked dependencies, about 1 GB) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) --require-hashes --requirement requirements.lock
	@$(PIP) --no-build-isolation --no-deps --editable .
	@touch $@

.venv/ready-dev: .venv/ready requirements-dev.lock
	@echo "adding the development tools ..."
	@$(PIP) --require-hashes --requirement requirements-dev.lock
	@touch $@
