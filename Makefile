# `make sweep` and `make test` do everything on a machine that has only Python (>= 3.11) and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SWEEP ?= sweeps/rnnt.yaml

.PHONY: sweep test lint clean

sweep: $(VENV)/.installed $(VENV)/.synthesis
	$(BIN)/cspbench sweep $(SWEEP)

test: $(VENV)/.installed $(VENV)/.synthesis
	$(BIN)/python -m pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Installing compiles the native module as well, and so again after a change of its sources.
NATIVE := CMakeLists.txt $(wildcard cspbench/runtime/native/*)

$(VENV)/.installed: pyproject.toml constraints.txt $(NATIVE)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -c constraints.txt -e '.[dev]'
	touch $@

# GPL-3, and so no part of the default installation: it makes the embedded synthetic corpus.
$(VENV)/.synthesis: $(VENV)/.installed
	$(BIN)/pip install -c constraints.txt -e '.[synthesis]'
	touch $@

clean:
	rm -rf $(VENV) build cspbench/runtime/_native*.so *.egg-info .pytest_cache .mypy_cache .ruff_cache
