# Every target sets up what it needs: `make demo` and `make test` work on a fresh machine.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt

# Where the GPU is: another python than the venv's must have torch, pytest and timm; nothing is installed for it.
GPU_PYTHON ?= $(BIN)/python

.PHONY: venv demo test test-anywhere no-trace gpu kill normfree nf-vs-bn lint bench zoo ladder-makemore ladder-fashion-mnist bench-fashion-mnist docs clean

venv: $(VENV)/.demo
demo: $(VENV)/.demo
	$(BIN)/unitgain demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

# the whole suite nine times, as other processors would run it: torch's, oneDNN's and MKL's kernels held to older
# instructions, one thread and two; says which tests fail where. Some two hours on two cores
test-anywhere: $(VENV)/.dev
	$(BIN)/python scripts/test_anywhere.py

# tests and benchmark grid on a GPU, some five minutes; OUT is a folder or a file for the page. Without a GPU: skipped
ifeq ($(GPU_PYTHON),$(BIN)/python)
gpu: $(VENV)/.dev
endif
gpu:
	PYTHONPATH=src $(GPU_PYTHON) scripts/gpu.py $(if $(OUT),--out "$(OUT)")

# every model of the zoo x every function that changes nothing x every place to raise: some minutes
no-trace: $(VENV)/.dev
	$(BIN)/python tests/_run/no_trace.py --out benchmarks/results/$$(date +%F)-no-trace.md

# twenty kill -9 at random moments of a training run, each resumed: the same weights to the bit
kill: $(VENV)/.dev
	$(BIN)/python -m pytest tests/train/test_resume.py tests/recipes -m slow -s

# whole NF-ResNets, NF-RegNets and NFNets against timm: some minutes
normfree: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow tests/models tests/nn

# the same ResNet with BatchNorm and normalizer-free, three batch sizes, three seeds: some ten minutes of one core
nf-vs-bn: $(VENV)/.demo
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/nf_vs_bn.py --out benchmarks/results/$$(date +%F)-nf-vs-bn.md

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/probe_overhead.py

# fifteen rungs, three seeds each, and lr_find's suggestions beside the hand-picked rates: some 15 minutes on two cores
ladder-fashion-mnist: $(VENV)/.dev
	$(BIN)/unitgain ladder fashion-mnist --out benchmarks/results/$$(date +%F)-ladder-fashion-mnist.md

# five seeds of the default recipe, three of the best: some 35 minutes
bench-fashion-mnist: $(VENV)/.dev
	$(BIN)/python benchmarks/fashion_mnist.py --out benchmarks/results/$$(date +%F)-fashion-mnist-default-and-best.md

zoo: $(VENV)/.dev
	$(BIN)/python tests/zoo/run.py
	$(BIN)/python tests/zoo/run.py --fix

# five variants, 200,000 steps each, twice: some ten minutes
ladder-makemore: $(VENV)/.demo
	$(BIN)/unitgain data fetch names
	$(BIN)/unitgain ladder makemore --out benchmarks/results/$$(date +%F)-ladder-makemore.md

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

# torch comes first, pinned: otherwise another package could bring in the newest build with its CUDA libraries.
$(VENV)/.demo: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e .
	touch $@

$(VENV)/.dev: $(VENV)/.demo requirements-reference.txt
	$(PIP) -e '.[dev]'
	$(PIP) --no-deps -r requirements-reference.txt
	touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(PIP) -e '.[bench]'
	touch $@

$(VENV)/.docs: $(VENV)/.demo
	$(PIP) -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build dist site demo-report.html
