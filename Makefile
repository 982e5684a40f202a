# SPDX-License-Identifier: GPL-2.0-only
# Every word here is one that CI and the README use. `make V=1 ...` shows the commands.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
Q := $(if $(V),,@)

VENV := .venv
PYTHON := $(VENV)/bin/python
PYTEST_ARGS ?=
BENCH_ARGS ?=
FUZZ_SECONDS ?= 60
SOAK_LENGTH ?= 1h
# What Debian brings: BCC and libbpf (no kernel headers), the userspace headers BCC needs, a compiler for the workloads.
PACKAGES := python3-bpfcc python3-venv libbpf1 linux-libc-dev libc6-dev gcc make
# To boot other kernels, for `make test` and `make test-vm`.
VM_PACKAGES := qemu-system-x86 busybox-static kmod zstd file
# The real programs that the benches measure: for bench-overhead and bench-schemes alone.
BENCH_PACKAGES := redis-server memcached postgresql sqlite3 stress-ng python3-numpy python3-sklearn
DEB_PACKAGES := dpkg-dev debhelper
DEB_SUITES ?= bookworm trixie
# For `make vagrant-test` alone; the tests are those that matter most to a kernel: emulation is slow.
VAGRANT_PACKAGES := vagrant vagrant-libvirt libvirt-daemon-system qemu-system-x86 qemu-utils dnsmasq-base iptables \
	debootstrap e2fsprogs rsync
