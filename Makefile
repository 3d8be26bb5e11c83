# Every target works alone on a fresh clone: git, make and a Python 3.11 or newer with venv are enough.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup ready demo test check bench smoke runtimes lock clean

PY := .venv/bin/python
ROOMS := shared cli api runner

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.installed ## Make .venv with everything that the rest needs

.venv/.installed: requirements.lock pyproject.toml $(ROOMS:%=%/pyproject.toml) infra/setup.sh
	@infra/setup.sh

# Bytecode of the rooms, also where the environment tells Python not to write any: it decides how fast commands start.
ready: setup
	@$(PY) -m compileall -q $(ROOMS)

demo: ready ## Run a batch over real files on a grid of its own
	@examples/demo.sh

test: ready ## Run all tests: unit, integration, contract, acceptance
	@$(PY) -m pytest $(ARGS)

check: setup ## Format, lint, types, import directions, images
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports
	@.venv/bin/hadolint --config infra/runtimes/.hadolint.yaml infra/runtimes/*/Dockerfile

bench: ready ## Measure the speed targets, as ratios in one run
	@$(PY) tests/bench $(ARGS)

smoke: ready ## Check a deployed grid: make smoke URL=… KEY=… (without: an embedded grid of its own)
	@infra/smoke.sh $(if $(URL),--url '$(URL)') $(if $(KEY),--key '$(KEY)') $(ARGS)

runtimes: ## Build the images of the runtimes for Docker runners: make runtimes [NAMES="bash ffmpeg"]
	@infra/runtimes/build.sh $(NAMES)

lock: setup ## Write requirements.lock anew
	@infra/lock.sh $(ARGS)

clean: ## Remove what the other targets made
	@rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
