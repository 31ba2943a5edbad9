#!/usr/bin/env bash
# Everything that needs a GPU, in one command of under 8 minutes: build, check, time, look for bad memory accesses. Writes
# the rows of kernels-cuda.json and scoring-cuda.json and the tables; peers that are installed are timed beside euds.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
cmake --preset dev -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" -DPython_EXECUTABLE="$(command -v "$python")"
cmake --build --preset dev
export PYTHONPATH=$PWD EUDS_REQUIRE_GPU=1
# The plain options only: this Python need not have every plugin that pyproject.toml configures.
tests=("$python" -m pytest -q -p no:cacheprovider -o addopts= -o filterwarnings= -o timeout=0 tests/test_gpu.py)
timeout 100 "${tests[@]}"
timeout 230 "$python" benchmarks/bench_kernels.py --device cuda
timeout 80 "$python" benchmarks/bench_scoring_gpu.py
# Last, as it slows everything down: what it has not reached when its time is over is not checked.
if command -v compute-sanitizer > /dev/null; then
  timeout 60 compute-sanitizer --tool memcheck --error-exitcode 9 "${tests[@]}" -k odd
fi
