# The commands of the project. `make help` explains them; each does its own set-up.
SHELL := /bin/sh
.DEFAULT_GOAL := help
PYTHON ?= python3
ENVS := .local/envs
DEV := $(ENVS)/dev/bin
PYTEST_ARGS ?=
SETUP = $(PYTHON) local/bootstrap.py
CLOUD = $(DEV)/python -m cloud

# What people give reaches a recipe as a variable of its shell, as it was written: neither make nor the shell takes
# anything in it for its own ("saves $5k", "O'Neill"). Switches are on with anything but nothing, 0, no and false.
GIVEN := BENCH CONFIRM DATASET ENV FROM GITHUB_REPOSITORY MODEL MONTH PARTS REASON REGION RUN SERVICE VERSION
$(foreach name,$(GIVEN),$(if $(filter command environment,$(firstword $(origin $(name)))),\
  $(eval override $(name) := $$(value $(name)))$(eval export $(name))))
on = $(filter-out 0 no false,$($(1)))
# Nothing of the caller's own Python set-up reaches the locked environments.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV PYTHONDONTWRITEBYTECODE
# Nor do the options of this make reach those that tests start.
unexport MAKEFLAGS MFLAGS

TRAINER_PATH := dags:containers/trainer/src:containers/serving/src
SERVING_PATH := containers/serving/src
DEPLOYER_PATH := dags:containers/deployer/src:containers/serving/src

##@ Start here
.PHONY: help setup setup-platform demo check test suite
help: ## Explain every target
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z][a-z0-9-]*:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST); \
	printf '\nOptions: PYTEST_ARGS="-k name -x" for the test targets, SERVICE=name for local-logs.\n'

setup: python ## Find or install uv, Python 3.12 and one locked environment per component (done once)
	@$(SETUP)

setup-platform: python # what the platform on this machine needs, without the tools of the test suite
	@$(SETUP) dev airflow trainer serving deployer mlflow

