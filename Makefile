# make demo   train on generated lesions, evaluate, write a report
# make test   the test suite; make test-all adds the slow tests
# make benchmark   ours beside PyTorch, all networks small, in 15 minutes
# PYTHON=python3.12 make test   with another Python

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= runs/demo
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Most tests trace networks, on one core each; a file's tests share what they made.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses=4 --dist=loadfile

.PHONY: demo test test-all benchmark lint clean

demo: $(VENV)/.installed
	$(BIN)/python -m jaxderm.main --config=configs/synthetic.py --workdir=$(DEMO)

test: $(VENV)/.installed-test
	$(PYTEST)

test-all: $(VENV)/.installed-test
	$(PYTEST) -m ''

benchmark: $(VENV)/.installed-benchmark
	rm -rf runs/benchmark-quick
	$(BIN)/python -m jaxderm.benchmark --quick --peer=torch \
	  --out=runs/benchmark-quick

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) $(DEMO)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(PIP) -e .
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[test,dev]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-benchmark: pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[benchmark]'
	touch $@ $(VENV)/.installed
