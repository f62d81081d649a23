# One environment for everything: .venv, made from constraints.txt. On a CUDA machine the same files give the CUDA
# build of torch; where only a CPU build of the pinned version is offered, that one.
PYTHON ?= python3
# A first search of two to three minutes: a small budget at few pixels, where networks differ. make search
# BUDGET=300MFLOPs is another.
SEARCH = $(if $(BUDGET),--budget $(BUDGET),--budget 8MFLOPs --resolution 32 --trials 16 --epochs 3)
ARGS ?=
BIN := .venv/bin

.PHONY: setup search oracles test readme check slow gpu-check format clean

setup: .venv/done

.venv/done: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=…")'
	@echo 'installing into .venv: about 3 minutes and 2.2 GB (a CUDA build of torch: more)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev,export,mysql,postgres,train]'
	@touch $@

search: setup
	$(BIN)/python -m nas.search $(SEARCH) $(ARGS)

# Reference implementations for tests; without their own requirements, which would bring a CUDA build of torch. Triton is
# in no constraints: a CUDA build of torch brings the one that it needs.
oracles: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt torchvision timm
	@$(BIN)/python -c 'import triton' 2>/dev/null || $(BIN)/python -m pip install --quiet --no-deps triton==3.9.0

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not slow and not readme' $(ARGS)

readme: setup
	$(BIN)/python -m pytest -m readme $(ARGS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

slow: setup
	$(BIN)/python -m pytest -m slow $(ARGS)

# What a CUDA machine has to show, in nine minutes at most; without .venv in another Python, which needs PyTorch and what
# gpu_check.py names: make gpu-check PYTHON=python3 ARGS='--parts machine,speed --budget-s 240 --dataset path/to/images'
gpu-check:
	PYTHONPATH=. $(if $(wildcard .venv/done),$(BIN)/python,$(PYTHON)) -m experiments.speed.gpu_check $(ARGS)

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
