# `make sweep` and `make test` do everything on a machine that has only Python (>= 3.11) and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SWEEP ?= sweeps/rnnt.yaml

.PHONY: sweep shell test lint docs clean

sweep: $(VENV)/.runnable
	$(BIN)/cspbench sweep $(SWEEP)
	@echo "type \`make shell\` to have the command cspbench; it is $(CURDIR)/$(BIN)/cspbench"

# A shell in which `cspbench` can be typed; `exit` leaves it.
shell: $(VENV)/.runnable
	@echo "cspbench can be typed now: cspbench --help; exit leaves this shell"
	@VIRTUAL_ENV="$(CURDIR)/$(VENV)" PATH="$(CURDIR)/$(BIN):$$PATH" exec "$${SHELL:-/bin/sh}" -i || true

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker/compose.yaml docker/compose.cluster.yaml
	$(BIN)/kubernetes-validate --strict --quiet cluster/kubernetes.yaml
	! [ -x $(BIN)/hadolint ] || $(BIN)/hadolint docker/Dockerfile

docs: $(VENV)/.installed
	$(BIN)/properdocs build --strict -q -f mkdocs.yml

# Installing compiles the native module as well, and so again after a change of its sources. The extra `synthesis` is GPL-3,
# and so no part of the default installation: it makes the embedded synthetic corpus, which sweep and tests need.
SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(shell find cspbench/runtime/native -name '*.?pp')

# What a sweep needs: a third of what the tests need.
$(VENV)/.runnable: $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -c constraints.txt -e '.[sweep,synthesis]'
	touch $@

$(VENV)/.installed: $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -c constraints.txt -e '.[dev,synthesis]'
	touch $(VENV)/.runnable $@

clean:
	rm -rf $(VENV) build cspbench/runtime/_native*.so *.egg-info .pytest_cache .mypy_cache .ruff_cache
