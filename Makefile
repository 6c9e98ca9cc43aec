# The commands of the project. `make help` explains them; each does its own set-up.
SHELL := /bin/sh
.DEFAULT_GOAL := help
PYTHON ?= python3
ENVS := .local/envs
DEV := $(ENVS)/dev/bin
PYTEST_ARGS ?=
# Nothing of the caller's own Python set-up reaches the locked environments.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV PYTHONDONTWRITEBYTECODE

TRAINER_PATH := dags:containers/trainer/src:containers/serving/src
SERVING_PATH := containers/serving/src
DEPLOYER_PATH := dags:containers/deployer/src:containers/serving/src

##@ Start here
.PHONY: help setup demo test
help: ## Explain every target
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z][a-z0-9-]*:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST); \
	printf '\nOptions: PYTEST_ARGS="-k name -x" for the test targets, SERVICE=name for local-logs.\n'

setup: ## Find or install uv, Python 3.12 and one locked environment per component (done once)
	@command -v $(PYTHON) >/dev/null 2>&1 || \
	  { echo "setup: error: $(PYTHON) was not found: install Python 3.10 or newer, or name one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "setup: error: $(PYTHON) is older than 3.10: name a newer one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) local/bootstrap.py

demo: setup ## The whole story on this machine: land data, train, compare, deploy, predict
	@$(DEV)/python -m local demo

test: lint types test-unit test-dags test-containers test-local test-e2e ## Everything that has to hold, about 13 minutes

##@ The platform on this machine
.PHONY: local-up local-down local-status local-logs
local-up: setup ## Start the local platform, or adopt the one that runs
	@$(DEV)/python -m local up

local-down: setup ## Stop it; leaves no process and no open port
	@$(DEV)/python -m local down

local-status: setup ## What runs, where, and what does not
	@$(DEV)/python -m local status

local-logs: setup ## Show the end of the logs (SERVICE=name for one)
	@$(DEV)/python -m local logs $(SERVICE)

##@ Parts of the test suite
.PHONY: lint types test-unit test-dags test-containers test-local test-e2e
lint: setup ## Style and formatting
	@$(DEV)/ruff check .
	@$(DEV)/ruff format --check .

types: setup ## Static types, each component against its own environment
	@$(DEV)/mypy local benchmarks tests/unit tests/local tests/e2e
	@MYPYPATH=dags $(DEV)/mypy --python-executable $(ENVS)/airflow/bin/python -m train_model -p mlplatform
	@MYPYPATH=$(TRAINER_PATH) $(DEV)/mypy --python-executable $(ENVS)/trainer/bin/python -p trainer
	@MYPYPATH=$(SERVING_PATH) $(DEV)/mypy --python-executable $(ENVS)/serving/bin/python -p serving -p modelformat
	@MYPYPATH=$(DEPLOYER_PATH) $(DEV)/mypy --python-executable $(ENVS)/deployer/bin/python -p deployer

test-unit: setup ## Pure logic
	@PYTHONPATH=.:dags $(DEV)/python -m pytest tests/unit $(PYTEST_ARGS)

test-dags: setup ## DAG integrity and policy, in Airflow's environment
	@PYTHONPATH=.:dags $(ENVS)/airflow/bin/python -m pytest tests/dags $(PYTEST_ARGS)

test-containers: setup ## The step contract of every container, each in its own environment
	@PYTHONPATH=$(TRAINER_PATH) $(ENVS)/trainer/bin/python -m pytest tests/containers/trainer $(PYTEST_ARGS)
	@PYTHONPATH=$(SERVING_PATH) $(ENVS)/serving/bin/python -m pytest tests/containers/serving $(PYTEST_ARGS)
	@PYTHONPATH=$(DEPLOYER_PATH) $(ENVS)/deployer/bin/python -m pytest tests/containers/deployer $(PYTEST_ARGS)
	@PYTHONPATH=. $(DEV)/python -m pytest tests/containers/mlflow $(PYTEST_ARGS)

test-local: setup ## The local Kubernetes and AWS APIs and the platform's life cycle
	@PYTHONPATH=.:dags $(DEV)/python -m pytest tests/local $(PYTEST_ARGS)

test-e2e: setup ## The story and the unhappy ways on the real local platform
	@PYTHONPATH=.:dags $(DEV)/python -m pytest tests/e2e $(PYTEST_ARGS)

##@ Measure
.PHONY: bench-story
bench-story: setup ## Per task: wall time, the pod's own compute, and what orchestration adds
	@PYTHONPATH=.:dags $(DEV)/python -m benchmarks.story

##@ Maintain
.PHONY: format lock clean
format: setup ## Rewrite the code in the project's format
	@$(DEV)/ruff check --fix .
	@$(DEV)/ruff format .

lock: ## Compile every lock file from its sources
	@$(PYTHON) local/bootstrap.py --lock

clean: ## Stop the local platform and remove everything that was made
	@if [ -x $(DEV)/python ]; then $(DEV)/python -m local down; fi
	@rm -rf .local .mypy_cache .ruff_cache .pytest_cache
