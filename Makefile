# make demo   plan for a hovercraft with the shipped weights: picture, animation, verdict
# make test   ruff, pyright, floors, all fast tests with coverage        make test-slow   the slow ones
# make dsrl   the simulators of the 38 DSRL tasks on top; then: .venv/bin/python -m pytest tests/dsrl -q
# TORCH_INDEX=https://download.pytorch.org/whl/cpu make demo             for the small CPU-only build of torch
PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
SEED ?= 0
BIN := $(VENV)/bin
PIP_INSTALL = $(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c requirements/constraints.txt
# one thread per process: the matrices are small, and waiting threads steal the second core
THREADS = OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

NO_METADRIVE = MetaDrive cannot be installed here (see above): its 9 tasks are missing, the other 29 are ready

.PHONY: demo test test-slow dsrl lint tables clean

demo: $(VENV)/.core
	$(THREADS) $(BIN)/safeplan plan env=hovercraft seed=$(SEED)

test: lint
	$(THREADS) $(BIN)/python -m pytest -n 2 --cov --cov-report=term

test-slow: $(VENV)/.dev
	$(THREADS) $(BIN)/python -m pytest -m slow

dsrl: $(VENV)/.dsrl

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

tables: $(VENV)/.core
	$(BIN)/python scripts/make_readme_tables.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else \
	f"safeplan needs Python 3.11 or newer, {sys.executable} is {v[0]}.{v[1]}: make ... PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml requirements/constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml requirements/constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) -e ".[test,lint]"
	@touch $@ $(VENV)/.core

$(VENV)/.dsrl: $(wildcard requirements/dsrl*.txt requirements/metadrive*.txt) $(VENV)/.dev
	$(PIP_INSTALL) -r requirements/dsrl.txt
	$(PIP_INSTALL) --no-deps -r requirements/dsrl-nodeps.txt
	$(PIP_INSTALL) -r requirements/metadrive.txt && $(PIP_INSTALL) --no-deps -r requirements/metadrive-nodeps.txt \
	&& touch $@ || echo "$(NO_METADRIVE)"

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .coverage
