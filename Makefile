# Everything runs in .venv, which the first call makes. PYTHON=python3.12 make test picks another Python for it.
PYTHON ?= python3

ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
# A test process a core; one that is done takes over half of what another has left.
ON_ALL_CORES := -n logical --maxprocesses 8 --dist worksteal

.PHONY: train test test-extras stress lint

train: .venv/installed
	$(BIN)/python -m trainer +experiment=snoopy_sac

test: .venv/installed
	$(BIN)/python -m pytest $(ON_ALL_CORES)

# Tests of the marker `extras`, with the libraries of the extra `dev-full`.
test-extras: .venv/installed-full
	$(BIN)/python -m pytest $(ON_ALL_CORES) -m extras -rs

# Some three hours: hostile inputs, an endpoint under attack, kills while saving, all ways to end, faults all the time, and
# runs with workers and with players that must not grow.
stress: .venv/installed
	$(BIN)/python -m tests.stress.fuzz --inputs 100000
	$(BIN)/python -m tests.stress.endpoint
	$(BIN)/python -m tests.stress.checkpoint_kills
	$(BIN)/python -m tests.stress.ends
	$(BIN)/python -m tests.stress.chaos --seconds 600 --every 5
	$(BIN)/python -m tests.stress.soak --minutes 30

lint: .venv/installed
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

# The stamp makes later calls quick; a change of what is needed installs again.
.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

.venv/installed-full: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev-full]"
	touch $@
