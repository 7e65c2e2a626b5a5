# Each target creates the virtual environment that it needs (.ci/setup).

.DEFAULT_GOAL := help
.PHONY: help demo serve test thorough lint docs bench faults chaos celery mutants pictures clean

python := .venv/bin/python
# More arguments for pytest, the benchmark, faults and mutants: make test ARGS="-k outbox -x"
ARGS ?=
# Arguments of the benchmark's parts on stored messages, consuming and tasks: empty for the full sizes.
STORED ?= --quick
# Processes that share the test suite (auto: two more than there are cores).
WORKERS ?= auto
# Else each of many processes would compile the package, and each worker all tests, again and again.
unexport PYTHONDONTWRITEBYTECODE

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'Variables: ARGS, WORKERS, PYTHON (an interpreter), RMQ_URL (a broker), PORT (of serve).'

demo: ## Place 200 orders in the example shop and read their messages back
	@.ci/setup $(if $(RMQ_URL),,--try-server) test
	@$(python) -m example_project.demo

serve: ## Run the example shop until Ctrl-C
	@.ci/setup $(if $(RMQ_URL),,--try-server) test
	@$(python) -m example_project.demo.serve

test: ## Run the test suite, without what takes long
	@.ci/setup --server --databases --browser test
	@$(python) -m pytest -n $(WORKERS) -m "not thorough" $(ARGS)

thorough: ## Run what takes long: clusters, chaos on every database, checkers tried on liars, peers
	@.ci/setup --server --databases --browser test
	@$(python) -m pytest -n $(WORKERS) -m "thorough or hypothesis" $(ARGS)

lint: ## Check style, types, migrations and settings
	@.ci/setup test lint
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy
	@export DATABASE_URL=sqlite:///:memory: && set -x && \
	$(python) manage.py makemigrations --check --dry-run && $(python) manage.py check

docs: ## Build the documentation into docs/_build
	@.ci/setup test docs
	$(python) -m sphinx -q -W --keep-going -b html docs docs/_build
	@echo 'Built: docs/_build/index.html'

bench: ## Measure throughput and latency, and write the tables of docs/explanation/benchmark.md
	@.ci/setup --server --databases test bench
	@$(python) -m tests.bench --output docs/explanation/benchmark.md $(ARGS)
	@$(python) -m tests.bench.stored --output docs/explanation/benchmark.md $(STORED)
	@$(python) -m tests.bench.consuming --output docs/explanation/benchmark.md $(STORED)
	@$(python) -m tests.bench.tasks --output docs/explanation/benchmark.md $(STORED)

faults: ## Test the engine under faults, with figures (ARGS="--size small": half a minute)
	@.ci/setup --server test
	@$(python) -m tests.faults $(ARGS)

celery: ## Have Celery's workers run 2,000 tasks, and compare every result (ARGS="--tasks 200")
	@.ci/setup --server test
	@$(python) -m tests.celery_run $(ARGS)

mutants: ## Break the code on purpose and report what no test detects (ARGS="--list")
	@.ci/setup --server --databases test
	@$(python) -m tests.mutants $(ARGS)

chaos: ## Kill every kind of process and account for every message, with figures (ARGS="--size small": two minutes)
	@.ci/setup --server --databases test
	@$(python) -m tests.chaos $(ARGS)

pictures: ## Take the screenshots of the admin page for the documentation
	@.ci/setup --server --browser test
	@$(python) -m pytest -q tests/browser/pictures.py

clean: ## Remove everything that the other targets create
	rm -rf .venv .venv-* build dist docs/_build *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis shop.sqlite3 shop.sqlite3-*
	find rmq_publisher example_project tests -name __pycache__ -type d -exec rm -rf {} +
