# Every target makes its virtual environment when there is none; python3 (3.11 or newer) and make
# are all that is assumed.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DEMO   ?= examples/arithmetic
FLAGS  ?=

.PHONY: demo test test-slow test-all check bench docs clean

demo: $(VENV)/.local  ## search a workflow for a small model on this machine
	$(BIN)/bayesflow-mcp pull smollm2
	$(BIN)/bayesflow-mcp run $(DEMO)/task.toml --out out/$(notdir $(DEMO)) $(FLAGS)

# The sandbox's limits are times, so it has the cores alone. Of the others many wait for processes
# that start and end: three at a time, whatever the cores.
test: $(VENV)/.dev  ## the fast tests
	$(BIN)/python -m pytest -m "not slow" --durations=5 tests/sandbox
	$(BIN)/python -m pytest -m "not slow" --numprocesses 3 --dist worksteal --durations=10 --ignore tests/sandbox

# Statistics wait for the cores alone; the others share one model, whose threads want both.
test-slow: $(VENV)/.dev  ## statistics, chaos, real rows and the real model
	$(BIN)/bayesflow-mcp pull smollm2
	$(BIN)/python -m pytest -m slow --durations=5 --numprocesses 2 --dist loadfile tests/sampler
	$(BIN)/python -m pytest -m slow --durations=5 --ignore tests/sampler

test-all: test test-slow

check: $(VENV)/.dev  ## format, lint, types, architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: $(VENV)/.dev  ## goal, figure, met or missed; asserts nothing
	$(BIN)/bayesflow-mcp pull smollm2
	$(BIN)/python tests/bench/run.py $(FLAGS)

docs: $(VENV)/.dev  ## the tools reference and the algorithm's numbers and plot, from the code
	$(BIN)/python docs/make_tools.py
	$(BIN)/python docs/make_algorithm.py

clean:
	rm -rf $(VENV) out build dist

# The stamps say which extras the environment holds; they are made anew when the project changes.
$(VENV)/.local: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[local]'
	touch $@

$(VENV)/.dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ $(VENV)/.local
