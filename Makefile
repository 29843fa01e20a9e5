# Everything runs in .venv, which the first call makes. PYTHON=python3.12 make test picks another Python for it.
PYTHON ?= python3

ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
# A test process a core; one that is done takes over half of what another has left.
ON_ALL_CORES := -n logical --maxprocesses 8 --dist worksteal

.PHONY: train test test-extras test-pages stress lint docs

train: .venv/installed
	$(BIN)/python -m trainer +experiment=snoopy_sac

test: .venv/installed
	$(BIN)/python -m pytest $(ON_ALL_CORES)

# Tests of the marker `extras`, with the libraries of the extra `dev-full`.
test-extras: .venv/installed-full
	$(BIN)/python -m pytest $(ON_ALL_CORES) -m extras -rs

# All code of README and docs, as it is printed. It trains a lot: allow half an hour.
test-pages: .venv/installed-full
	$(BIN)/python -m pytest $(ON_ALL_CORES) -m pages -rs

# Some three hours: hostile inputs, an endpoint under attack, kills while saving, all ways to end, faults all the time, hosts
# of a cluster that die, and runs with workers and with players that must not grow.
stress: .venv/installed
	$(BIN)/python -m tests.stress.fuzz --inputs 100000
	$(BIN)/python -m tests.stress.endpoint
	$(BIN)/python -m tests.stress.checkpoint_kills
	$(BIN)/python -m tests.stress.ends
	$(BIN)/python -m tests.stress.chaos --seconds 600 --every 5
	$(BIN)/python -m tests.stress.cluster --kills 60
	$(BIN)/python -m tests.stress.soak --minutes 30

lint: .venv/installed
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

# The pages of docs/ as a site in build/site, which needs no network.
docs: .venv/installed-docs
	$(BIN)/python docs/site/settings.py
	$(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/site/index.html"

# The stamp makes later calls quick; a change of what is needed installs again. pip shows what it downloads.
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.venv/installed: pyproject.toml constraints.txt
	@echo "Setting up .venv, once: torch alone is 0.2 GB to download, or 2.7 GB with CUDA."
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -e ".[dev]"
	touch $@

.venv/installed-full: .venv/installed
	$(INSTALL) -e ".[dev-full]"
	touch $@

.venv/installed-docs: .venv/installed
	$(INSTALL) -e ".[docs]"
	touch $@
