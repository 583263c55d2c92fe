# Everything runs from .venv, which is made from requirements.lock. `make help` lists the targets.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

IS_SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))
PYTHON ?= $(shell for candidate in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$candidate -c '$(IS_SUPPORTED)' 2>/dev/null; then echo $$candidate; exit; fi; done; echo python3)
PYTEST_ARGS ?= -n auto --dist worksteal

BIN := .venv/bin
# .locked holds the place the environment was made for: its scripts carry absolute paths, so a
# checkout that was moved or copied, or whose Python is gone, needs a new one.
LOCKED := .venv/.locked
INSTALLED := .venv/.installed
BENCH := .venv/.bench

# The models are jinja; the migrations name the source schema with a psql variable.
sqlfluff = \
	models=$$(find models tests/dbt -name '*.sql' 2>/dev/null); \
	test -z "$$models" || $(BIN)/sqlfluff $(1) $(SQLFLUFF_ARGS) $$models || exit 1; \
	migrations=$$(find fiml -name '*.sql'); \
	test -z "$$migrations" || $(BIN)/sqlfluff $(1) $(SQLFLUFF_ARGS) --templater placeholder $$migrations
SQLFLUFF_ARGS := --disable-progress-bar

export DO_NOT_TRACK := 1
export DBT_SEND_ANONYMOUS_USAGE_STATS := false
export DAGSTER_DISABLE_TELEMETRY := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PIP_ROOT_USER_ACTION := ignore
export PIP_USER := 0
unexport PYTHONHOME PYTHONPATH VIRTUAL_ENV

ifneq ($(wildcard $(LOCKED)),)
ifneq ($(shell $(BIN)/python -c 'print(open("$(LOCKED)").read().strip())' 2>/dev/null),$(CURDIR))
.PHONY: $(LOCKED)
endif
endif

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: install
install: $(INSTALLED) ## make .venv with everything in it
	@:

$(LOCKED): requirements.lock
	@$(PYTHON) -c '$(IS_SUPPORTED)' 2>/dev/null || { \
		echo "session-analytics needs Python 3.11, 3.12, 3.13 or 3.14; '$(PYTHON)' is" \
			"$$($(PYTHON) --version 2>/dev/null | head -n 1 | grep . || echo 'not there')." \
			"Name another one: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@echo "Installing into .venv; this takes about a minute."
	@rm -rf .venv
	@$(PYTHON) -m venv .venv >/dev/null || { \
		rm -rf .venv; \
		echo "'$(PYTHON) -m venv' does not work here. On Debian and Ubuntu: apt install python3-venv" >&2; \
		exit 1; }
	@$(BIN)/python -m pip install -qq --no-deps --require-hashes -r requirements.lock
	@pwd -P > $@

$(INSTALLED): $(LOCKED) pyproject.toml
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --no-index --editable .
	@touch $@

.PHONY: demo
demo: install ## fill a local database with sample history and read it
	@$(BIN)/session-analytics demo

# SERVE_ARGS= leaves the sample sessions out.
.PHONY: serve
serve: SERVE_ARGS ?= --demo-traffic
serve: install ## the page on the local database, with sample sessions that come in
	@$(BIN)/session-analytics serve --insecure-local $(SERVE_ARGS)

.PHONY: picture
picture: install ## photograph the page for the README (needs Chromium)
	@PICTURE=write $(BIN)/python -m pytest -q -m long tests/python/web/test_picture.py

.PHONY: dagster
dagster: install ## the orchestration's web interface on the local database
	@$(BIN)/session-analytics dagster

.PHONY: test
test: lint ## lint and all tests that take seconds
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

.PHONY: test-long
test-long: install ## all tests, with more and larger random cases
	@HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest $(PYTEST_ARGS) -m "long or not long"

.PHONY: docs
docs: install ## write docs/marts.md, and dbt's pages: target/docs/index.html
	@$(BIN)/python -m fiml.warehouse.documentation

# For example CAMPAIGN_ARGS="server-killed --minutes 30"; `make campaigns CAMPAIGN_ARGS=--help` lists them all.
.PHONY: campaigns
campaigns: install ## crash, kill and crowd everything, for hours; goes on where it stopped
	@PYTHONPATH=tests/python $(BIN)/python -m campaigns $(CAMPAIGNS) $(CAMPAIGN_ARGS)

.PHONY: test-crash
test-crash: CAMPAIGNS := archiver-killed archiver-killed-between-steps build-killed server-killed \
	backends-terminated disk-full
test-crash: campaigns ## the campaigns that kill something, or fill its disk

.PHONY: test-soak
test-soak: CAMPAIGNS := soak
test-soak: campaigns ## everything at once, for two hours

# For example BENCH_ARGS="--scale 100k,1m,5m,10m"; `.venv/bin/python -m benchmarks --help` lists them all.
.PHONY: bench
bench: install $(BENCH) ## measure the reader against what could be used instead
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

$(BENCH): requirements-bench.lock $(LOCKED)
	@echo "Installing what to compare with; this takes about a minute."
	@$(BIN)/python -m pip install -qq --no-deps --require-hashes -r requirements-bench.lock
	@touch $@

.PHONY: lint
lint: install ## ruff, mypy, sqlfluff
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy
	@$(call sqlfluff,lint)

.PHONY: format
format: install ## let ruff and sqlfluff repair what they can
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format
	@$(call sqlfluff,fix)

# Resolved together: what the benchmarks add fits what everything else has.
compile = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-strip-extras --no-annotate --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade) pyproject.toml

.PHONY: lock
lock: ## resolve pyproject.toml again into the lock files (needs uv; UPGRADE=1 for newer versions)
	@command -v uv >/dev/null || { echo "make lock needs uv; nothing else does." >&2; exit 1; }
	@$(compile) --extra all --extra test --output-file requirements.lock
	@$(compile) --extra bench --constraint requirements.lock --output-file requirements-bench.lock

.PHONY: clean
clean: ## remove what the other targets made, the local database included
	@test ! -x $(BIN)/python || $(BIN)/python -c \
		'from fiml.local_server import remove_local_servers; remove_local_servers()'
	@rm -rf .venv .session-analytics .mypy_cache .ruff_cache .pytest_cache .hypothesis target logs
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
