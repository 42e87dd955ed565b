# `make help` lists the commands. ARGS are passed on: make lab ARGS="--speed 600 --chunk 1MiB"
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --quiet --disable-pip-version-check
# The tracer needs root; the lab's service never gets it.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
NATIVE := $(wildcard native/leak/*.* native/leak/src/*.[ch] native/leak/src/*/*.py* \
	native/trace/*.* native/trace/src/*.[ch] native/trace/src/*/*.py*)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- the lab ---

# Before the long installation, and not after it.
.PHONY: privileges
privileges:
	@scripts/require root

.PHONY: lab
lab: privileges $(VENV)/lab ## The whole lab on this machine: the leak, the claims, the diagnosis, the grade
	$(SUDO) $(BIN)/memleak-lab run $(ARGS)

.PHONY: learn
learn: privileges $(VENV)/lab ## Find the leak yourself: tasks, checks, hints, a fix and its proof (ARGS=--resume goes on)
	@scripts/require learn
	$(SUDO) $(BIN)/memleak-lab learn $(ARGS)

# Nothing is installed for the answer. Docker and clusters are asked as the user that one is.
.PHONY: doctor
doctor: ## Say what this machine lacks (ARGS="--for docker" or "--for cluster" for those ways to run the lab)
	$(if $(findstring --for,$(ARGS)),,$(SUDO)) $(or $(wildcard $(BIN)/python),$(PYTHON)) -m diagnosis.doctor $(ARGS)

PREFIX ?= /usr/local
.PHONY: install
install: $(VENV)/lab ## Install the command memleak-lab, with a link in PREFIX/bin (/usr/local)
	@scripts/link "$(abspath $(BIN))/memleak-lab" "$(PREFIX)/bin"

.PHONY: chart
chart: $(VENV)/dev ## The lab, with the README's picture drawn anew
	$(SUDO) $(BIN)/memleak-lab run --chart docs/lab.svg $(ARGS)

.PHONY: picture
picture: $(VENV)/dev ## The lab, with the README's picture of its HTML report taken anew by headless Chromium
	mkdir -p build
	$(SUDO) $(BIN)/memleak-lab run --speed 600 --window 4s --html build/report.html $(ARGS)
	$(BIN)/python -m scripts.picture build/report.html docs/report.png

# --- in a cluster ---

.PHONY: kind
kind: ## A kind cluster with its registry (ARGS=delete removes both, ARGS=purge the images too)
	scripts/kind $(ARGS)

# The tag that the stack expects of `gadget memleak`: infra/versions.py, MEMLEAK_GADGET_TAG.
REGISTRY ?= localhost:5001
GADGET_TAG := $(shell sed -n 's/^MEMLEAK_GADGET_TAG = "\(.*\)"$$/\1/p' infra/versions.py)

.PHONY: gadget
gadget: ## Build the memleak gadget with ig and push it (REGISTRY=..., ARGS=--local for this machine's clang)
	native/gadget/build $(REGISTRY)/memleak:$(GADGET_TAG) $(ARGS)
	ig image push $(REGISTRY)/memleak:$(GADGET_TAG) $(if $(filter localhost:%,$(REGISTRY)),--insecure-registries=$(REGISTRY))

.PHONY: dashboards
dashboards: $(VENV)/dev ## Write the dashboards and the rules into a folder, for an import by hand
	$(BIN)/python -m grafana --output build/dashboards $(ARGS)

# --- development ---

.PHONY: test
test: $(VENV)/dev ## Run the tests, two at a time (as root for those that trace; the others skip with the reason)
	$(BIN)/python -m pytest --numprocesses 2 --maxschedchunk 1 --ignore=tests/system --ignore=tests/e2e $(ARGS)

.PHONY: test-e2e
test-e2e: $(VENV)/dev ## Test the Pulumi program on the real engine (pulumi, Docker, KUBECONFIG): the life of a stack
	$(BIN)/python -m pytest tests/e2e $(ARGS)

.PHONY: test-system
test-system: $(VENV)/dev ## Test the lab beside the real Docker, Kubernetes (KUBECONFIG), Prometheus and other tracers
	$(BIN)/python -m pytest tests/system $(ARGS)

.PHONY: fuzz
fuzz: $(VENV)/dev ## Put 100,000 mutated files and 10,000 perf maps and symbols to the parser (ARGS=--files 1000)
	$(SUDO) $(BIN)/python -m tests.hostile.mutations $(ARGS)

.PHONY: lint
lint: $(VENV)/dev ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy .

.PHONY: format
format: $(VENV)/dev ## Format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: map
map: $(VENV)/dev ## Draw docs/packages.svg, the data's way through the packages, from the source
	$(BIN)/python -m scripts.package_map $(ARGS)

.PHONY: vendor
vendor: $(VENV)/dev ## Fetch the HTML report's libraries anew by npm (ARGS=--check compares checksums, without a network)
	$(BIN)/python -m scripts.vendor $(ARGS)

.PHONY: reference
reference: $(VENV)/dev ## Write the tables of settings, outputs, metrics and options into docs/
	$(BIN)/python -m infra.reference
	$(BIN)/python -m scripts.options

.PHONY: pins
pins: $(VENV)/dev ## Write the digests behind the pinned tags into infra/pins.json (ARGS=--check compares only)
	$(BIN)/python -m infra.pins $(ARGS)

.PHONY: bench
bench: $(VENV)/dev ## What tracing costs, beside other tools, into docs/BENCHMARKS.md
	$(SUDO) $(BIN)/python -m comparison.loops.tracers $(ARGS)

.PHONY: bench-stacks
bench-stacks: $(VENV)/dev ## How many stacks of packaged programs are whole, into docs/BENCHMARKS.md
	$(SUDO) $(BIN)/python -m comparison.loops.stacks $(ARGS)

.PHONY: bench-watch
bench-watch: $(VENV)/dev ## What `watch` and `trace --light` cost a loop of page faults
	$(SUDO) $(BIN)/python -m comparison.loops.watch $(ARGS)

.PHONY: guide
guide: $(VENV)/dev ## Run every tool on the same leak, and write what it says into docs/EBPF_GUIDE.md
	$(SUDO) $(BIN)/python -m comparison.guide $(ARGS)

.PHONY: bench-service
bench-service: $(VENV)/lab ## The service under load and beside hostile clients
	$(BIN)/python -m comparison.loops.service $(ARGS)

.PHONY: clean
clean: ## Remove what the other commands made
	rm -rf $(VENV) build native/leak/build native/trace/build native/*/src/*.egg-info *.egg-info .mypy_cache .pytest_cache .ruff_cache

# --- what they need; not listed ---

$(VENV)/bin/python:
	@PYTHON=$(PYTHON) scripts/require python
	$(PYTHON) -m venv $(VENV)

# The native packages are built by the setuptools that the hashes pin, not by whatever is newest.
define install_project
	@PYTHON=$(PYTHON) scripts/require native
	rm -rf native/leak/build native/trace/build
	$(PIP) install --no-build-isolation --no-deps --force-reinstall ./native/leak ./native/trace
	$(PIP) install --no-build-isolation --no-deps --editable .
	touch $@
endef

$(VENV)/lab: requirements/lab.txt pyproject.toml $(NATIVE) | $(VENV)/bin/python
	$(PIP) install --require-hashes --requirement requirements/lab.txt
	$(install_project)

$(VENV)/dev: requirements/dev.txt pyproject.toml $(NATIVE) | $(VENV)/bin/python
	$(PIP) install --require-hashes --requirement requirements/dev.txt
	$(install_project)
	touch $(VENV)/lab
