# make run    install what is needed and start the chat on port 8000
# make test   install what the tests need and run them all
PYTHON ?= python3
MODEL_DIR ?= models/guide
URL ?= http://localhost:8000
CONFIG ?= training/configs/baseline.yaml
DATA ?=
RESUME ?=
export PYTHON DATA RESUME

.DEFAULT_GOAL := help
.PHONY: help run test check bench bench-container load image docker-build up up-full down logs doctor serve-trained speed install-local train train-baseline train-guide eval eval-guide export-gguf settings-table clean

help: ## What there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

run: ## Start the chat on port 8000
	@scripts/run

test: ## Run every test
	@scripts/test

check: ## Format, lint and type checks
	@scripts/check

bench: ## Measure the figures of the README
	@scripts/install requirements.txt requirements-local.txt requirements-dev.txt
	@.venv/bin/python -m bench

bench-container: ## Measure the figures of the container
	@scripts/install requirements.txt requirements-local.txt requirements-dev.txt
	@.venv/bin/python -m bench.container

load: ## Put load on the server at URL; more in OPTIONS
	@scripts/install requirements-load.txt
	@.venv/bin/python -m bench.load $(OPTIONS) $(URL)

image: ## Build the Docker image
	docker build -t chainlit-ollama .

docker-build: image ## The same

up: ## Start the container, built if need be
	docker compose up -d

up-full: ## The same with PostgreSQL, Prometheus and Grafana
	@scripts/up-full

down: ## Stop and remove the container and all beside it; the data stays
	docker compose down

logs: ## Follow the container's log
	docker compose logs -f

doctor: ## Is this server all right?
	@scripts/install requirements.txt
	@.venv/bin/python -m app.doctor

serve-trained: ## Chat with the model in the folder CHECKPOINT
	@test -n "$(CHECKPOINT)" || { echo "usage: make serve-trained CHECKPOINT=runs/NAME" >&2; exit 2; }
	@scripts/install requirements.txt requirements-local.txt
	@CHECKPOINT="$(CHECKPOINT)" exec .venv/bin/python -m app

speed: ## How fast is this server? Two minutes at most
	@scripts/install requirements.txt
	@.venv/bin/python -m app.bench --quick

install-local: ## Install the packages that run models by transformers
	@scripts/install requirements.txt requirements-local.txt

train: ## Train as CONFIG says (training/configs); a killed training goes on. RESUME=no starts anew, RUNS=folder keeps runs there, DRY_RUN=1 only estimates
	@scripts/install requirements.txt requirements-local.txt requirements-train.txt
	@.venv/bin/python -m training.$(if $(DRY_RUN),dry_run,train) "$(CONFIG)" --data "$(DATA)" $(if $(DRY_RUN),,--resume "$(RESUME)" $(if $(RUNS),--runs "$(RUNS)"))

train-baseline: CONFIG := training/configs/baseline.yaml
train-baseline: train ## Train a small model from scratch on the texts in DATA

train-guide: CONFIG := training/configs/$(if $(SHORT),guide-short,guide).yaml
train-guide: train ## Train the guide, put it into models/guide and measure it; SHORT=1: only see that training works
	@$(if $(SHORT),,.venv/bin/python -m training.guide.install $(if $(RUNS),--runs "$(RUNS)"))
	@$(if $(SHORT),,.venv/bin/python -m training.guide.evaluate --write)

eval: ## Measure the model in CHECKPOINT on what its run held out, or on the texts in DATA
	@test -n "$(CHECKPOINT)" || { echo "usage: make eval CHECKPOINT=runs/NAME [DATA=folder]" >&2; exit 2; }
	@scripts/install requirements.txt requirements-local.txt requirements-train.txt
	@.venv/bin/python -m training.evaluate "$(CHECKPOINT)" $(if $(DATA),--data "$(DATA)")

eval-guide: ## Measure the built-in guide on questions that it never saw
	@scripts/install requirements.txt requirements-local.txt requirements-train.txt
	@.venv/bin/python -m training.guide.evaluate $(MODEL_DIR)

export-gguf: ## Write CHECKPOINT (default: the guide) for Ollama and llama.cpp to OUT; smaller: QUANTIZE=q8_0
	@scripts/install requirements.txt requirements-local.txt requirements-train.txt
	@.venv/bin/python -m training.export_gguf "$(or $(CHECKPOINT),models/guide)" $(if $(OUT),"$(OUT)") $(if $(QUANTIZE),--quantize $(QUANTIZE))

settings-table: ## Print the README's tables of settings
	@.venv/bin/python -m scripts.settings_table

clean: ## Remove the environment and what was built
	@rm -rf .venv build
