# `make` alone lists the targets. Everything lives in .venv; uv is installed beside it where the machine has none.
SHELL := /bin/bash
PYTHON ?= python3
UV := $(or $(shell command -v uv),.uv/bin/uv)
BIN := .venv/bin
DEMO := demo

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):[^#]*## */  make \1\t/' | expand -t 18

.PHONY: setup
setup: .venv/ready  ## make the environment

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt uv

# Compiling once saves every later process a second or two of its start.
.venv/ready: pyproject.toml constraints.txt | $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv
	$(UV) pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt --build-constraints constraints.txt -e '.[cpu,launcher,dicom,onnx]' --group dev
	touch $@

.PHONY: demo
demo: .venv/ready  ## draw a data set and train on it with two workers, through the launcher
	test -f $(DEMO)/cxr/test_list.txt || $(BIN)/python -m trainer synth --out $(DEMO)/cxr --images 480 --side 192
	$(BIN)/python -m trainer stats --data $(DEMO)/cxr
	$(BIN)/python -m launcher submit --local --accelerator cpu --workers 2 --data $(DEMO)/cxr --output $(DEMO)/runs \
		--name demo -- --preset smoke

ROOM ?=
ROOMS = $(sort $(notdir $(patsubst %/,%,$(dir $(wildcard tests/trainer/*/test_*.py tests/launcher/*/test_*.py)))))

# Files that start several processes come first (tests/conftest.py), so that neither worker ends with one while the other idles.
# The hundreds of processes that tests start would else compile our modules again where the user's shell forbids to keep bytecode.
.PHONY: test
test: export PYTHONDONTWRITEBYTECODE =
test: .venv/ready  ## run all tests, or those of one room of both packages: ROOM=storage
	$(if $(filter-out $(ROOMS),$(ROOM)),$(error there is no room `$(ROOM)`: ROOM is one of $(ROOMS)))
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(wildcard $(ROOM:%=tests/trainer/%) $(ROOM:%=tests/launcher/%))

MINUTES ?= 10
SEED ?= 1

.PHONY: chaos
chaos: .venv/ready  ## kill workers, torchrun and the bucket's server, and fill disks, at random moments: MINUTES=10 SEED=1
	$(BIN)/python tests/chaos --minutes $(MINUTES) --seed $(SEED)

SECONDS ?= 60

.PHONY: fuzz
fuzz: .venv/ready  ## spoil images, tables, runs, weights and settings, and look what their readers do: SECONDS=60 SEED=1
	$(BIN)/python tests/fuzz --seconds $(SECONDS) --seed $(SEED)

# Any cluster with the training operator: KUBECONFIG=… make e2e E2E_IMAGE=… E2E_HOST=… (docs/cluster.md). Without one, the cluster tool's.
E2E = $(BIN)/python tests/e2e -rA --durations=0

.PHONY: e2e
e2e: .venv/ready  ## run the tests on a cluster: that of KUBECONFIG, else one of the cluster tool
	.ci/e2e $(E2E)

.PHONY: e2e-full
e2e-full: .venv/ready  ## the same, longer: every fault, 20 runs whose logs must stay, a thousand pods
	E2E_LOG_RUNS=20 E2E_ALL=1 .ci/e2e $(E2E)
	.ci/e2e $(BIN)/python benchmarks/launcher.py --pods 1000

IMAGE_TOOL ?= $(or $(shell command -v docker),buildah)
IMAGE_ARGS ?=
IMAGE_LABELS = --build-arg REVISION=$(shell git rev-parse HEAD) --build-arg VERSION=$(shell sed -n 's/__version__ = "\(.*\)"/\1/p' trainer/__init__.py)

.PHONY: images
images:  ## build both images with docker or buildah; IMAGE_ARGS='--build-arg NAME=VALUE'
	$(IMAGE_TOOL) build $(IMAGE_LABELS) $(IMAGE_ARGS) -f Dockerfile.cuda -t chexnet-cuda:dev .
	$(IMAGE_TOOL) build $(IMAGE_LABELS) $(IMAGE_ARGS) -f Dockerfile.hpu -t chexnet-hpu:dev .

.PHONY: lint
lint: .venv/ready  ## check style, formatting and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/shellcheck .ci/run .ci/e2e
	$(BIN)/hadolint Dockerfile.cuda Dockerfile.hpu

.PHONY: types
types: .venv/ready  ## check types
	$(BIN)/mypy

.PHONY: check
check: lint types test  ## what CI runs

.PHONY: golden
golden: .venv/ready  ## rewrite golden manifests, k8s/examples, docs/reference.md and the table of ARCHITECTURE.md; review them as a diff
	UPDATE_GOLDEN=1 $(BIN)/python -m pytest -q tests/launcher/spec/test_manifest.py tests/test_docs.py tests/test_k8s.py tests/test_architecture.py

COMPILE = $(UV) pip compile --quiet --upgrade --universal --python-version 3.10 --no-header --no-annotate --no-emit-index-url
HASHED = $(COMPILE) --generate-hashes -c constraints.txt

.PHONY: constraints
constraints: | $(UV)  ## renew the pins of constraints.txt within the bounds of pyproject.toml, and the hashes of images/
	printf 'torch==2.14.1\ntorchvision==0.29.1\n' | $(COMPILE) --extra cpu --extra cuda --extra launcher --extra dicom --extra onnx \
		--group dev --group build --group tools -c - -o constraints.txt pyproject.toml
	$(MAKE) hashes

.PHONY: hashes
hashes: | $(UV)  ## write the hashes of images/ again, for the pins of constraints.txt
	$(HASHED) --extra dicom -o images/requirements.txt pyproject.toml
	echo nvidia-ml-py | $(HASHED) -o images/nvidia.txt -
	printf 'torch\ntorchvision\n' | $(HASHED) -o images/torch.txt -
	$(HASHED) --group pyproject.toml:build -o images/build.txt
