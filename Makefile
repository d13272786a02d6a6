# Two commands set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PROJECT ?= examples/support

.PHONY: demo test quick lint ui clean

demo: $(VENV)/.installed  ## runs the bundled project end to end and prints the table of checks
	$(BIN)/ftplatform demo

# A file stays on one worker, in its own order: the tests of a file share what its first test built. The slow files come first.
# One worker a core, from two to four: each grows to 3 GB of models and tables.
WORKERS := $(shell cores=$$(nproc 2>/dev/null || echo 2); [ $$cores -gt 4 ] && cores=4; [ $$cores -lt 2 ] && cores=2; echo $$cores)
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: $(VENV)/.test-installed  ## everything: lint, types, unit, graph, integration, acceptance, browser
	PYTHON=$(BIN)/python bash deploy/ensure_chromium.sh
	$(MAKE) lint
	$(PYTEST)

quick: $(VENV)/.test-installed  ## the everyday suite: all but the tests that take minutes
	$(PYTEST) -m "not slow"

lint: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

ui: $(VENV)/.installed  ## the Dagster UI and daemon on PROJECT
	$(BIN)/ftplatform dev --project $(PROJECT)

# torch first: unpinned, pip resolves to builds that pull gigabytes of CUDA libraries
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.test-installed: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist ftplatform-demo
