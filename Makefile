# `make demo` and `make test` do everything on a fresh Debian 12+ or Ubuntu 24.04 machine, as root.
# Everybody else: `make help`.

CARGO ?= cargo
PROFILE_DIR := target/release
# Options for the demo: DEMO="--keep", DEMO="--seconds 5", DEMO="--target bmv2|p4-switch|none"
DEMO ?=
# Property tests draw the same cases every time here, so that a change is judged by what it did; `make soak` draws others.
test: export PROPTEST_RNG_SEED ?= 20221
# How many cases a property test draws in `make soak`.
CASES ?= 2000
# A benchmark suite and its options: SUITE="host --quick"
SUITE ?= host

.PHONY: help setup build demo test soak bench lint fmt doc p4 clean-demo

help:
	@echo 'make demo        install what is missing, build, show the UPF at work (root)'
	@echo 'make test        all tests (root for the end-to-end ones; says what it skips)'
	@echo 'make soak        the property tests with new random cases, many of them: CASES=2000'
	@echo 'make bench       SUITE="host|pktgen|pfcp|scale|idle|p4|classifier|ipc|qos-push|all [--quick]": docs/BENCHMARKING.md'
	@echo 'make lint fmt doc setup build clean-demo'
	@echo 'make p4          compile p4/ with p4c into p4/compiled/'

setup:
	@scripts/setup

build: setup
	$(CARGO) build --release --locked -p upf -p upf-host -p upf-ctl -p p4-switch -p smf-sim -p gnb-sim

demo: build
	$(PROFILE_DIR)/upf demo $(DEMO)

clean-demo:
	$(PROFILE_DIR)/upf demo --clean

# The end-to-end tests start the programs that the first line builds.
test: setup
	@scripts/skipped-tests
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked --workspace --no-fail-fast

# Where a case fails, proptest prints it whole.
soak: setup
	$(CARGO) build --locked --workspace --bins
	PROPTEST_CASES=$(CASES) $(CARGO) test --locked --workspace --no-fail-fast

bench: setup
	$(CARGO) build --release --locked -p upf -p upf-host -p upf-ctl -p p4-switch
	$(CARGO) run --release --locked -p bench -- $(SUITE)

p4:
	@scripts/p4-compile

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check; \
	 else echo 'SKIPPED: cargo deny (cargo install cargo-deny --locked)'; fi

fmt:
	$(CARGO) fmt --all

doc:
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps
