# Two commands do everything on a machine with python3 and make: `make run` and `make test`.

PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
EXPORT  = $(VENV)-export

# Constraints also hold inside pip's isolated builds, so that next year's install is this one.
export PIP_CONSTRAINT       = $(CURDIR)/constraints.txt
export PIP_BUILD_CONSTRAINT = $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: run test test-export test-export-all lint bench constraints clean

run: $(VENV)/installed ## detect faces in the demo clip on the CPU; says where the video is
	@$(BIN)/centernetd fetch centerface >/dev/null
	@STATE_DIRECTORY="$(CURDIR)/out" $(BIN)/centernetd run -c config.yaml

test: $(VENV)/installed-dev ## run the test suite
	$(BIN)/python -m pytest

test-export: $(EXPORT)/installed ## test the export from PyTorch, in an environment of its own
	$(EXPORT)/bin/python -m pytest tests/export -m "not large"

test-export-all: $(EXPORT)/installed ## the same with every architecture (half an hour, 8 GB)
	$(EXPORT)/bin/python -m pytest tests/export

lint: $(VENV)/installed-dev ## run the linters
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/installed ## measure each stage, and the pipeline against the bound they set
	@$(BIN)/centernetd fetch centerface >/dev/null
	@$(BIN)/centernetd bench -c config.yaml

constraints: ## pin what pyproject.toml allows, for every supported Python at once (needs uv)
	uv pip compile --universal --python-version 3.10 --extra dev --extra export --quiet \
		--no-header --no-annotate pyproject.toml constraints.in --output-file constraints.txt
	sed -i -E '/^(cuda|nvidia|triton)/d' constraints.txt  # PyTorch's would bind the extra gpu

clean: ## remove what was installed and produced
	rm -rf $(VENV) $(EXPORT) out build *.egg-info

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

$(EXPORT)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(EXPORT)
	$(EXPORT)/bin/python -m pip install --quiet --editable '.[dev,export]'
	@touch $@
