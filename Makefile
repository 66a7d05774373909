# One command each, on a machine that has only Python 3.10 or newer and make: the virtual environment and
# what it needs are made first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
#: Processes that run tests side by side.
JOBS ?= 4

.DEFAULT_GOAL := help
.PHONY: help demo test test-failed test-quick test-twice lint types soak guard bench diagrams format clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(READY): pyproject.toml plugin/paycodes/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit("Paycodes needs Python 3.10 or newer" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	# Where coincurve has another name (Python 3.14) bolt11 goes in without it.
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps 'bolt11>=2.1,<2.3'
	@touch $@

demo: $(READY)  ## see it work: issue, get paid, crash, notify, reconcile
	@$(BIN)/python contrib/demo.py

test: $(READY)  ## every test; on real nodes too where lightningd and bitcoind are on PATH
	$(BIN)/pytest -n $(JOBS) --dist loadgroup

test-failed: $(READY)  ## those that failed in the last run, one at a time
	$(BIN)/pytest --last-failed --last-failed-no-failures none

test-quick: $(READY)  ## the unit tests alone
	$(BIN)/pytest tests/unit

test-twice: $(READY)  ## the tests of actions, with every step run twice
	PAYCODES_RUN_TWICE=1 $(BIN)/pytest -m actions -n $(JOBS) --dist loadgroup

lint: $(READY)  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## mypy
	$(BIN)/mypy

soak: $(READY)  ## kill it at random for a minute, then count
	$(BIN)/python contrib/soak.py

guard: $(READY)  ## every kind of duplicate payment, a hundred times
	GUARD_TRIES=100 $(BIN)/pytest tests/scenarios/test_guard.py -k several --timeout 10000

bench: $(READY)  ## measure beside the node's own `invoice`, about eight minutes; BENCH="--rows issue-1 --rounds 5" chooses
	@$(BIN)/python -m contrib.bench $(BENCH)

diagrams: $(READY)  ## draw the state machines in the README anew
	@$(BIN)/python contrib/diagrams.py

format: $(READY)  ## lay the code out
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## forget the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info plugin/paycodes/*.egg-info
