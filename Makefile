# `make serve` and `make test` are all that a fresh machine needs: Python 3.11 or newer and a package registry.
PYTHON ?= python3
LISTEN ?= localhost:50051
WEB ?= localhost:8080
BIN := .venv/bin

.PHONY: serve test check protos docs clean

serve: .venv/ready
	$(BIN)/nmt serve --listen $(LISTEN) --web $(WEB)

test: .venv/ready-dev
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

check: .venv/ready-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

protos: .venv/ready-dev
	$(BIN)/python -m protos.generate

docs: .venv/ready-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

.venv/ready-dev: .venv/ready
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist site *.egg-info
