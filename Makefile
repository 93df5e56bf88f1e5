# Everything from a bare checkout: python3.11 (or later) and pip are all that is needed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINED := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO ?= demo

.PHONY: demo test lab bench clean

demo: $(VENV)/.demo  ## train, denoise out of core and look, on a simulated movie or RECORDING=path
	$(BIN)/niddl-xr demo --out "$(DEMO)" $(if $(RECORDING),--recording "$(RECORDING)") $(DEMO_OPTIONS)

test: $(VENV)/.test  ## everything that has to pass
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile --doctest-modules tests niddl_xr

lab: $(VENV)/.demo  ## JupyterLab on the notebooks
	$(BIN)/jupyter lab --notebook-dir=notebooks

bench: $(VENV)/.test  ## tables of benchmarks/, as ratios within one run
	$(BIN)/python -m benchmarks

# One stamp for each set of extras: an environment is made once, and again when its description changes.
$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml constraints.txt
	$(CONSTRAINED) --editable ".[notebook]"
	touch $@

$(VENV)/.test: $(VENV)/.made pyproject.toml constraints.txt
	$(CONSTRAINED) --editable ".[notebook,dev]"
	touch $@

clean:  ## the environment only
	rm -rf $(VENV)
