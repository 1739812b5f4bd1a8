# Every target does its own set-up; nothing else has to be typed.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help install train test bench lint format clean

help:           ## show this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: *[^#]*##/\t/'

install: $(INSTALLED) ## create .venv with the tested versions

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[offline,dev,data,app,lora,search,index,bench,ray,export]"
	@touch $@

train: install  ## train configs/quickstart.yaml into outputs/quickstart and show what it learned
	$(BIN)/python train.py configs/quickstart.yaml

test: install   ## run the whole test suite
	$(BIN)/python -m pytest

bench: install  ## training speed beside sentence-transformers, on the packaged rows
	$(BIN)/python benchmarks/training.py --output outputs/bench

lint: install   ## ruff, mypy, typos and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/typos
	$(BIN)/python -m pytest tests/test_import_rules.py -n 0

format: install ## mend what a program can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:          ## remove the environment and caches, not your outputs
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build *.egg-info
