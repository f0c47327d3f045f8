# Each target makes what it needs from Python 3.11 or newer alone, and nothing outside this folder.
PYTHON ?= python3
PARTS ?= core insar cube
BIN := $(CURDIR)/.venv/bin
READY := .venv/.ready
UV := $(BIN)/uv
LOCKED := pyproject.toml formats/pyproject.toml algorithms/browse/pyproject.toml
ALONE := $(filter-out core,$(PARTS))
export UV_PYTHON_DOWNLOADS := never
export PIP_DISABLE_PIP_VERSION_CHECK := 1
MAKEFLAGS += --no-print-directory

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench chaos docs lock schema clean

help: ## Say what there is to do
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' Makefile | expand -t 14

demo: $(READY) ## From radar scenes to a delivered interferogram, with a worker killed on the way
	@$(MAKE) -C algorithms/insar env UV=$(UV)
	@$(BIN)/python examples/demo/demo.py $(ARGS)

test: $(PARTS:%=test-%) ## Run all tests (PARTS="core insar cube", ARGS=… for pytest)

lint: $(READY) $(ALONE:%=lint-%) ## Format, style, types, import contracts, links and licences
	@echo "lint: format, style, types, contracts, links, licences"
	@$(BIN)/ruff format --check --quiet . || { echo "Run .venv/bin/ruff format ."; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy src formats/src algorithms/browse/src
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -q tests/docs/test_links.py tests/test_licences.py

bench: $(READY) ## Measure, each figure beside a peer's or a bound's in the same run
	@if [ -f benchmarks/run.py ]; then $(BIN)/python benchmarks/run.py $(ARGS); \
	else for file in benchmarks/*.py; do echo "$$file"; $(BIN)/python $$file $(ARGS) || exit 1; done; fi

FAULTS ?= 1000
SEED ?= 1
chaos: $(READY) ## Break anything at any moment, FAULTS=1000 times, and look for what was lost (SEED=1 repeats a run)
	@ARMILLARY_CHAOS_FAULTS=$(FAULTS) ARMILLARY_CHAOS_SEED=$(SEED) ARMILLARY_CHAOS_SETS=500 $(BIN)/python -m pytest -q \
	  tests/acceptance/test_chaos.py tests/acceptance/test_firings.py tests/acceptance/test_crashes.py $(ARGS)

docs: $(READY) ## Write the reference anew, run every command that the documents show, and check their links
	@$(BIN)/python docs/generate.py
	@$(BIN)/python dashboards/generate.py
	@$(BIN)/python -m pytest -q tests/docs $(ARGS)

lock: $(READY) ## Choose the newest versions of all dependencies that the tests then prove
	@$(UV) pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --python-version 3.11 $(LOCKED) --extra server --group dev \
	  --no-emit-package armillary-formats --no-emit-package armillary-browse --output-file requirements.lock

schema: $(READY) ## Write schema.sql anew, after a new migration
	@ARMILLARY_WRITE_SCHEMA=1 $(BIN)/python -m pytest -q tests/migrations/test_schema.py

clean: ## Remove what was made here, the demo's data included
	@for home in .demo .radio; do \
	  if [ -x $(BIN)/armillary ] && [ -d $$home ]; then $(BIN)/armillary --home $$home down >/dev/null 2>&1 || true; fi; done
	rm -rf .venv .venvs .demo .radio .bench build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.PHONY: test-core
test-core: $(READY)
	@echo "test: core"
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile $(ARGS) || { \
	  echo "again, one at a time: what fails twice has failed"; $(BIN)/python -m pytest -q --last-failed $(ARGS); }

# The algorithms with dependencies of their own live in environments of their own.
.PHONY: $(ALONE:%=test-%) $(ALONE:%=lint-%)
$(ALONE:%=test-%): test-%: $(READY)
	@echo "test: algorithms/$*"
	@$(MAKE) -C algorithms/$* test UV=$(UV) ARGS="$(ARGS)"

$(ALONE:%=lint-%): lint-%: $(READY)
	@echo "lint: algorithms/$*"
	@$(MAKE) -C algorithms/$* lint UV=$(UV)

$(READY): requirements.lock $(LOCKED)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Armillary needs Python 3.11 or newer; \
	this is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12 …")'
	@echo "setting up .venv (once: about 150 MB to fetch)"
	@test -x $(UV) || $(PYTHON) -m venv .venv || \
	  { echo "Python's venv module is missing; on Debian: apt install python3-venv"; exit 1; }
	@awk '/^[^ ]/ {ours = /^uv==/} ours' requirements.lock > .venv/uv.lock
	@test -x $(UV) || { echo "  uv"; $(BIN)/pip install --quiet --require-hashes --requirement .venv/uv.lock; }
	@echo "  $$(grep -c '==' requirements.lock) packages, each with its hash"
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@echo "  armillary, armillary-formats, armillary-browse"
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps \
	  --editable . --editable formats --editable algorithms/browse
	@touch $@