.PHONY: python
python:
	@command -v $(PYTHON) >/dev/null 2>&1 || \
	  { echo "setup: error: $(PYTHON) was not found: install Python 3.10 or newer, or name one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "setup: error: $(PYTHON) is older than 3.10: name a newer one with PYTHON=..." >&2; exit 1; }

demo: setup-platform ## The whole story on this machine; DATASET=iris MODEL=pytorch tell it of another dataset and family
	@$(DEV)/python -m local demo $(if $(DATASET),--dataset "$$DATASET") $(if $(MODEL),--model "$$MODEL")

check: setup ## While you work: style, types, import rules, unit tests, dev's plan against the policies; 3 minutes
	@$(DEV)/python -m benchmarks.suite --parts lint,types,test-unit,check-plans --at-a-time 2

# In the order for several at a time: what is quick, what waits most beside what computes most, the rest.
test: lint types test-unit test-dags test-kubernetes test-emulated test-containers test-e2e test-images test-local test-terraform test-localstack test-policies ## Everything that has to hold, about an hour; `make suite` takes half of it

suite: setup ## The same as CI runs it: three parts at a time, each with what it took
	@$(DEV)/python -m benchmarks.suite

##@ The platform on this machine
.PHONY: local-up local-down local-status local-logs
local-up: setup-platform ## Start the local platform, or adopt the one that runs
	@$(DEV)/python -m local up

local-down: setup-platform ## Stop it; leaves no process and no open port
	@$(DEV)/python -m local down

local-status: setup-platform ## What runs, where, and what does not
	@$(DEV)/python -m local status

local-logs: setup-platform ## Show the end of the logs (SERVICE=name for one)
	@$(DEV)/python -m local logs $(if $(SERVICE),"$$SERVICE")

##@ The platform in AWS (ENV=dev, staging or prod)
.PHONY: preflight bootstrap plan apply destroy images push-dags cluster-config up cost train smoke status open approve
preflight: setup ## Ask the account for quotas, zones and roles before anything is made; says what to ask for; JSON=1
	@$(CLOUD) preflight --env "$$ENV" $(if $(call on,JSON),--json)

bootstrap: setup ## Once per account: state bucket, image repositories, CI role (GITHUB_REPOSITORY=owner/name)
	@$(CLOUD) bootstrap $(if $(GITHUB_REPOSITORY),--github-repository "$$GITHUB_REPOSITORY") $(if $(REGION),--region "$$REGION") $(if $(call on,YES),--yes)

plan: setup ## Show what an apply would change
	@$(CLOUD) plan --env "$$ENV"

apply: setup ## Make the environment what terraform/environments/ENV says; shows the plan and asks
	@$(CLOUD) apply --env "$$ENV" $(if $(call on,YES),--yes)

destroy: setup ## Take it down in one go; KEEP_DATA=1 keeps buckets and a database snapshot
	@$(CLOUD) destroy --env "$$ENV" $(if $(call on,KEEP_DATA),--keep-data) $(if $(CONFIRM),--confirm "$$CONFIRM")

images: setup ## Build, scan and push the images and write their digests down; FROM=env promotes another's
	@$(CLOUD) images --env "$$ENV" $(if $(FROM),--from "$$FROM") $(if $(call on,ALLOW_FINDINGS),--allow-findings)

push-dags: setup ## Check the DAG bundle, sync it to the DAG bucket, say what changed
	@$(CLOUD) push-dags --env "$$ENV" $(if $(call on,DRY_RUN),--dry-run)

cluster-config: setup ## Apply config/kubernetes to the cluster
	@$(CLOUD) cluster-config --env "$$ENV" $(if $(call on,DRY_RUN),--dry-run)

up: setup ## All of it in order; after a failure the same command goes on
	@$(CLOUD) up --env "$$ENV" $(if $(FROM),--from "$$FROM") $(if $(call on,YES),--yes)

cost: setup ## Estimate the price at rest and of a training hour; needs no account
	@$(CLOUD) cost $(if $(ENV),--env "$$ENV")

train: setup ## Start a dataset's pipeline and follow it (DATASET=flights); MONTH=1 lands that month of the flights first, UNPAUSE=1 unpauses it
	@$(CLOUD) train --env "$$ENV" $(if $(DATASET),--dataset "$$DATASET") $(if $(MONTH),--month "$$MONTH") $(if $(call on,UNPAUSE),--unpause)

smoke: setup ## Ask every part whether it works; changes nothing
	@$(CLOUD) smoke --env "$$ENV"

open: setup-platform ## Airflow's page, MLflow and the Kubernetes API on localhost, through the bastion, until Ctrl-C
	@$(CLOUD) open --env "$$ENV"

approve: setup-platform ## Answer whether DATASET's candidate may go live, with REASON="…"; REJECT=1 says no, RUN names one of several
	@$(CLOUD) approve --env "$$ENV" --dataset "$$DATASET" --reason "$$REASON" $(if $(call on,REJECT),--reject) $(if $(RUN),--run "$$RUN") $(if $(call on,YES),--yes)

status: setup-platform ## What is live, runs, waits for whom, and is wrong, per dataset; JSON=1; without ENV on this machine
	@$(CLOUD) status $(if $(ENV),--env "$$ENV") $(if $(call on,JSON),--json)

##@ An emulated AWS account on this machine
.PHONY: emulators-up emulators-down
emulators-up: setup ## Start it, or adopt the one that runs; prints the variables that lead to it
	@$(DEV)/python -m local.emulators up

emulators-down: setup ## Stop it; the account and all in it are gone
	@$(DEV)/python -m local.emulators down

##@ Parts of the test suite
.PHONY: lint types check-plans test-unit test-dags test-containers test-images test-kubernetes test-terraform test-policies test-local test-localstack test-emulated test-e2e
lint: setup ## Style and formatting
	@$(DEV)/ruff check .
	@$(DEV)/ruff format --check .

types: setup ## Static types, each component against its own environment
	@$(DEV)/mypy cloud local benchmarks tests/unit tests/images tests/kubernetes tests/terraform tests/policies tests/local tests/localstack tests/emulated tests/e2e tests/golden
	@MYPYPATH=dags $(DEV)/mypy --python-executable $(ENVS)/airflow/bin/python -m train_model -m deploy_model -m rollback_model -m monitor_model -m refused_datasets -p mlplatform
	@MYPYPATH=$(TRAINER_PATH) $(DEV)/mypy --python-executable $(ENVS)/trainer/bin/python -p trainer
	@MYPYPATH=$(SERVING_PATH) $(DEV)/mypy --python-executable $(ENVS)/serving/bin/python -p serving -p modelformat
	@MYPYPATH=$(DEPLOYER_PATH) $(DEV)/mypy --python-executable $(ENVS)/deployer/bin/python -p deployer

test-unit: setup ## Pure logic
	@PYTHONPATH=.:dags $(DEV)/python -m pytest tests/unit $(PYTEST_ARGS)

test-dags: setup ## DAG integrity and policy, in Airflow's environment
	@PYTHONPATH=.:dags $(ENVS)/airflow/bin/python -m pytest tests/dags $(PYTEST_ARGS)

test-containers: setup ## The step contract of every container, each in its own environment
	@PYTHONPATH=$(TRAINER_PATH) $(ENVS)/trainer/bin/python -m pytest tests/containers/trainer $(PYTEST_ARGS)
	@PYTHONPATH=$(TRAINER_PATH) $(ENVS)/trainer-cuda/bin/python -m pytest tests/containers/trainer_cuda $(PYTEST_ARGS)
	@PYTHONPATH=$(TRAINER_PATH) $(ENVS)/trainer-cuda/bin/python -m pytest tests/containers/trainer_pairs $(PYTEST_ARGS)
	@PYTHONPATH=$(TRAINER_PATH) $(ENVS)/spark/bin/python -m pytest tests/containers/trainer_spark $(PYTEST_ARGS)
	@PYTHONPATH=$(SERVING_PATH) $(ENVS)/serving/bin/python -m pytest tests/containers/serving $(PYTEST_ARGS)
	@PYTHONPATH=$(DEPLOYER_PATH) $(ENVS)/deployer/bin/python -m pytest tests/containers/deployer $(PYTEST_ARGS)
	@PYTHONPATH=. $(DEV)/python -m pytest tests/containers/mlflow $(PYTEST_ARGS)

test-images: setup ## Every image really built and run, where Docker and root are
	@PYTHONPATH=.:dags $(DEV)/python -m pytest tests/images $(PYTEST_ARGS)

test-kubernetes: setup ## config/kubernetes: schemas, policies, quotas that admit the pipeline
	@PYTHONPATH=.:dags $(DEV)/python -m pytest tests/kubernetes $(PYTEST_ARGS)

test-terraform: setup ## Format, validation and unit tests of every module; freshness of their READMEs
	@PYTHONPATH=.:dags $(DEV)/python -m pytest tests/terraform $(PYTEST_ARGS)

test-policies: setup ## Security policies over every environment's plan; linters of IAM and Terraform
	@PYTHONPATH=.:dags $(DEV)/python -m pytest tests/policies $(PYTEST_ARGS)

check-plans: setup # what a module breaks in one environment, it breaks in most
	@PYTHONPATH=.:dags $(DEV)/python -m pytest tests/policies -k '[dev]' $(PYTEST_ARGS)

test-local: setup ## The local Kubernetes and AWS APIs and the platform's life cycle
	@PYTHONPATH=.:dags $(DEV)/python -m pytest tests/local $(PYTEST_ARGS)

test-localstack: setup ## Storage, network and the data plane on LocalStack, without Docker
	@PYTHONPATH=.:dags $(DEV)/python -m pytest tests/localstack $(PYTEST_ARGS)

test-emulated: setup ## Every environment really applied, asked, destroyed, on emulators
	@PYTHONPATH=.:dags $(DEV)/python -m pytest tests/emulated $(PYTEST_ARGS)

test-e2e: setup ## The story and the unhappy ways on the real local platform
	@PYTHONPATH=.:dags $(DEV)/python -m pytest tests/e2e $(PYTEST_ARGS)

##@ Measure
.PHONY: bench bench-gpu bench-story bench-terraform bench-suite
bench: setup ## Preparation, training and serving against libraries by hand, many datasets; writes their tables in docs (BENCH=name for one)
	@$(DEV)/python -m benchmarks.report $(if $(BENCH),"$$BENCH")

bench-gpu: setup ## Training on a GPU against a plain PyTorch loop; writes docs/gpu-training.md's figures
	@PYTHONPATH=.:$(TRAINER_PATH) $(ENVS)/trainer-cuda/bin/python -m benchmarks.gpu_training

bench-story: setup ## Per task: wall time, the pod's own compute, and what orchestration adds
	@PYTHONPATH=.:dags $(DEV)/python -m benchmarks.story

bench-terraform: setup ## Seconds for plan, emulated apply and destroy of every environment
	@PYTHONPATH=.:dags $(DEV)/python -m benchmarks.terraform

bench-suite: setup ## `make suite`, and its table in docs/testing.md (PARTS=a,b for some rows)
	@$(DEV)/python -m benchmarks.suite --write $(if $(PARTS),--parts "$$PARTS")

##@ Maintain
.PHONY: format docs moved-tests golden lock clean
format: setup ## Rewrite the code in the project's format
	@$(DEV)/ruff check --fix .
	@$(DEV)/ruff format .
	@terraform fmt -recursive terraform tests

docs: setup ## Write from the code: tables of the Terraform READMEs, docs/cost.md and docs/local.md, schemas, the documents' fields
	@$(DEV)/python -m cloud.module_docs
	@$(DEV)/python -m cloud.cost_docs
	@$(DEV)/python -m local.platform.airflow_docs
	@PYTHONPATH=dags $(DEV)/python -m mlplatform.config.schemas config/schema
	@PYTHONPATH=dags $(DEV)/python -m mlplatform.documents.fields tests/unit/mlplatform/documents/fields.txt

moved-tests: setup ## Where each test of 0.1.0 is now; writes docs/testing/test-ids.tsv, or says what is gone
	@PYTHONPATH=. $(DEV)/python tests/moved_ids.py

golden: setup ## Write down what this release writes (VERSION=0.2.0), for later ones to read; tests/golden/README.md
	@$(DEV)/python -m local.golden "$$VERSION"

lock: ## Compile every lock file from its sources
	@$(PYTHON) local/bootstrap.py --lock

clean: ## Stop the local platform and remove everything that was made
	@if [ -x $(DEV)/python ]; then $(DEV)/python -m local down; fi
	@rm -rf .local .mypy_cache .ruff_cache .pytest_cache
