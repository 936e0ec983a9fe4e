# Everything that a developer runs. Only Python 3.11 or newer and make are presumed; `make setup` does the rest.
#
#   make         format, lint, types, imports, unit, properties, contract: under a minute
#   make test    everything, on a real Apache Kafka that it starts (or FEED_TEST_KAFKA=host:port)
#   make demo    the whole service on simulated venues (ARGS="--port 9000 --seconds 60")
#   make bench   the figures of the main job, on a real Apache Kafka
#   make kafka   a real Apache Kafka in the foreground (ARGS="--port 9092 --data FOLDER")
#   make alone   how much of each module of the core its own test module covers (ARGS="feed/channels/log.py")
#   make fix     formats, and mends what the linter can mend
#   make lock    resolves the dependencies anew: all of them, and what of them an image needs and is built with

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SOURCES := feed replay schemas ops/kafka tests
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-annotate
BACKEND = $(shell sed -n 's/^requires = \["\(.*\)"\]$$/\1/p' pyproject.toml)
QUICK := -m "not kafka and not slow and not browser"
ARGS ?=

.DEFAULT_GOAL := check
.PHONY: check setup format lint types imports unit properties contract test demo bench kafka alone fix lock clean

check: format lint types imports unit properties contract

setup: $(READY)

# uv installs in 5 s what takes pip 35; where it cannot (an index that only pip is configured for), pip does it.
$(READY): ops/requirements.lock pyproject.toml | $(BIN)/python
	@echo "installing what ops/requirements.lock says into $(VENV)"
	@sed -n '/^uv==/,/[^\\]$$/p' ops/requirements.lock > $(VENV)/uv.lock
	@$(PIP) --require-hashes --only-binary :all: -r $(VENV)/uv.lock
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes --no-build -r ops/requirements.lock || \
		$(PIP) --require-hashes --only-binary :all: -r ops/requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@$(PYTHON) -m venv $(VENV)

format: $(READY)
	$(BIN)/ruff format --check $(SOURCES)

lint: $(READY)
	$(BIN)/ruff check $(SOURCES)

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

unit: $(READY)
	$(BIN)/python -m pytest -q $(QUICK) tests/feed tests/replay tests/schemas tests/ops tests/bench

properties: $(READY)
	$(BIN)/python -m pytest -q $(QUICK) tests/properties

contract: $(READY)
	$(BIN)/python -m pytest -q $(QUICK) tests/contract

test: $(READY)
	$(BIN)/python -m pytest $(ARGS)

demo: $(READY)
	$(BIN)/feed demo $(ARGS)

bench: $(READY)
	$(BIN)/python -m tests.bench $(ARGS)

kafka: $(READY)
	$(BIN)/python ops/kafka/broker.py $(ARGS)

alone: $(READY)
	$(BIN)/python tests/contract/own_coverage.py $(ARGS)

fix: $(READY)
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

lock: $(READY)
	$(COMPILE) --upgrade --extra demo --extra dev --output-file ops/requirements.lock pyproject.toml
	$(COMPILE) --upgrade --constraint ops/requirements.lock --extra avro --extra protobuf \
		--output-file ops/docker/runtime.lock pyproject.toml
	echo "$(BACKEND)" | $(COMPILE) --upgrade --constraint ops/requirements.lock --output-file ops/docker/build.lock -

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
