# `make demo` and `make test` work on a machine that has only Python (and make).
# Without a GPU, a CPU build of torch is much smaller: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Apart, since other packages behave differently beside triton and mamba-ssm.
KERNELS_VENV := .venv-kernels
# Stamps carry the contents of the two files that decide what is installed, and are written last.
KEY := $(shell cat pyproject.toml constraints.txt | cksum | cut -d ' ' -f 1)
BASE := $(VENV)/.installed-base-$(KEY)
DEV := $(VENV)/.installed-dev-$(KEY)
KERNELS := $(KERNELS_VENV)/.installed-kernels-$(KEY)

# A stamp means nothing if the environment does not run any more (moved folder, removed Python).
$(foreach venv,$(VENV) $(KERNELS_VENV),$(shell \
	[ ! -d $(venv) ] || $(venv)/bin/lssvwm --version >/dev/null 2>&1 || rm -f $(venv)/.installed-*))

.PHONY: demo test test-kernels

demo: $(BASE)
	$(BIN)/lssvwm quickstart

test: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

# The CUDA scan kernels: on the GPU if there is one, else on the CPU through Triton's interpreter.
test-kernels: $(KERNELS)
	OMP_NUM_THREADS=1 $(KERNELS_VENV)/bin/python -m pytest -q -m kernels tests/kernels

# An interrupted install leaves .installing behind, and the environment is then made anew; so is one without pip.
define install
	@if [ -e $(@D)/.installing ] || ! $(@D)/bin/python -m pip --version >/dev/null 2>&1; then \
		$(PYTHON) -m venv --clear $(@D); \
	fi
	@touch $(@D)/.installing
	{ $(1); } || { rm -f $(@D)/.installing; exit 1; }
	@rm -f $(@D)/.installing
	@find $(@D) -maxdepth 1 -name '.installed-*' ! -name '*-$(KEY)' -delete
	@touch $@
endef
pip = $(@D)/bin/python -m pip install -q -c constraints.txt

$(BASE):
	$(call install,$(pip) -e ".")

$(DEV):
	$(call install,$(pip) -e ".[dev]")

# Only the Triton part of mamba-ssm, which needs no CUDA compiler. Not from or into pip's cache: there it would pass for
# the whole package.
$(KERNELS):
	$(call install,$(pip) -e ".[dev]" ninja setuptools triton wheel && \
		MAMBA_SKIP_CUDA_BUILD=TRUE MAMBA_FORCE_BUILD=TRUE \
		$(pip) --no-cache-dir --no-deps --no-build-isolation mamba-ssm)
