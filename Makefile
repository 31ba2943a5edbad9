# Every target makes what it needs: a virtual environment with the pinned versions and euds installed into it in place.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: demo test test-slow check crash bench wheel clean

demo: $(STAMP)
	$(BIN)/euds demo

test: $(STAMP)
	$(BIN)/python -m pytest

# Real Ray and an S3 server, too, which nothing else needs.
test-slow: $(STAMP) $(VENV)/slow
	$(BIN)/python -m pytest -m "not gpu"

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --mypy-config-file pyproject.toml euds._core

crash: $(STAMP) $(VENV)/slow
	$(BIN)/python tests/crash.py

bench: $(STAMP)
	$(BIN)/euds bench

wheel: $(STAMP)
	$(BIN)/python -m build --outdir dist

$(STAMP): pyproject.toml constraints.txt setup.py CMakeLists.txt $(wildcard csrc/*.cpp csrc/*/*.?pp csrc/*/*/*.hpp)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[report,dev]"
	touch $(STAMP)

$(VENV)/slow: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[ray,s3,slow]"
	touch $@

clean:
	rm -rf build dist *.egg-info euds/*.so
