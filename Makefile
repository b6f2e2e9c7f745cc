# Two commands on a fresh machine: `make demo` and `make test`. Each does all the set-up it needs.
ARGS ?=
PYTHON ?=
export PYTHON
BIN := .venv/bin
WORKERS ?= 2

.PHONY: help setup demo test lint bench soak models lock clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 8

setup:  ## make .venv with everything for development
	@deploy/setup.sh dev

demo:  ## a vehicle's fault becomes a ticket, on this machine (ARGS="--once" ends by itself)
	@deploy/setup.sh run
	@exec $(BIN)/cansight demo $(ARGS)

test: setup  ## all tests; installs the real servers from Debian packages where it can
	@deploy/services.sh
	@$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

lint: setup  ## format, lint, types and import contracts
	@$(BIN)/ruff format --check --quiet . || { echo 'cansight: run .venv/bin/ruff format .' >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup  ## every benchmark with its rival in the same run
	@$(BIN)/cansight bench $(ARGS)

soak: setup  ## the long forms of the tests (fuzzing, faults), an hour or so
	@deploy/services.sh
	@CANSIGHT_SOAK=1 $(BIN)/python -m pytest -n $(WORKERS) --timeout 3600 $(ARGS)

models: setup  ## train the shipped packs again from the simulator
	@CANSIGHT=$(BIN)/cansight models/packs/retrain.sh $(ARGS)
	@[ -n "$(ARGS)" ] || CANSIGHT=$(BIN)/cansight models/network_packs/retrain.sh

lock:  ## resolve the dependencies again (needs uv)
	@for p in run dev; do \
	  extras="--extra edge --extra cloud --extra sim"; [ $$p = run ] || extras="$$extras --extra log --extra plot --extra poll --extra train --extra dev -c deploy/locks/run.txt"; \
	  uv pip compile --native-tls --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --upgrade \
	    pyproject.toml deploy/locks/build.in $$extras -o deploy/locks/$$p.txt || exit 1; done

clean:  ## remove .venv and every cache
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
