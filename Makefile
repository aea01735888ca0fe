# Every target sets itself up: a machine with Python 3.11 or newer and make needs nothing else.
#   make demo [ARGS="--seconds 30 --no-ui"]
#   make test [ARGS="tests/cli -x"]
#   make long
#   make bench [NAME=kernel]
#   make soak [MINUTES=30 SEED=1]

PYTHON ?= python3
ARGS ?=
COMPOSE ?= build
FAULTS ?= 200
MINUTES ?= 30
SEED ?= 1
LOG ?= kafka
SECONDS ?= 86400
NAME ?=
WORKERS ?= 4
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup chaos compose-test identity soak demo test long integration bench lint format clean

help:
	@echo "make demo         the whole pipeline on this machine, for a minute   ARGS=\"--seconds 30\""
	@echo "make test         every test that can run here                      ARGS=\"tests/cli -x\""
	@echo "make long         what takes too long for each change: more kills, more faults, more stores"
	@echo "make integration  the tests on a real Kafka"
	@echo "make bench        all benchmarks; each prints ratios and one JSON line   NAME=kernel"
	@echo "make chaos        workers killed, frozen, moved                     FAULTS=200 SEED=1 LOG=kafka|sqlite"
	@echo "make identity     live, replay, batch, Dask: one hash for each market and day   SECONDS=86400"
	@echo "make soak         collectors through every fault of an exchange       MINUTES=30 SEED=1"
	@echo "make compose-test the stack in Docker, each container killed      COMPOSE=built takes the images that are there"
	@echo "make lint         ruff and strict mypy"
	@echo "make format       ruff format and its safe fixes"
	@echo "make clean        remove the environment, tools and caches"

setup: $(READY)

$(READY): uv.lock pyproject.toml $(wildcard */pyproject.toml services/*/pyproject.toml) deploy/bootstrap.py
	@$(PYTHON) deploy/bootstrap.py
	@touch $@

demo: $(READY)
	@$(BIN)/fluxforge demo $(ARGS)

test: $(READY)
	@$(BIN)/python tests/go_tools.py
	@$(BIN)/python tests/chromium_browser.py
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not long" $(ARGS)

long: $(READY)
	@$(BIN)/python tests/go_tools.py
	@CROSS_KILLS=20 REPROCESS_KILLS=10 S3_FAULT_PLANS=16 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m "long or slow" $(ARGS)

integration: $(READY)
	@$(BIN)/python -m pytest -q -m kafka $(ARGS)

bench: $(READY)
	@$(BIN)/python -m benchmarks $(NAME)

chaos: $(READY)
	@CHAOS="faults=$(FAULTS) seed=$(SEED) log=$(LOG)" $(BIN)/python -m pytest -q tests/chaos $(ARGS)

identity: $(READY)
	@IDENTITY="seconds=$(SECONDS)" $(BIN)/python -m pytest -q tests/integration/test_identity.py $(ARGS)

soak: $(READY)
	@SOAK="minutes=$(MINUTES) seed=$(SEED)" $(BIN)/python -m pytest -q tests/soak $(ARGS)

compose-test: $(READY)
	@COMPOSE="$(COMPOSE)" $(BIN)/python -m pytest -q tests/compose $(ARGS)

lint: $(READY)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(READY)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis
