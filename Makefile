# make study | test | lint | bench | setup | lock | clean. Needs Python 3.11 and nothing else; no root.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SPREAD := -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: study test lint style types bench setup lock clean

study: setup  ## the paper's network beside one that draws enhancement, on the embedded phantom
	$(BIN)/python studies/enhancement.py --methods supervised place-and-draw

test: setup  ## every test, the slow ones too, a process for each core (at most 8)
	$(BIN)/python -m pytest $(SPREAD)

lint: style types  ## style, formatting and types

style: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

bench: setup  ## speed, compared with what one would otherwise write (without search.py, which takes half an hour)
	for script in $(filter-out bench/search.py,$(wildcard bench/*.py)); do $(BIN)/python $$script || exit 1; done

setup: $(READY)

# pyradiomics has no wheel for Python 3.11, and its build needs numpy without declaring it; hence the first two steps.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "Python 3.11 is needed, found `$(PYTHON) --version 2>&1`; run make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up $(VENV): about 3 GB, a few minutes the first time"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install "pip==25.3"
	grep -E '^(numpy|Cython|versioneer|setuptools|wheel)==' requirements.lock > $(VENV)/build.txt
	$(PIP) install -r $(VENV)/build.txt
	grep -E '^pyradiomics==' requirements.lock > $(VENV)/pyradiomics.txt
	$(PIP) install --no-deps --no-build-isolation -r $(VENV)/pyradiomics.txt
	$(PIP) install -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	$(PIP) check
	@touch $(READY)

lock:  ## resolve pyproject.toml in a scratch environment and pin every package
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet "pip==25.3" "setuptools<=80.8.0" wheel numpy==1.26.3 cython versioneer
	build/lock/bin/pip install --quiet --no-build-isolation pyradiomics==3.0.1
	build/lock/bin/pip install --quiet --no-build-isolation -e ".[dev]"
	{ echo "# Every package of the environment, exactly. Made by 'make lock' from pyproject.toml; do not edit."; \
	  build/lock/bin/pip freeze --all --exclude-editable | grep -v '^pip==' | sed 's/+cpu$$//'; } > requirements.lock
	rm -rf build/lock

clean:  ## remove the environment and caches; runs stay
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache *.egg-info
