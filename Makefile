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
MAZE := $(VENV)/.installed-memory-maze-$(KEY)
RLLIB := $(VENV)/.installed-ray-$(KEY)
DOCS := $(VENV)/.installed-docs-$(KEY)
# What draws MuJoCo's pictures without a screen.
GL_PACKAGES := libegl1 libgl1-mesa-dri libosmesa6
# New releases of Debian and Ubuntu give up the last; EGL alone will do.
gl = $(1) apt-get update -q && for package in $(GL_PACKAGES); do \
		$(1) env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$package || \
			[ $$package = libosmesa6 ] || exit 1; \
	done

chromium = $(1) apt-get update -q && \
	$(1) env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium fonts-dejavu-core

# A stamp means nothing if the environment does not run any more (moved folder, removed Python).
$(foreach venv,$(VENV) $(KERNELS_VENV),$(shell \
	[ ! -d $(venv) ] || $(venv)/bin/lssvwm --version >/dev/null 2>&1 || rm -f $(venv)/.installed-*))

.PHONY: demo format lint type test test-slow test-kernels setup-memory-maze test-memory-maze test-rllib \
	setup-browser test-browser docs docs-serve pictures
# Several targets install into one environment.
.NOTPARALLEL:

demo: $(BASE)
	$(BIN)/lssvwm quickstart

# Puts the code into the project's form: sorts imports, repairs what ruff can, formats.
format: $(DEV)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(DEV)
	$(BIN)/mypy

test: lint type
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m "not (slow or browser or memory_maze or rllib)"

# Those that take long one by one: small trainings, quickstarts, exports of graphs, pages and notebooks that are run.
test-slow: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m slow

# The CUDA scan kernels: on the GPU if there is one, else on the CPU through Triton's interpreter.
test-kernels: $(KERNELS)
	OMP_NUM_THREADS=1 $(KERNELS_VENV)/bin/python -m pytest -q -m kernels tests/kernels

# The published Memory Maze: an off-screen OpenGL and the extra.
setup-memory-maze: $(MAZE)
	@if dpkg -s $(GL_PACKAGES) >/dev/null 2>&1; then \
		exit 0; \
	elif ! command -v apt-get >/dev/null; then \
		echo "This system has no apt-get: install EGL or OSMesa its own way (on Debian: $(GL_PACKAGES))."; \
	elif [ "$$(id -u)" = 0 ]; then \
		$(call gl,); \
	elif command -v sudo >/dev/null; then \
		$(call gl,sudo); \
	else \
		echo "Not root and no sudo: if MuJoCo cannot render, ask an administrator for $(GL_PACKAGES)."; \
	fi

test-memory-maze: $(DEV) setup-memory-maze
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m memory_maze tests/memory_maze

# The page of `lssvwm play` in a browser, Debian's chromium unless there is one.
setup-browser:
	@if command -v chromium || command -v chromium-browser || command -v google-chrome; then \
		exit 0; \
	elif ! command -v apt-get >/dev/null; then \
		echo "This system has no apt-get: install chromium its own way."; \
	elif [ "$$(id -u)" = 0 ]; then \
		$(call chromium,); \
	elif command -v sudo >/dev/null; then \
		$(call chromium,sudo); \
	else \
		echo "Not root and no sudo: ask an administrator for chromium."; \
	fi

test-browser: $(DEV) setup-browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m browser tests/browser

# RLlib in the dream and collection by Ray actors, each with a Ray of its own on two cores.
test-rllib: $(DEV) $(RLLIB)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m rllib tests/rllib

# The site: site/index.html. Links that lead nowhere and docstrings that cannot be shown are errors.
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(DOCS)
	$(BIN)/mkdocs build --strict

# The same while it is written, at http://127.0.0.1:8000, where its search works, too.
docs-serve: export NO_MKDOCS_2_WARNING = 1
docs-serve: $(DOCS)
	$(BIN)/mkdocs serve

# Pictures of README and docs, and what the notebooks show; those that take hours are listed with their commands.
pictures: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python docs/pictures.py

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

$(MAZE):
	$(call install,$(pip) -e ".[memory-maze]")

$(DOCS):
	$(call install,$(pip) -e ".[docs]")

$(RLLIB):
	$(call install,$(pip) -e ".[ray]")

# Only the Triton part of mamba-ssm, which needs no CUDA compiler. Not from or into pip's cache: there it would pass for
# the whole package.
$(KERNELS):
	$(call install,$(pip) -e ".[dev]" ninja setuptools triton wheel && \
		MAMBA_SKIP_CUDA_BUILD=TRUE MAMBA_FORCE_BUILD=TRUE \
		$(pip) --no-cache-dir --no-deps --no-build-isolation mamba-ssm)
