# Everything a fresh machine needs: Python >= 3.11 (python3.11, 3.12, 3.13 or python3) and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test check clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT= $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/archfront search pflayer --strategy nsga2 --trials 24 --epochs 2 --device cpu --seed 0
	@$(BIN)/archfront front pflayer --device cpu --plot front.png | tail -1

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check
	$(BIN)/pytest -n 2 --dist loadgroup --no-loadscope-reorder

clean:
	rm -rf $(VENV)
