PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
JOBS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations 15

.PHONY: demo test test-slow test-gpu chaos format clean

demo: $(INSTALLED)  ## play real rounds on real digits; the second time everything is in the store
	@$(BIN)/selftrain prepare digits --out data/digits --labelled-per-class 10 --validation 200 --test 450
	@$(BIN)/selftrain run examples/digits.yaml

test: $(INSTALLED)  ## lint, types and the quick tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) -m "not slow and not gpu"

test-slow: $(INSTALLED)  ## whole runs and their laws; tests that train for longer or kill processes
	$(PYTEST) -m "slow and not gpu and not chaos"

chaos: $(INSTALLED)  ## processes, nodes and storage that fail for minutes; launchers on real clusters
	$(PYTEST) -m chaos

test-gpu: $(INSTALLED)  ## a GPU trains as the CPU does, and every method plays on it
	$(BIN)/pytest -n 4 tests/trainables/test_gpu.py tests/orchestrator/test_methods.py

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what runs leave; the environment and prepared data stay
	rm -rf store runs

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(INSTALLED)
