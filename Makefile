.DEFAULT_GOAL := help
SHELL := bash
BIN := .venv/bin

.PHONY: help setup setup-dev demo up test chaos lint types proto audit bench lock clean

help: ## This list
	@sed -nE 's/^([a-z-]+):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## Make .venv with everything that runs; instant when nothing changed
	@scripts/setup

setup-dev: # ... and everything that tests and checks it
	@scripts/setup dev

demo: setup ## Render one small job on a stack of its own; results in out/demo
	@$(BIN)/draganything demo

up: setup ## The whole service on 127.0.0.1:8000 until Ctrl-C (PORT=, GRPC_PORT=, DATA_DIR=)
	@$(BIN)/draganything up

test: setup-dev ## Every test, against real servers
	$(BIN)/pytest -n 2 --dist loadfile $(TESTS)

chaos: setup-dev ## Kill, freeze and flood the service; the promises of docs/reliability.md (JOBS=, ROWS=)
	$(BIN)/python -m tests.chaos $(if $(JOBS),--jobs $(JOBS)) $(if $(ROWS),--rows $(ROWS))

lint: setup-dev ## Style, formatting, and which package may import which
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

proto: setup-dev ## Generate the gRPC stubs in proto/gen again
	$(BIN)/python scripts/proto

types: setup-dev ## Strict type check
	$(BIN)/mypy

audit: setup-dev ## Known vulnerabilities of the pinned dependencies
	@scripts/audit

bench: setup ## The figures of docs/performance.md, measured on this machine
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m bench.service
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m bench.fast
	@mkdir -p out
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m bench.render --json > out/bench-render.json && cat out/bench-render.json

lock: setup-dev ## Pin every dependency again
	scripts/lock

clean: ## Remove caches and results; .venv and data stay
	rm -rf out build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info client/src/*.egg-info
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +
