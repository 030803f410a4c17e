# Every target works on a fresh clone: the first one that needs it makes .venv from requirements.lock.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UV ?= uv
ARGS ?=
# Test files at once: most of them wait for a broker, a database or a process.
JOBS ?= 3

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all bench bench-publish check docs format lock clean

help: ## Say what the targets do.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## Make the virtual environment, with hashes checked.

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "civicbus runs on Python 3.11 to 3.13; set PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

demo: install ## Start everything, move records, and prove the tables equal. ARGS="--seconds 60".
	$(BIN)/civicbus demo $(ARGS)

test: install ## Run all tests against a real broker, registry and database.
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile $(ARGS)

test-all: ## The tests on each Python that is found; missing ones are named as skipped.
	@tested=; for version in 3.11 3.12 3.13; do \
		if python$$version -c '' 2>/dev/null; then \
			$(MAKE) test PYTHON=python$$version VENV=.venv-$$version || exit 1; tested="$$tested $$version"; \
		else echo "skipped: python$$version is not installed"; fi; \
	done; test -n "$$tested" && echo "tested on Python$$tested"

bench: install ## Measure civicbus beside its peers, and write docs/benchmarks.md. ARGS="--quick".
	$(BIN)/python -m benchmarks --page $(ARGS)

bench-publish: install ## Measure every way to publish, and write docs/benchmarks-publish.md. ARGS="--quick".
	$(BIN)/python -m benchmarks.ways --page $(ARGS)

check: install ## Style, types and import rules.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p civicbus
	$(BIN)/lint-imports

docs: install ## Write the pages that are made from the code.
	$(BIN)/python docs/generate.py

format: install ## Put the code into the one format.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## Pin every dependency with hashes again; needs uv.
	$(UV) pip compile pyproject.toml --group dev --extra demo --extra cases --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-annotate --no-header --quiet --upgrade -o requirements.lock

clean: ## Remove what the targets made; leaves .civicbus and the download cache.
	rm -rf $(VENV) .venv-* build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
