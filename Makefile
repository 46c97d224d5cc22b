# `make bench` runs the main job on the embedded model, `make test` the test suite; `make test-slow` runs whole sessions
# with kills and faults, and the slowest methods; `make docs` builds the site of the documentation. Each sets up what it
# needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Plain MLX brings Metal on macOS; elsewhere the backend is an extra. On a CUDA box: make bench BACKEND=cuda
ifeq ($(shell uname -s),Darwin)
EXTRAS := torch,plots,dev
else
BACKEND ?= cpu
EXTRAS := $(BACKEND),torch,plots,dev
endif
# What runs the models: auto, mlx or torch. Tiny's speed is overhead (see docs/method.md), of which one run of each prompt
# shows as much as three; what low bits are for is shown on a model of random weights, whose speed alone means something.
ENGINE ?= auto

# Plain `torch` from the package index is a CUDA build of several GB on Linux. The tests only need some CPU build to
# compare against; where this version cannot be had, name another: make test TORCH=torch
TORCH ?= torch==2.13.0

.PHONY: bench test test-slow lint docs clean

bench: $(VENV)/ready
	$(BIN)/pytest benches -k Tiny --runs 1 --results results --engine $(ENGINE)
	PYTHONPATH=. $(BIN)/python tools/device/levels.py --engine $(ENGINE) --new-tokens 32

test: $(VENV)/ready
	OPENBLAS_NUM_THREADS=1 $(BIN)/pytest tests -n auto -m "not slow"

test-slow: $(VENV)/ready
	OPENBLAS_NUM_THREADS=1 $(BIN)/pytest tests -n auto -m slow

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Into site/, without a network but for the first time; a link that leads nowhere ends it.
docs: $(VENV)/docs
	$(BIN)/zensical build --strict --clean

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH) --editable ".[$(EXTRAS)]"
	touch $@

$(VENV)/docs: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) site
