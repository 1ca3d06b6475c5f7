# Two commands do all of their own set-up: `make demo` answers a question and trains two small models, `make test` proves the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
QUERY ?= What are the impacts of renewable energy on global sustainability?
TEXT ?= The arc lamp was
DEMO := --save_dir models/demo --dataset_name demo
LEARN := --model_name smollm2 --init_from_pretrained --trained_layers 8 --learning_rate 3e-4 --steps_per_epoch 32 --num_epochs 1 --batch_size 2 \
	--held_out_tokens 2048 --accumulation_steps 1 --num_layers 2 --num_experts 1 --num_token_heads 1 --next_weight 0 --span_weight 0 \
	--causal_weight 1 --alpha 0 --beta 0
IMAGINE := --transformer_model_path models/demo --num_epochs 1 --accumulation_steps 1 --unroll_length 3 --text.context_tokens 16 \
	--text.least_steps 40 --steps_per_epoch 40 --text.stretches_per_round 128 --text.stretches_to_settle 512
WRITE := --task train_llm_world --mode inference $(DEMO) --max_new_tokens 48
CHECKS := lint format export-check layers types readme-check docs notebooks pytest wheel

.PHONY: help setup setup-demo demo site app test update reformat readme drivers clean $(CHECKS)

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "make %-14s %s\n", $$1, $$2}'
	@echo "single checks: $(CHECKS)"

setup: ## .venv with every extra, the offline models, Chromium and pandoc (a second run changes nothing)
	@python="$$(PYTHON="$(PYTHON)" sh tools/find_python.sh)" && "$$python" tools/setup_env.py all && "$$python" tools/fetch_axe.py

setup-demo: ## .venv with what answering needs
	@python="$$(PYTHON="$(PYTHON)" sh tools/find_python.sh)" && "$$python" tools/setup_env.py demo

demo: setup-demo ## set up, answer one question with checkable sources, then train a small language model and a world model of it, and let them write
	@$(BIN)/python main_menu.py --task test_agent --query "$(QUERY)"
	@printf '\nNow SmolLM2 reads the demo site for about a minute (held-out loss before and after), and a world model takes as long to imagine its states:\n'
	@$(BIN)/python lightbulb_LM.py $(DEMO) $(LEARN)
	@$(BIN)/python lightbulb_WM.py $(DEMO) $(IMAGINE)
	@printf '\nThe likeliest pieces of words one after the other, some that are drawn, and what is planned in the imagined states.\nIt has read for a minute: the sentences are English, what they say is often wrong.\n'
	@$(BIN)/python main_menu.py $(WRITE) --query "$(TEXT)" --planner greedy
	@$(BIN)/python main_menu.py $(WRITE) --query "$(TEXT)" --planner sample
	@$(BIN)/python main_menu.py $(WRITE) --query "$(TEXT)" --planner mcts

site: setup ## the notebooks as a site in _docs: by quarto where it is installed, by pandoc otherwise
	@$(BIN)/python tools/build_docs.py --quarto

app: setup-demo ## the notebooks to work in as pages without code, at http://127.0.0.1:8866
	@$(BIN)/python tools/app.py

test: setup ## every check below, then one line with the counts
	@$(BIN)/python tools/check.py $(CHECKS)

$(CHECKS): setup
	@$(BIN)/python tools/check.py $@

update: setup ## write modules, index, sidebar and README from the notebooks, and clean the notebooks
	@$(BIN)/python tools/format.py && $(BIN)/nbdev_export && $(BIN)/nbdev_clean && $(BIN)/python tools/build_docs.py --sidebar && $(BIN)/python tools/readme.py

reformat: setup ## write notebooks, tests, tools and benchmarks as the formatter would
	@$(BIN)/python tools/format.py && $(BIN)/nbdev_export && $(BIN)/nbdev_clean

readme: setup ## write README.md from nbs/index.ipynb
	@$(BIN)/python tools/readme.py

drivers: setup ## in this clone: git merges notebooks cell by cell and shows their differences as text
	@$(BIN)/python tools/notebook.py drivers

clean: ## remove what the checks built (not .venv)
	@rm -rf _docs _proc build dist .pytest_cache .hypothesis .ruff_cache .import_linter_cache
