# The two commands: `make demo` and `make check`. CMake builds (see CMakePresets.json); this file only knows
# what to call. `make deps` installs what is missing on Debian and its relatives.
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)
PREFIX ?= /usr/local
TIME ?= 60
TARGETS ?=
FRESH ?=
TESTS ?=
GRAFT = build/release/graft
export JOBS TIME FRESH

.PHONY: all build deps demo check check-mpi check-peers bench bench-memory bench-peers install fuzz kill-test fault-test \
        bad-inputs docs symbols dist memcheck analyze coverage soak format clean
all: build

build:
	@bash tools/deps.sh build
	@cmake --preset release >/dev/null
	@cmake --build build/release -j $(JOBS)

deps:
	@bash tools/deps.sh build check peers demo

demo: build
	@bash tools/deps.sh demo
	@bash tools/demo.sh $(GRAFT)

check:
	@bash tools/deps.sh build check
	@bash tools/check.sh

check-mpi: build
	@bash tools/deps.sh build check
	@cmake --preset mpi >/dev/null
	@cmake --build build/mpi -j $(JOBS) --target graft_cli test_ranks make_tiny
	@ctest --test-dir build/mpi --output-on-failure -R '^test_(ranks|mpi|mpi_netns)$$' </dev/null

kill-test: build
	@bash tools/kill_test.sh

check-peers: build
	@bash tools/deps.sh peers
	@bash tools/check_peers.sh $(GRAFT)

bench: build
	@bash tools/deps.sh peers
	@bash tools/bench.sh $(GRAFT)

bench-memory: build
	@bash tools/memory_table.sh $(GRAFT)

bench-peers: build
	@bash tools/deps.sh peers
	@bash tools/bench_peers.sh $(GRAFT)

install: build
	@cmake --install build/release --prefix $(PREFIX)

fuzz:
	@bash tools/deps.sh build check
	@bash tools/fuzz.sh $(TIME) $(TARGETS)

bad-inputs: build
	@GRAFT_BAD_INPUTS=$(CURDIR)/docs/bad-inputs.md build/release/tests/test_bad_inputs

docs: build
	@bash tools/pages.sh
	@bash tools/deps.sh docs
	@bash tools/api_docs.sh

fault-test:
	@bash tools/deps.sh build check
	@bash tools/fault_test.sh

memcheck: build
	@bash tools/deps.sh memcheck
	@bash tools/memcheck.sh $(TESTS)

analyze:
	@bash tools/deps.sh build check analyze
	@bash tools/analyze.sh

coverage: build
	@bash tools/coverage.sh

symbols: build
	@nm -D --defined-only build/release/libgraft.so | awk '{print $$NF}' | sort >cmake/graft.symbols

dist:
	@bash tools/deps.sh build
	@bash tools/dist.sh

soak: build
	@bash tools/soak.sh

format:
	@clang-format -i $$(git ls-files '*.c' '*.h')

clean:
	rm -rf build
