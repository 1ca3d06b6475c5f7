# Two commands do all of their own set-up: `make demo` answers a question, `make test` proves the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
QUERY ?= What are the impacts of renewable energy on global sustainability?
CHECKS := lint export-check layers types readme-check docs notebooks pytest wheel

.PHONY: help setup setup-demo demo test update readme clean $(CHECKS)

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "make %-14s %s\n", $$1, $$2}'
	@echo "single checks: $(CHECKS)"

setup: ## .venv with every extra, the offline models, Chromium and pandoc (a second run changes nothing)
	@python="$$(PYTHON="$(PYTHON)" sh tools/find_python.sh)" && "$$python" tools/setup_env.py all

setup-demo: ## .venv with what answering needs
	@python="$$(PYTHON="$(PYTHON)" sh tools/find_python.sh)" && "$$python" tools/setup_env.py demo

demo: setup-demo ## set up, then answer one question with checkable sources
	@$(BIN)/python main_menu.py --task test_agent --query "$(QUERY)"

test: setup ## every check below, then one line with the counts
	@$(BIN)/python tools/check.py $(CHECKS)

$(CHECKS): setup
	@$(BIN)/python tools/check.py $@

update: setup ## write modules, index, sidebar and README from the notebooks, and clean the notebooks
	@$(BIN)/nbdev_export && $(BIN)/nbdev_clean && $(BIN)/python tools/build_docs.py --sidebar && $(BIN)/python tools/readme.py

readme: setup ## write README.md from nbs/index.ipynb
	@$(BIN)/python tools/readme.py

clean: ## remove what the checks built (not .venv)
	@rm -rf _docs _proc build dist .pytest_cache .hypothesis .ruff_cache .import_linter_cache
