# Every target makes what it needs: a virtual environment with the pinned versions and euds installed into it in place.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: demo test test-slow test-vllm check check-style check-types check-stubs crash cluster bench wheel clean

demo: $(STAMP)
	$(BIN)/euds demo

# Two processes of one thread each: tests are many and small, and threads that wait for one another cost more than they save.
# A process that has run out of tests takes over some of the other's.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test: $(STAMP)
	$(PYTEST)

# Real Ray and an S3 server, too, which nothing else needs.
SLOW := not gpu

test-slow: $(STAMP) $(VENV)/slow
	$(PYTEST) -m "$(SLOW)"

# vLLM pins other versions than constraints.txt, so it has an environment of its own; its warnings are not ours to mend.
test-vllm: .venv-vllm/installed
	VLLM_CPU_KVCACHE_SPACE=1 .venv-vllm/bin/python -m pytest -o filterwarnings=default \
		-m "slow or not slow" tests/test_generate_vllm.py

# Three parts that know nothing of one another: `make -j2 check` runs them side by side.
check: check-style check-types check-stubs

check-style: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

check-types: $(STAMP)
	$(BIN)/mypy

check-stubs: $(STAMP)
	$(BIN)/python -m mypy.stubtest --mypy-config-file pyproject.toml euds._core

crash: $(STAMP) $(VENV)/slow
	$(BIN)/python tests/crash.py
	$(BIN)/python tests/crash.py --runs 10 --semantic clusters,samples

# As root, with Debian's iproute2, glusterfs-server, slurmctld, slurmd and slurm-client.
cluster: $(STAMP) $(VENV)/slow
	$(BIN)/python tests/cluster.py

bench: $(STAMP)
	$(BIN)/euds bench

wheel: $(STAMP)
	$(BIN)/python -m build --outdir dist

$(STAMP): pyproject.toml constraints.txt setup.py CMakeLists.txt $(wildcard csrc/*.cpp csrc/*/*.?pp csrc/*/*/*.hpp)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $(STAMP)

.venv-vllm/installed: pyproject.toml tests/vllm-requirements.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet torch==2.13.0
	.venv-vllm/bin/python -m pip install --quiet --no-deps -r tests/vllm-requirements.txt
	.venv-vllm/bin/python -m pip install --quiet --no-deps -e .
	touch $@

$(VENV)/slow: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[ray,s3,slow]"
	touch $@

clean:
	rm -rf build dist *.egg-info euds/*.so $(STAMP) .venv-vllm/installed
