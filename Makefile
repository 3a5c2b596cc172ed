# Each target works on a fresh clone, makes what it needs, and is safe to repeat.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:

PYTHON ?= python3
BIN := .venv/bin
CLUSTER := $(BIN)/python -m sagepool_cluster

# An assignment of its own each: `export X=$$(...)` would hide that the command failed.
define CLUSTER_FOR_TESTS
SAGEPOOL_TEST_KUBECONFIG=$$($(CLUSTER) up)
SAGEPOOL_TOOLS=$$($(CLUSTER) tools)
SAGEPOOL_TEST_IMAGE=$$($(CLUSTER) image --load)
SAGEPOOL_TEST_FRAMEWORKS=$(CURDIR)/.venv-frameworks/bin/python
SAGEPOOL_TEST_REQUIRED=1
export SAGEPOOL_TEST_KUBECONFIG SAGEPOOL_TOOLS SAGEPOOL_TEST_IMAGE SAGEPOOL_TEST_FRAMEWORKS SAGEPOOL_TEST_REQUIRED
endef

# Tests that run beside each other, one worker more than a small machine has cores: many only wait.
BESIDE := --numprocesses 3 --dist loadgroup

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.complete: requirements/dev.txt requirements/build.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sagepool needs Python >= 3.11: set PYTHON=python3.x")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt -r requirements/build.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

.PHONY: setup
setup: .venv/.complete ## .venv with all that the targets need

.venv-frameworks/.complete: requirements/frameworks.txt
	$(PYTHON) -m venv .venv-frameworks
	.venv-frameworks/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/frameworks.txt
	touch $@

# Outside the checkout: it is of several GB, and every checkout can use it. Its wheels are installed
# without a look at what they ask for, since requirements/engines-overrides.txt differs from that.
ENGINES := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sagepool/engines-$(shell sha256sum requirements/engines.txt | cut -c1-12)

$(ENGINES)/.complete: | .venv/.complete
	$(PYTHON) -m venv $(ENGINES)
	$(BIN)/uv pip install --quiet --python $(ENGINES)/bin/python --no-deps -r requirements/engines.txt
	$(ENGINES)/bin/python tests/support/vllm_name.py
	touch $@

# Of the router's sources alone: of all others a test uses what is in the checkout.
.venv-compiled/.complete: .venv/.complete hatch_build.py $(shell find router -name '*.py' -not -path '*/__pycache__/*')
	$(PYTHON) -m venv .venv-compiled
	.venv-compiled/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	rm -rf .venv-compiled/wheels
	HATCH_BUILD_HOOK_ENABLE_CUSTOM=true $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir .venv-compiled/wheels .
	.venv-compiled/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall .venv-compiled/wheels/*.whl
	touch $@

.PHONY: cluster
cluster: setup ## A Kubernetes for demo and tests; prints its kubeconfig
	@$(CLUSTER) up

.PHONY: cluster-down
cluster-down: setup ## Takes it down; nothing of it stays behind
	@$(CLUSTER) down

.PHONY: image
image: setup ## The image of all programs; prints its name
	@$(CLUSTER) image

.PHONY: demo
demo: setup ## The main job, from an empty machine to answers
	@$(BIN)/python demo/run.py up

.PHONY: demo-down
demo-down: setup ## Removes what the demo installed; the cluster stays
	@$(BIN)/python demo/run.py down

.PHONY: check
check: setup ## Format, lint, types, import contracts, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sagepool-crds check

.PHONY: test-unit
test-unit: setup ## Tests that need no cluster
	$(BIN)/pytest $(BESIDE) -m "not cluster and not e2e and not root and not tools and not frameworks and not engines"

.PHONY: test
test: setup .venv-frameworks/.complete .venv-compiled/.complete ## All that CI runs: unit, contract, chart, end to end
	.venv-compiled/bin/python -m pytest $(BESIDE) tests/router
	$(CLUSTER_FOR_TESTS)
	$(BIN)/pytest $(BESIDE) -m "not e2e and not root and not engines"
	$(BIN)/pytest -m "(e2e or root) and not engines"

.PHONY: test-compiled
test-compiled: .venv-compiled/.complete ## The router's tests over its compiled modules
	.venv-compiled/bin/python -m pytest $(BESIDE) tests/router

.PHONY: test-engines
test-engines: setup $(ENGINES)/.complete ## vLLM itself: flags, router, laptop, pods; installs it (6 GB)
	$(CLUSTER_FOR_TESTS)
	SAGEPOOL_TEST_ENGINES=$(ENGINES)/bin/python $(BIN)/pytest -m engines

.PHONY: test-e2e
test-e2e: setup ## Only the end-to-end tests
	$(CLUSTER_FOR_TESTS)
	$(BIN)/pytest -m "e2e and not engines"

.PHONY: bench
bench: .venv-compiled/.complete ## Our router beside others in one run; writes docs/benchmarks.md (half an hour)
	PYTHONPATH=cluster .venv-compiled/bin/python -m bench --write

.PHONY: bench-scale
bench-scale: .venv-compiled/.complete ## Thousands of streams and instances, long bodies, slow readers
	PYTHONPATH=cluster .venv-compiled/bin/python -m bench.scale --write

.PHONY: bench-operator
bench-operator: setup ## 100 pools of 10 engines in a cluster of its own, beside bare Deployments; as root, ten minutes
	PYTHONPATH=cluster $(BIN)/python -m bench.operator_scale --write

.PHONY: bench-request-path
bench-request-path: .venv-compiled/.complete ## What the router adds to a request, in process
	PYTHONPATH=cluster .venv-compiled/bin/python -m bench.request_path

.PHONY: generate
generate: setup ## CRD YAML, the chart's copy, values schema, reference
	$(BIN)/sagepool-crds write
	$(BIN)/python -m sagepool_operator.reference docs/reference/conditions.md

.PHONY: pins
pins: setup ## Renews the pinned requirement files
	$(BIN)/uv pip compile --upgrade --no-header --no-emit-index-url --universal --python-version 3.11 --all-extras --group dev pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile --upgrade --no-header --no-emit-index-url --universal --python-version 3.11 --extra crds --extra downloader --extra operator --extra router --extra simulator pyproject.toml -o requirements/image.txt
	$(BIN)/uv pip compile --upgrade --no-header --no-emit-index-url --universal --python-version 3.11 --group frameworks -o requirements/frameworks.txt
	$(BIN)/uv pip compile --upgrade --no-header --no-emit-index-url --python-version 3.11 --override requirements/engines-overrides.txt --group engines -o requirements/engines.txt
	$(BIN)/uv pip compile --upgrade --no-header --no-emit-index-url --universal --python-version 3.11 --group build -c requirements/dev.txt -o requirements/build.txt
