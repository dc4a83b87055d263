# Everything from a fresh clone with only Python >= 3.11 and make: `make demo`, `make test`.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Debian keeps Mosquitto in sbin, which is not on a user's PATH.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin
# A second torch thread beside a busy core makes everything several times slower.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup servers check test search fuzz chaos demo clean

help:  ## List what can be made
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup: $(STAMP)-dev  ## Create .venv with everything for running and developing

servers:
	@ops/setup/ensure-servers.sh

check: $(STAMP)-dev  ## Lint, format, types and import rules; the one check command
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(STAMP)-dev servers  ## Run every test, against a real Mosquitto and a real Redis
	@tests/run-all.sh $(BIN)/python

search: $(STAMP)-dev  ## Let the property tests look for counterexamples they have not met yet
	HYPOTHESIS_PROFILE=search $(BIN)/python -m pytest tests/property tests/unit

fuzz: $(STAMP)-dev  ## Feed every decoder a million broken inputs, led by coverage where Atheris is installed
	$(BIN)/python -m tests.fuzz all --runs $(or $(RUNS),1000000)

chaos: $(STAMP)-dev servers  ## Run every fault twenty times, and 20,000 simulated storms
	FAULT_RUNS=$(or $(RUNS),20) $(BIN)/python -m pytest tests/fault
	ANTIPHON_STORMS=20000 $(BIN)/python -m pytest tests/simulation

demo: $(STAMP)-all  ## Run the main job: a home asks, edge and cloud answer, things fail
	@$(BIN)/antiphon demo

clean:  ## Remove .venv, builds and caches
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than what it was installed from, so that a second run starts at once; dev holds all.
$(STAMP)-%: pyproject.toml constraints.txt ops/setup/ensure-venv.sh
	@ops/setup/ensure-venv.sh $(VENV) $*
	@touch $@ $(if $(filter dev,$*),$(STAMP)-all)