VAGRANT_MACHINE ?= debian12
VAGRANT_TESTS ?= $(addprefix tests/live/test_,reader.py clear.py shared.py huge_pages.py probes.py)
WORKLOADS := $(patsubst tests/workloads/%.c,build/workloads/%,$(wildcard tests/workloads/*.c))

.PHONY: help
help:  ## Print this list
	@grep -E '^[a-zA-Z_-]+:.*?## .*$$' Makefile | awk -F ':.*?## ' '{printf "  %-14s %s\n", $$1, $$2}'

define install
missing=$$(for p in $(1); do dpkg-query -Wf '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
if [ -n "$$missing" ]; then \
	echo "installing Debian packages:" $$missing; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing >/dev/null; \
else echo "Debian packages: all there"; fi
endef

.PHONY: setup
setup: $(VENV)/.complete  ## Install the Debian packages and make the virtual environment (idempotent)

$(VENV)/.complete: pyproject.toml
	$(Q)$(call install,$(PACKAGES))
	$(Q)echo "virtual environment in $(VENV), from /usr/bin/python3"
	$(Q)test -x $(PYTHON) || /usr/bin/python3 -m venv --system-site-packages $(VENV)
	$(Q)$(PYTHON) -m pip install --quiet 'pip>=25.1'
	$(Q)$(PYTHON) -m pip install --quiet --editable . --group dev
	$(Q)touch $@

build/workloads/%: tests/workloads/%.c tests/workloads/workload.h
	$(Q)mkdir -p $(@D)
	$(Q)gcc -O2 -Wall -Wextra -Werror -o $@ $< -lpthread

.PHONY: workloads
workloads: $(WORKLOADS)  ## Compile the programs with known access patterns that tests and the demo watch

.PHONY: demo
demo: setup workloads  ## Watch a program, draw its memory, give back what is idle (needs root; under 2 minutes)
	$(Q)PYTHONPATH=tests $(PYTHON) -m demo.demo

.PHONY: test
test: setup workloads lint types  ## Everything that CI runs: lint, types, unit, contract, live and VM tests (needs root)
	$(Q)$(call install,$(VM_PACKAGES))
	$(Q)PAGEPULSE_REQUIRE_KERNEL=1 $(PYTHON) -m pytest $(PYTEST_ARGS)

.PHONY: vagrant-test
vagrant-test: setup  ## Bring up a virtual machine by Vagrant, run live tests inside, destroy it (VAGRANT_MACHINE, VAGRANT_TESTS)
	$(Q)$(call install,$(VAGRANT_PACKAGES))
	$(Q)vagrant/test $(VAGRANT_MACHINE) $(VAGRANT_TESTS)

.PHONY: test-vm
test-vm: setup workloads  ## Debian's 6.1 and 6.12 in virtual machines: boot each, run tests inside
	$(Q)$(call install,$(VM_PACKAGES))
	$(Q)$(PYTHON) -m pytest $(PYTEST_ARGS) tests/vm/test_kernels.py

.PHONY: test-vm-all
test-vm-all: setup workloads  ## The same with the newest kernel, too, and the whole live layer in each
	$(Q)$(call install,$(VM_PACKAGES))
	$(Q)PAGEPULSE_VM_ALL=1 $(PYTHON) -m pytest $(PYTEST_ARGS) tests/vm/test_kernels.py

.PHONY: deb
deb: setup  ## Build the Debian packages, for Debian 12 and 13, in build/deb (DEB_SUITES)
	$(Q)$(call install,$(DEB_PACKAGES))
	$(Q)for suite in $(DEB_SUITES); do packaging/build-deb $$suite || exit 1; done

.PHONY: test-deb
test-deb: deb workloads  ## Install each in a clean Debian of its own, use it, remove it without a trace (needs root)
	$(Q)$(call install,debootstrap lintian)
	$(Q)PAGEPULSE_DEB_SUITES="$(DEB_SUITES)" $(PYTHON) -m pytest $(PYTEST_ARGS) tests/deb

.PHONY: test-prometheus
test-prometheus: setup workloads  ## Debian's Prometheus scrapes a daemon; rules and alerts hold what they promise
	$(Q)$(call install,prometheus)
	$(Q)PYTHONPATH=tests $(PYTHON) -m fleet.prometheus

.PHONY: bench
bench: setup workloads  ## Measure speed, memory and overhead, and print tables
	$(Q)PYTHONPATH=tests $(PYTHON) -m bench.bench $(BENCH_ARGS)

.PHONY: bench-accuracy
bench-accuracy: setup workloads  ## What is found, and at what cost: real up to 16 GiB, simulated up to 5 TiB
	$(Q)PYTHONPATH=tests $(PYTHON) -m bench.steady $(BENCH_ARGS)
	$(Q)PYTHONPATH=tests $(PYTHON) -m bench.simulated $(BENCH_ARGS)

.PHONY: bench-scheme-pass
bench-scheme-pass: setup  ## What a pass of a scheme over 16 GiB costs that finds nothing to do
	$(Q)PYTHONPATH=tests $(PYTHON) -m bench.scheme_pass $(BENCH_ARGS)

.PHONY: bench-regions
bench-regions: setup  ## What estimating, cutting and merging regions costs, up to 100 000 of them
	$(Q)PYTHONPATH=tests $(PYTHON) -m bench.region_work $(BENCH_ARGS)

.PHONY: bench-probes
bench-probes: setup workloads  ## What the fault probe costs a page fault, and reading costs a clear
	$(Q)PYTHONPATH=tests $(PYTHON) -m bench.probes $(BENCH_ARGS)

.PHONY: bench-metrics
bench-metrics: setup  ## What telling metrics costs: series, bytes and CPU of a scrape
	$(Q)PYTHONPATH=tests $(PYTHON) -m bench.metrics $(BENCH_ARGS)

.PHONY: bench-packages
bench-packages: setup  ## Install the real programs that bench-overhead and bench-schemes measure (Debian may start the servers)
	$(Q)$(call install,$(BENCH_PACKAGES))

.PHONY: bench-overhead
bench-overhead: bench-packages workloads  ## What watching costs real programs, in pairs (25 minutes for all)
	$(Q)PYTHONPATH=tests $(PYTHON) -m bench.real_overhead $(BENCH_ARGS)

.PHONY: bench-schemes
bench-schemes: bench-packages workloads  ## What schemes give back and cost, beside rivals (5 minutes for each program)
	$(Q)PYTHONPATH=tests $(PYTHON) -m bench.schemes $(BENCH_ARGS)

# Programs of which the benches in virtual machines measure one; damo comes from PyPI.
GUEST_PACKAGES := $(VM_PACKAGES) redis-server python3-numpy

.PHONY: bench-damon
bench-damon: setup workloads  ## pagepulse beside the kernel's DAMON on the same programs, in a virtual machine (20 minutes)
	$(Q)$(call install,$(GUEST_PACKAGES))
	$(Q)$(PYTHON) -m pip install --quiet --group damon
	$(Q)PYTHONPATH=tests $(PYTHON) -m bench.damon $(BENCH_ARGS)

.PHONY: bench-pressure
bench-pressure: setup workloads  ## What watching costs a program whose memory is short, on 6.1 and 6.12 (20 minutes)
	$(Q)$(call install,$(GUEST_PACKAGES))
	$(Q)PYTHONPATH=tests $(PYTHON) -m bench.pressure $(BENCH_ARGS)

.PHONY: bench-tmo
bench-tmo: setup workloads  ## Schemes beside TMO's controller of memory.reclaim, in a virtual machine (30 minutes)
	$(Q)$(call install,$(GUEST_PACKAGES))
	$(Q)PYTHONPATH=tests $(PYTHON) -m bench.tmo $(BENCH_ARGS)

.PHONY: bench-fleet
bench-fleet: setup workloads  ## Measure what watching hundreds of processes costs, and how soon a child is watched
	$(Q)PYTHONPATH=tests $(PYTHON) -m bench.fleet

.PHONY: bench-serve
bench-serve: setup  ## Measure how soon a daemon with 300 processes answers, and what it costs
	$(Q)PYTHONPATH=tests $(PYTHON) -m bench.serve

.PHONY: soak
soak: setup workloads  ## A daemon through bad weather for SOAK_LENGTH (1h): no leak, no lost snapshot, or exit code 1
	$(Q)PYTHONPATH=tests $(PYTHON) -m bench.soak --length $(SOAK_LENGTH) $(BENCH_ARGS)

.PHONY: lint
lint: setup  ## ruff: lint and formatting rules
	$(Q)$(VENV)/bin/ruff check control tests packaging

.PHONY: types
types: setup  ## mypy --strict over the package
	$(Q)$(VENV)/bin/mypy

.PHONY: format
format: setup  ## Sort imports and mend what ruff can mend
	$(Q)$(VENV)/bin/ruff check --fix control tests packaging

.PHONY: schema
schema: setup  ## Generate schemes/scheme.schema.json from the scheme language
	$(Q)$(PYTHON) -m pagepulse.policy.json_schema > schemes/scheme.schema.json

.PHONY: fuzz
fuzz: setup  ## Fuzz the parser of scheme files for FUZZ_SECONDS (60), from the shipped files and damo's
	$(Q)$(PYTHON) -m pip install --quiet --group fuzz
	$(Q)mkdir -p build/fuzz
	$(Q)$(PYTHON) tests/fuzz/scheme_files.py -max_total_time=$(FUZZ_SECONDS) -max_len=8192 -artifact_prefix=build/fuzz/ \
		build/fuzz schemes tests/data/damo

.PHONY: clean
clean:  ## Remove everything that was built here
	$(Q)rm -rf build $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis control/*.egg-info
