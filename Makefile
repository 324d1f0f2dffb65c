# `make` only bootstraps uv, syncs .venv from the committed pins and calls the tools in it.
SHELL := /bin/bash
PYTHON ?= python3
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
AL := .venv/bin/al
export UV_COMPILE_BYTECODE := 1
# Where it is set, as in many a container, each of the processes that tests start compiles the package anew: most of a
# second of a processor.
unexport PYTHONDONTWRITEBYTECODE
# Threads that spin while they wait slow training five-fold when servers run on the same cores.
export OMP_WAIT_POLICY ?= PASSIVE

# What to do after `make setup`; other targets go on by themselves.
NEXT = echo 'Ready. On your own images:  $(AL) up --images DIR'; \
  echo 'Or see the loop turn first: make demo'

.DEFAULT_GOAL := help
.PHONY: help setup demo up test faults notebook lint types style lock bench clean

help: ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: .venv/.synced ## Create .venv from requirements.lock
	@$(if $(filter setup,$(MAKECMDGOALS)),$(NEXT))

demo: setup ## All set-up, then the loop on built-in images with a simulated annotator
	$(AL) demo $(ARGS)

up: setup ## Label Studio and Dagster on your own images and settings
	$(AL) up $(ARGS)

# One thread each, and one worker more than two cores: who waits for a server leaves a core to the others.
test: setup ## All set-up, then the tests
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest --numprocesses 3 --no-loadscope-reorder $(ARGS)

faults: setup ## The fault tests alone at full size, and what they counted
	@file=$$(mktemp); AL_REQUIRE_LABEL_STUDIO=1 AL_FAULTS_FULL=1 AL_FAULT_REPORT=$$file .venv/bin/python -m pytest al_pipeline_tests/faults --quiet --quiet --no-header -p no:logging $(ARGS); \
	  code=$$?; .venv/bin/python -m al_pipeline_tests.faults.report $$file; rm -f $$file; exit $$code

notebook: setup ## Execute notebooks/active_learning_loop.ipynb anew and save it with its outputs
	.venv/bin/python -m al_pipeline_tests.notebook

# The types take longer than all the rest, and one core.
lint: setup ## What CI checks beside the tests
	@$(MAKE) --no-print-directory --jobs 2 types style

types: setup
	.venv/bin/pyright

style: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports --no-cache
	VIRTUAL_ENV=$(CURDIR)/.venv .venv/bin/dg check defs
	.venv/bin/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml deploy/proxy/compose.yml

lock: $(UV) ## Make requirements.lock anew from pyproject.toml
	$(UV) pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --upgrade --no-emit-index-url --custom-compile-command 'make lock' -o requirements.lock

bench: setup ## Every benchmark, one after the other
	for b in location rounds strategies engine budgets guesses labeling million growth; do .venv/bin/python -m benchmarks.$$b || exit 1; done

.PHONY: docs
docs: setup ## docs/settings.md, made anew from the declarations
	.venv/bin/python -m al_pipeline_tests.settings_page

clean: ## Remove the environment (not .al, where your labels are)
	rm -rf .venv .uv

# System Pythons refuse `pip install` (PEP 668), so uv goes to a private environment; --target serves
# Debian's python3 without python3-venv.
.uv/bin/uv:
	@command -v $(PYTHON) >/dev/null || { echo "python3 (3.11 to 3.13) is needed: e.g. apt-get install python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo "Python 3.11 to 3.13 is needed, $$($(PYTHON) --version) was found; choose another with: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Installing uv into .uv ..."
	@$(PYTHON) -m venv .uv >/dev/null 2>&1 && .uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9' \
	  || $(PYTHON) -m pip install --quiet --disable-pip-version-check --target .uv 'uv>=0.9' \
	  || { rm -rf .uv; echo "uv could not be installed with $(PYTHON) -m venv or pip: install python3-venv (Debian, Ubuntu: apt-get install python3-venv), or uv itself (https://docs.astral.sh/uv), and try again" >&2; exit 1; }

# Label Studio's database is half a minute of one core, beside the downloads; `al up` makes it where this could not.
.venv/.synced: requirements.lock pyproject.toml | $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv
	@echo "Installing the packages (the first time five gigabytes are downloaded) and preparing Label Studio ..."
	@.venv/bin/python -m al_pipeline.servers.first_start $(UV) >.venv/label-studio.log 2>&1 & \
	  $(UV) pip sync $$([ -t 2 ] || echo --quiet) --python .venv --require-hashes requirements.lock && wait
	$(UV) pip install --quiet --python .venv --no-deps --editable .
	@touch $@
