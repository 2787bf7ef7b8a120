PYTHON ?= python3
VENV := .venv/bin
NPM := $(shell command -v npm 2>/dev/null)
ifneq ($(NPM),)
EXAMPLE_JS := client-example/node_modules/.package-lock.json
TEST_JS := tests/acceptance/js/node_modules/.package-lock.json
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install run test lint format types requirements bench image clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: .venv/.installed $(EXAMPLE_JS) ## Create .venv with the pinned packages, and those of the example page
ifeq ($(NPM),)
	@echo "npm was not found, so the example page is left out. Install Node 20 or newer to have it at /example/."
else
	@:
endif

run: install ## Serve the two demo apps on 127.0.0.1:3030, with their data in data/
	@$(VENV)/python -m server serve --data data --apply demo.yaml

test: .venv/.installed-dev $(EXAMPLE_JS) $(TEST_JS) ## Run every test (some of them: make test ARGS="tests/unit -x")
	@$(VENV)/python -m pytest $(or $(ARGS),-n 2 --dist loadfile --no-loadscope-reorder)

lint: .venv/.installed-dev ## Check style, layout and the direction of imports
	@$(VENV)/ruff check
	@$(VENV)/ruff format --check
	@$(VENV)/lint-imports

format: .venv/.installed-dev ## Mend what lint can mend
	@$(VENV)/ruff check --fix
	@$(VENV)/ruff format

types: .venv/.installed-dev ## Check types, those of the tests too
	@$(VENV)/mypy

requirements: .venv/.installed-dev ## Show which tests prove which requirement
	@$(VENV)/python -m tests.support.requirements

bench: .venv/.installed-dev ## Measure how fast it is (make bench ARGS=--help)
	@$(VENV)/python -m bench $(ARGS)

image: ## Build the container image
	docker build --tag roost .

clean: ## Remove what install and the tools made; data/ stays
	rm -rf .venv client-example/node_modules tests/acceptance/js/node_modules
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The stamps say from which lock the packages in .venv are; pip leaves alone what is already there.
.venv/.installed: requirements.lock
.venv/.installed-dev: requirements-dev.lock
.venv/.installed .venv/.installed-dev:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Roost needs Python 3.11 or newer. Name one with: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "Python cannot make virtual environments here. Install that with: sudo apt-get install python3-venv"; exit 1; }
	@echo "Installing the packages of $< into .venv; the first time this takes a minute ..."
	@$(PYTHON) -m venv .venv
	@$(VENV)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

%/node_modules/.package-lock.json: %/package-lock.json
	@echo "Installing the JavaScript packages of $* ..."
	@cd $* && npm ci --no-audit --no-fund --loglevel=error
	@touch $@
