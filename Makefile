# `make demo` and `make test` work on a machine that has only Python (and make).
# Without a GPU, a CPU build of torch is much smaller: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Stamps carry the contents of the two files that decide what is installed, and are written last.
KEY := $(shell cat pyproject.toml constraints.txt | cksum | cut -d ' ' -f 1)
BASE := $(VENV)/.installed-base-$(KEY)
DEV := $(VENV)/.installed-dev-$(KEY)

# A stamp means nothing if the environment does not run any more (moved folder, removed Python).
$(shell [ ! -d $(VENV) ] || $(BIN)/lssvwm --version >/dev/null 2>&1 || rm -f $(VENV)/.installed-*)

.PHONY: demo test

demo: $(BASE)
	$(BIN)/lssvwm quickstart

test: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

# An interrupted install leaves .installing behind, and the environment is then made anew; so is one without pip.
define install
	@if [ -e $(VENV)/.installing ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		$(PYTHON) -m venv --clear $(VENV); \
	fi
	@touch $(VENV)/.installing
	$(BIN)/python -m pip install -q -c constraints.txt -e "$(1)" || { rm -f $(VENV)/.installing; exit 1; }
	@rm -f $(VENV)/.installing
	@find $(VENV) -maxdepth 1 -name '.installed-*' ! -name '*-$(KEY)' -delete
	@touch $@
endef

$(BASE):
	$(call install,.)

$(DEV):
	$(call install,.[dev])
