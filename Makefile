# make run PROMPT="a red circle moving left on a blue background"
# Everything is installed into $(VENV) when it is first needed, and again when pyproject.toml or constraints.txt changes.

PYTHON ?= python3
VENV ?= .venv
TESTFLAGS ?=

# The prompt reaches the command through the environment, untouched by make and by the shell.
override PROMPT := $(value PROMPT)
export PROMPT

# Tests and servers start processes by the hundred: compiled modules are kept, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SOURCES := pyproject.toml constraints.txt
RUN := $(VENV)/.stamp-run
DEV := $(VENV)/.stamp-dev

.DEFAULT_GOAL := help
.PHONY: help run studio test test-slow test-all trials crash check bench browser screenshots replica clean

help:
	@echo 'make run PROMPT="a red circle moving left on a blue background"   make a film and print its path'
	@echo 'make studio      open the studio in the browser: STUDIO="--port 8000"'
	@echo 'make test        run the fast tests (minutes)     make test-slow  the slow ones     make test-all  both'
	@echo 'make trials      stress tests: thousands of kills, requests and damaged files; a full-size model (half an hour)'
	@echo 'make crash       kill workers and servers a thousand times and write docs/reports/crash-DATE.md (an hour): CRASH='
	@echo 'make check       check lint, format, types and layers'
	@echo 'make bench       measure time and memory, next to stock diffusers and alternatives (an hour or more): BENCH='
	@echo 'make browser     install what the studio and window tests need: Chromium, axe-core, Xvfb, xdotool'
	@echo 'make screenshots take the screenshots of README and docs from the real studio and window'
	@echo 'make replica     build a full-size model with random weights for measurements (3.7 GB): MODEL= DIR='
	@echo 'make clean       remove the environment and build outputs'
	@echo 'variables: PYTHON=python3 VENV=.venv TESTFLAGS='

run: $(RUN)
	@if [ -z "$$PROMPT" ]; then echo 'error: no prompt; run for example: make run PROMPT="a red circle moving left"' >&2; exit 2; fi
	@$(BIN)/flickbook generate -- "$$PROMPT"

STUDIO ?=
studio: $(RUN)
	@$(BIN)/flickbook studio $(STUDIO)

# Two at once: each with one thread is faster than one after the other with two.
test: $(DEV)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow and not trial" $(TESTFLAGS)

test-slow: $(DEV)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "slow and not trial" $(TESTFLAGS)

test-all: $(DEV)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not trial" $(TESTFLAGS)

trials: $(DEV)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m trial $(TESTFLAGS)

# A smaller run: make crash CRASH="--trials 100 --jobs 1000 --stops 100 --cancels 20"
CRASH ?=
crash: $(DEV)
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.crash $(CRASH)

check: $(DEV)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# Sections by themselves: make bench BENCH="--only builtin cold"; `python -m bench --help` has the rest.
BENCH ?=
bench: $(DEV)
	@$(BIN)/python -m bench $(BENCH)
	@if [ -z "$(BENCH)" ]; then $(BIN)/python -m bench.queue; fi

# Their tests are skipped where these are not: Debian's packages need root, npm's does not.
AXE := $(VENV)/axe/node_modules/axe-core/axe.min.js
WANTED := $(foreach each,chromium:chromium Xvfb:xvfb xdotool:xdotool,$(if $(shell command -v $(firstword $(subst :, ,$(each)))),,$(lastword $(subst :, ,$(each)))))
browser: $(DEV)
	@if [ -n "$(strip $(WANTED))" ]; then apt-get update -q && apt-get install -y -q --no-install-recommends $(WANTED); fi
	@test -f $(AXE) || npm install --silent --no-audit --no-fund --prefix $(VENV)/axe axe-core@4.14.1

screenshots: $(DEV)
	@PYTHONPATH=. $(BIN)/python assets/screenshots.py

# A published model's configuration and size with random weights; MODEL=wan-2.1-1.3b is the other one.
MODEL ?= text-to-video-ms-1.7b
DIR ?= replica/$(MODEL)
replica: $(DEV)
	@$(BIN)/python -m bench.replica '$(MODEL)' '$(DIR)'

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'error: Python 3.11 or newer is needed; pass it with make PYTHON=python3.12' >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo 'error: the virtual environment could not be created; on Debian or Ubuntu: sudo apt install python3-venv' >&2; exit 2; }

# Order-only: pip touches the environment's folder, which must not make the stamps old.
$(RUN): $(SOURCES) | $(BIN)/python
	@echo 'setting up $(VENV); the first time takes a few minutes' >&2
	@$(PIP) install -e '.[gen,finish,server,ui,train]' -c constraints.txt
	@touch $@

$(DEV): $(SOURCES) | $(RUN)
	@echo 'adding the development tools to $(VENV)' >&2
	@$(PIP) install -e '.[gen,finish,server,ui,train,mongo,mcp,cluster,dev]' -c constraints.txt
	@touch $@
