# The front door. Underneath is CMake: a target here is a line or two that a person could type.
SHELL  := /bin/bash
PYTHON ?= /usr/bin/python3
PREFIX ?= /usr/local
BUILD  ?= build
JOBS   ?= $(shell nproc)
FUZZ_SECONDS ?= 20
# GPU=cuda|hip|cann|musa|vulkan|sycl builds that backend too, given its vendor's tool chain.
GPU    ?=
# A system ggml: AUTO takes a recent one, ON requires it, OFF always builds our own.
SYSTEM_GGML ?= AUTO
# A folder of test data outside the repository; tests that need it are skipped where it is absent.
STARLANE_SHARED ?= $(abspath ../shared)
# Warnings stop a build only where nobody is in the middle of a change.
WERROR ?= $(if $(CI),ON,OFF)

OPTIONS = -DSTARLANE_WERROR=$(WERROR) -DSTARLANE_GPU=$(GPU) -DSTARLANE_SYSTEM_GGML=$(SYSTEM_GGML) \
          -DSTARLANE_SHARED=$(STARLANE_SHARED)
# gcc warns of things that are not so in instrumented code, so warnings stay warnings there.
SANITIZE = -DSTARLANE_WERROR=OFF -DSTARLANE_SANITIZE
BUILD_IN = JOBS=$(JOBS) scripts/build.sh
# With FILTER only the programs it names are built, and what end-to-end tests start.
comma := ,
NAMED = $(filter %_test %_prop %_fuzz,$(notdir $(basename \
          $(foreach word,$(subst $(comma), ,$(FILTER)),$(wildcard tests/*/*$(word)*.c)))))
TEST_TARGETS = $(if $(FILTER),TARGETS="starlane netlab-switch $(addprefix test_,$(sort $(NAMED)))")
TEST_IN = STARLANE_SHARED=$(STARLANE_SHARED) $(PYTHON) scripts/test.py \
          $(if $(FILTER),--filter $(FILTER)) --build

.PHONY: all demo test check bench bench-kernels bench-service bench-infer bench-grid bench-split asan tsan fuzz install clean distclean format deps deps-peer help
.DEFAULT_GOAL := all

all: ## set up dependencies and build build/starlane
	@scripts/deps.sh build
	@TARGETS=starlane $(BUILD_IN) $(BUILD) $(OPTIONS)

demo: all ## build, open a grid of three nodes, kill one in mid-story, and read on
	@scripts/deps.sh demo
	@scripts/demo.sh $(BUILD)/starlane

deps-test:
	@scripts/deps.sh build test

test: deps-test ## build and run every test (FILTER=name for some)
	@$(TEST_TARGETS) $(BUILD_IN) $(BUILD) $(OPTIONS)
	@$(TEST_IN) $(BUILD)

check: ## format, lint, floors, headers, third parties, function lengths
	@scripts/deps.sh build check
	@CONFIGURE_ONLY=1 $(BUILD_IN) $(BUILD) $(OPTIONS)
	@$(PYTHON) scripts/check.py --build $(BUILD) --jobs $(JOBS)

bench: deps-peer ## measure speed side by side with llama.cpp on the same ggml
	@TARGETS="starlane bench_programs" $(BUILD_IN) $(BUILD) $(OPTIONS)
	@$(PYTHON) bench/bench.py --starlane $(BUILD)/starlane --peer .deps/peer/bin

bench-kernels: deps-peer ## measure our CPU kernels beside llama.cpp's of the same class of processor
	@TARGETS="starlane bench_programs" $(BUILD_IN) $(BUILD) $(OPTIONS)
	@$(PYTHON) bench/kernels.py --starlane $(BUILD)/starlane --peer .deps/peer/bin

bench-service: deps-peer ## measure the service: shared prefixes beside llama-server, the gateway's own latency
	@TARGETS="starlane bench_programs" $(BUILD_IN) $(BUILD) $(OPTIONS)
	@$(PYTHON) bench/serve_prefix.py --starlane $(BUILD)/starlane --peer .deps/peer/bin
	@$(PYTHON) bench/gateway.py --starlane $(BUILD)/starlane

bench-infer: ## measure what the service adds to ONNX Runtime called directly
	@scripts/deps.sh build bench
	@TARGETS="starlane bench_programs" $(BUILD_IN) $(BUILD) $(OPTIONS)
	@$(PYTHON) bench/infer.py --starlane $(BUILD)/starlane --shared $(STARLANE_SHARED)

bench-split: deps-test deps-peer ## measure models over several machines beside llama.cpp's RPC backend, in the network laboratory (as root)
	@TARGETS="starlane bench_programs netlab-switch" $(BUILD_IN) $(BUILD) $(OPTIONS)
	@$(PYTHON) bench/split.py --starlane $(BUILD)/starlane --peer .deps/peer/bin --shared $(STARLANE_SHARED)

bench-grid: deps-test ## measure the policies on five real nodes in the network laboratory, and the simulator (as root)
	@TARGETS="starlane netlab-switch" $(BUILD_IN) $(BUILD) $(OPTIONS)
	@$(PYTHON) bench/grid.py --starlane $(BUILD)/starlane

asan: deps-test ## the tests under AddressSanitizer and UBSan
	@$(TEST_TARGETS) $(BUILD_IN) build-asan $(OPTIONS) $(SANITIZE)=address,undefined
	@$(TEST_IN) build-asan

tsan: deps-test ## the tests under ThreadSanitizer, ggml included
	@$(TEST_TARGETS) $(BUILD_IN) build-tsan $(OPTIONS) $(SANITIZE)=thread
	@$(TEST_IN) build-tsan

fuzz: ## run every fuzz target for FUZZ_SECONDS (20) over its corpus
	@scripts/deps.sh build check
	@$(BUILD_IN) build-fuzz $(OPTIONS) -DSTARLANE_FUZZ=ON -DCMAKE_C_COMPILER=clang
	@scripts/fuzz.sh build-fuzz $(FUZZ_SECONDS)

install: all ## install under PREFIX (/usr/local), staged below DESTDIR
	@DESTDIR=$(DESTDIR) cmake --install $(BUILD) --prefix $(PREFIX) >/dev/null

deps: ## install or build everything any target here needs
	@scripts/deps.sh build test check demo
	@GPU=$(GPU) scripts/ggml.sh
	@scripts/onnxruntime.sh

deps-peer: ## llama.cpp's benchmarks and its RPC backend, built on our ggml, in .deps/peer/bin
	@scripts/deps.sh build
	@scripts/ggml.sh --peer

format: ## put all C sources into the house's format
	@scripts/deps.sh check
	@find src tests bench -name '*.[ch]' 2>/dev/null | xargs -r clang-format -i

clean: ## remove what was built, keep the dependencies
	rm -rf build build-asan build-tsan build-fuzz

distclean: clean ## also remove .deps (the cache outside the tree stays)
	rm -rf .deps

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
