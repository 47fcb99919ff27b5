# Two commands do everything on a fresh Debian or Ubuntu machine:
#   make demo   dub a real live stream end to end and write a report
#   make test   lint, types, import rules and the whole test suite
# Both install what they need first (system packages as root or by sudo, Python packages into .venv) and say so.

SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check -c constraints.txt
DEMO_ARGS ?=
SOAK_ARGS ?= --minutes 120
SOAK_BRIDGE_ARGS ?=
UP_ARGS ?=

.PHONY: help setup setup-run setup-stream setup-sts setup-ray demo up dev test test-ray check fmt lint typecheck imports unit faults soak soak-bridge listen bench bench-speech clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

# $(1) the virtual environment. PyGObject has no wheels. Left to itself pip builds pycairo twice, each time in an
# environment with tools of its own: 35 s instead of 13.
define build-pygobject
$(1)/bin/python -c 'import gi' 2>/dev/null || { export PATH="$(abspath $(1))/bin:$$PATH"; \
	python $(PIP_INSTALL) meson meson-python ninja && \
	python $(PIP_INSTALL) --no-build-isolation pycairo && python $(PIP_INSTALL) --no-build-isolation PyGObject; }
endef

# $(1) the virtual environment, $(2) system package groups, $(3) extras
define install
	@scripts/system-packages.sh python $(2)
	@echo "==> Installing babelcast[$(3)] into $(1)"
	@test -x $(1)/bin/python || "$$(scripts/find-python.sh)" -m venv $(1)
	$(if $(findstring stream,$(3)),@$(call build-pygobject,$(1)))
	@$(1)/bin/python $(PIP_INSTALL) -e '.[$(3)]'
endef

$(VENV)/.run: pyproject.toml constraints.txt scripts/system-packages.sh
	$(call install,$(VENV),stream sts,stream$(comma)sts$(comma)console$(comma)preview)
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(call install,$(VENV),stream sts test,stream$(comma)sts$(comma)neural$(comma)engines$(comma)gemini$(comma)bridge$(comma)console$(comma)preview$(comma)dev)
	@touch $@

comma := ,

setup-run: $(VENV)/.run ## What the demo and `up` need
setup: $(VENV)/.dev ## Everything, with the tools for development

setup-stream: ## A stream host alone, in .venv-stream
	$(call install,.venv-stream,stream,stream)

setup-sts: ## The speech service alone, in .venv-sts
	$(call install,.venv-sts,sts,sts)

setup-ray: ## The speech service on Ray Serve, with its tests, in .venv-ray (Ray takes 350 MB: no other target installs it)
	$(call install,.venv-ray,sts,sts$(comma)engines$(comma)ray$(comma)dev)

demo: setup-run ## Dub a made live stream end to end; report in demo-report/ (DEMO_ARGS="--seconds 30 …")
	@$(BIN)/babelcast demo --report demo-report $(DEMO_ARGS)

up: setup-run ## Run everything on this machine (UP_ARGS="--config babelcast.yaml")
	@$(BIN)/babelcast up $(UP_ARGS)

dev: setup ## As `up`, with readable debug logs
	@$(BIN)/babelcast up --log-format text --log-level debug $(UP_ARGS)

test: setup check ## Install, then lint, types, import rules and every test that can run here

check: lint typecheck imports ## What CI runs, without the set-up
	@$(BIN)/python -m pytest -q -n 2 -m 'not slow'

lint:
	@$(BIN)/ruff check src tests bench
	@$(BIN)/ruff format --check --quiet src tests bench || { echo "run: make fmt"; exit 1; }

typecheck:
	@$(BIN)/mypy

imports:
	@$(BIN)/lint-imports --no-logo

fmt: setup ## Format the code
	@$(BIN)/ruff check --fix-only --quiet src tests bench
	@$(BIN)/ruff format src tests bench

unit: setup ## The fast tests alone
	@$(BIN)/python -m pytest -q -m unit

test-ray: setup-ray ## The tests on a real Ray cluster on this machine (minutes)
	@.venv-ray/bin/python -m pytest -q -m ray

faults: setup ## Break everything once while on air, and write docs/reference/faults.md again (minutes)
	@BABELCAST_WRITE_FAULTS=1 $(BIN)/python -m pytest -q -m slow tests/e2e/test_faults.py

soak: setup ## Two hours on air with random faults; fails when anything grows (SOAK_ARGS="--minutes 15 --seed 2 …")
	@$(BIN)/python -m tests.soak.run $(SOAK_ARGS)

soak-bridge: setup ## The media bridge and its audio endpoint for half an hour, the same way (build/soak-bridge)
	@$(BIN)/python -m tests.soak.run --what bridge --minutes 30 --out build/soak-bridge $(SOAK_BRIDGE_ARGS)

bench: setup ## Measure, and write bench/README.md again (minutes)
	@$(BIN)/python bench/run.py

bench-speech: setup ## Measure the speech service alone: error rate, chrF, lag, REST and WebSocket (7 minutes)
	@$(BIN)/python bench/run.py --write speech speech_paths batching

listen: setup ## Six test programmes, separated and dubbed, as a page to listen to (build/listen; minutes)
	@$(BIN)/python bench/listen/make.py

clean: ## Remove what these targets made
	rm -rf $(VENV) .venv-stream .venv-sts .venv-ray demo-report build .mypy_cache .ruff_cache .pytest_cache
