# `make quickstart` and `make test` need Python 3.11 or later, make and pip; each sets up what it needs in .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile
# PyPI's torch for Linux carries CUDA (gigabytes).  The CPU build is taken where pip knows one: give PyTorch's own index of CPU builds
# in PIP_EXTRA_INDEX_URL if yours does not.
TORCH := torch==2.13.0

# Compiled files are written when a module is first imported, not for all that was installed: minutes less.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: quickstart setup test dev lint types walls format docs doctor clean

quickstart: setup ## train SmolLM2-135M to use a calculator
	$(BIN)/sojourn train quickstart

setup: $(VENV)/.base ## .venv with the packages and the command `sojourn`

test: $(VENV)/.dev ## all tests and doctests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

dev: $(VENV)/.dev

$(VENV)/.venv-ok:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v < (3, 11) and sys.exit("Sojourn needs Python 3.11 or later, this is %d.%d: make setup PYTHON=/path/to/python3.11" % v[:2])'
	@echo "setting up $(VENV) (once)"
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.torch: $(VENV)/.venv-ok
	@$(PIP) "$(TORCH)+cpu" 2>/dev/null || $(PIP) "$(TORCH)"
	@touch $@

$(VENV)/.base: $(VENV)/.torch pyproject.toml constraints.txt
	$(PIP) -c constraints.txt -e ".[tensorboard]"
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml constraints.txt
	$(PIP) -c constraints.txt -e ".[dev]"
	@touch $@ $(VENV)/.base

lint: $(VENV)/.dev ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev ## the documentation as a site, in site/
	$(PIP) -c constraints.txt -e ".[docs]"
	$(BIN)/mkdocs build --strict

doctor: setup ## what is installed, what is missing
	$(BIN)/sojourn doctor

clean:
	rm -rf $(VENV) site
