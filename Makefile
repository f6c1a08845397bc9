# Every target makes its own virtual environment where there is none, and does nothing twice.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt
CORE := $(VENV)/.core
DEV := $(VENV)/.dev

.PHONY: audit test lint bench truth clean
.DEFAULT_GOAL := audit

$(CORE): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(DEV): $(CORE)
	$(PIP) -e '.[dev]'
	@touch $@

audit: $(CORE)  ## audits the embedded organism: runs/audit/report.html
	$(BIN)/scalex audit --out runs/audit

test: $(DEV)  ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(DEV)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(DEV)  ## what it costs: the short benchmarks, and all marks in one table
	$(BIN)/python bench/all.py

truth: $(CORE)  ## how true the findings are: bench/results/truth.json and docs/truth.md
	$(BIN)/python bench/truth.py

clean:
	rm -rf $(VENV) runs
