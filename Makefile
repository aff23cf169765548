# make help lists the targets. Everything happens in .venv; PYTHON chooses the interpreter (3.11 to 3.13).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install train test test-slow format docs lint type check wheel clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "gan-experiments needs Python 3.11, 3.12 or 3.13; try: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,dev,plots]'
	@touch $@

install: $(VENV)/installed ## make .venv with the package in it

train: $(VENV)/installed ## train on embedded images: samples and scores in outputs/ (ARGS="loss=hinge run.seed=1")
	$(BIN)/gan-train $(ARGS)

test: $(VENV)/installed-dev ## run the tests (a few minutes; ARGS="-k resume")
	$(BIN)/python -m pytest -q -n auto --maxprocesses 8 $(ARGS)

test-slow: $(VENV)/installed-dev ## run the learning tests too
	$(BIN)/python -m pytest -q -n auto --maxprocesses 8 -m 'not gpu' $(ARGS)

format: $(VENV)/installed-dev ## format the code
	$(BIN)/ruff format src tests scripts
	$(BIN)/ruff check --fix src tests scripts

docs: $(VENV)/installed-dev ## write the parts of README.md and docs/ that are made of YAML headers
	$(BIN)/python scripts/build_docs.py

lint: $(VENV)/installed-dev ## check style and format
	$(BIN)/ruff check src tests scripts
	$(BIN)/ruff format --check src tests scripts

type: $(VENV)/installed-dev ## check types
	$(BIN)/mypy

check: lint type test ## lint, type and test

wheel: $(VENV)/installed-dev ## build dist/*.whl
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

clean: ## remove .venv, caches and builds (never outputs/ or data/)
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .mypy_cache
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
