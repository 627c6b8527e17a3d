# Set-up, the default run and the tests of a fresh clone; everything else is plain Snakemake.
SHELL := bash
PYTHON ?= python3
CORES ?= all
TEST_PROCESSES ?= 2
TEST_OPTIONS ?=
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9

.PHONY: help install run report explore docs test lint format requirements bench clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 run"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# Bytecode is compiled at installation: every stage is a process of its own, and without it
# each of them spends two to three times longer importing.
$(VENV)/run.stamp: requirements.txt | $(BIN)/uv
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.txt
	@touch $@

$(VENV)/dev.stamp: requirements-dev.txt | $(VENV)/run.stamp
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --require-hashes -r requirements-dev.txt
	@touch $@

# The command mtl-sa, which runs the modules of this clone: nothing is fetched, setuptools is among the requirements.
$(BIN)/mtl-sa: pyproject.toml | $(VENV)/run.stamp
	$(BIN)/uv pip install --quiet --python $(BIN)/python --offline --no-deps --no-build-isolation \
		--config-settings editable_mode=compat --editable .
	@touch $@

install: $(VENV)/run.stamp $(BIN)/mtl-sa  ## set up .venv, and nothing else

run: $(VENV)/run.stamp $(BIN)/mtl-sa  ## train the default experiment, or go on with it; VERBOSE=1 for the whole log
	@exec $(BIN)/mtl-sa run --cores $(CORES) --quiet host $(if $(VERBOSE),,--logger epochs) 2>&1

# Targets stand first: options such as --quiet would take them for values of theirs.
report: $(VENV)/run.stamp $(BIN)/mtl-sa  ## draw what a run did, into report.zip
	@PATH="$(CURDIR)/$(BIN):$$PATH"; snakemake report --cores $(CORES) --profile workflow/profiles/default \
		&& snakemake report --cores $(CORES) --report report.zip --quiet all

explore: $(VENV)/run.stamp $(BIN)/mtl-sa  ## write the sample explorer of config.yaml, training first where needed
	@PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores $(CORES) --profile workflow/profiles/default explorer

docs: $(VENV)/dev.stamp  ## build the documentation into docs/_build/html
	@$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

test: $(VENV)/dev.stamp $(BIN)/mtl-sa  ## run the tests
	@PATH="$(CURDIR)/$(BIN):$$PATH"; pytest -n $(TEST_PROCESSES) --dist loadfile --durations 25 -m "not timed" $(TEST_OPTIONS) && pytest -m timed

lint: $(VENV)/dev.stamp  ## check style and workflow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	@PATH="$(CURDIR)/$(BIN):$$PATH" python -m workflow.lint

format: $(VENV)/dev.stamp  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

requirements: | $(BIN)/uv  ## pin requirements*.txt anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-annotate --upgrade pyproject.toml --extra cpu -o requirements.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-annotate --upgrade -c requirements.txt pyproject.toml --extra cpu --extra dev -o requirements-dev.txt

bench: $(VENV)/run.stamp $(BIN)/mtl-sa  ## measure speed and memory against stated references; ONLY="planning …" for some
	@PATH="$(CURDIR)/$(BIN):$$PATH" python -m benchmarks $(if $(ONLY),--only $(ONLY))

clean:  ## delete results and logs (not the environment)
	rm -rf results logs
