# Two commands do everything on a machine with python3 and make: `make run` and `make test`.

PYTHON ?= python3
VENV   ?= .venv
ARCH   ?= $(shell uname -m)
BIN     = $(VENV)/bin
EXPORT  = $(VENV)-export

# Constraints also apply to pip's isolated builds, so that next year's installation is the same.
export PIP_CONSTRAINT       = $(CURDIR)/constraints.txt
export PIP_BUILD_CONSTRAINT = $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK = 1

# How often `make faults` tries each fault, and for how many minutes it soaks.
QUICK  ?=
ROUNDS ?= $(if $(QUICK),1,10)
SOAK   ?= $(if $(QUICK),0.3,22)

# In how many processes the tests run; the complete `make faults` has one, so that it has the machine.
JOBS   ?= auto
MODEL  ?= centerface

.PHONY: run test test-export test-export-all faults mutants test-systemd lint bench
.PHONY: install uninstall rollback wheelhouse constraints clean

run: $(VENV)/installed ## detect faces, or with MODEL=coco people, in the demo clip; prints where the video is
	@$(BIN)/centernetd fetch $(MODEL) >/dev/null
	@STATE_DIRECTORY="$(CURDIR)/out" $(BIN)/centernetd run \
		$(if $(filter centerface,$(MODEL)),-c config.yaml,assets/demo.mp4 -m $(MODEL) -o out/$(MODEL).mp4)

test: $(VENV)/installed-dev ## run the test suite
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

faults: $(VENV)/installed-dev ## inject faults and test the promises; without QUICK=1 also write docs/reliability.md
	FAULTS_ROUNDS=$(ROUNDS) FAULTS_SOAK=$(SOAK) FAULTS_RESULTS=out/faults.json \
		FAULTS_COMMAND="make faults ROUNDS=$(ROUNDS) SOAK=$(SOAK)" \
		$(BIN)/python -m pytest tests/faults $(if $(QUICK),-n $(JOBS) -o timeout=900,-o timeout=7200) $(if $(QUICK),,|| failed=1; \
		$(BIN)/python -m tests.faults.report out/faults.json && exit $${failed:-0})

mutants: $(VENV)/installed-dev ## plant small faults in core modules, and count those that the tests notice
	nice $(BIN)/python scripts/mutants.py $(if $(SEED),--seed $(SEED)) $(if $(COUNT),--count $(COUNT))

test-systemd: $(VENV)/installed-dev ## install and run the service in a booted Debian, as root
	$(BIN)/python -m pytest tests/systemd/walk.py

test-export: $(EXPORT)/installed ## test the export from PyTorch, in a separate environment
	$(EXPORT)/bin/python -m pytest tests/export -m "not large" -o timeout=900

test-export-all: $(EXPORT)/installed ## the same with every architecture (half an hour, 8 GB)
	$(EXPORT)/bin/python -m pytest tests/export -o timeout=1800

lint: $(VENV)/installed-dev ## run the linters
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install uninstall rollback: ## the systemd service, as root; deploy/setup.sh lists the variables
	@PYTHON='$(PYTHON)' DESTDIR='$(DESTDIR)' EXTRAS='$(EXTRAS)' WHEELHOUSE='$(WHEELHOUSE)' \
		SYSTEM_SITE='$(SYSTEM_SITE)' deploy/setup.sh $@

wheelhouse: $(VENV)/installed ## everything that PYTHON=3.12 ARCH=aarch64 needs to install without a network; MODELS=coco adds that
	@$(BIN)/python scripts/make_wheelhouse.py --python $(PYTHON) --arch $(ARCH) \
		--extras "$(EXTRAS)" --models "$(MODELS)" dist

bench: $(VENV)/installed ## measure each stage, and the pipeline against the bound they set
	@$(BIN)/centernetd fetch centerface >/dev/null
	@$(BIN)/centernetd bench -c config.yaml

constraints: ## pin what pyproject.toml allows, for all supported Pythons (needs uv)
	uv pip compile --universal --python-version 3.10 --extra dev --extra export --quiet \
		--no-header --no-annotate pyproject.toml constraints.in --output-file constraints.txt
	sed -i -E '/^(cuda|nvidia|triton)/d' constraints.txt  # PyTorch's would constrain the extra gpu

clean: ## remove what was installed and produced
	rm -rf $(VENV) $(EXPORT) out build dist *.egg-info

$(VENV)/installed: pyproject.toml constraints.txt
	$(if $(filter 3.%,$(PYTHON)),python3,$(PYTHON)) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

$(EXPORT)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(EXPORT)
	$(EXPORT)/bin/python -m pip install --quiet --editable '.[dev,export]'
	@touch $@
