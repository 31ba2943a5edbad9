#!/usr/bin/env bash
# Everything that needs a GPU, in one command of under 8 minutes: build, check, look for bad memory accesses, time, write
# the rows of kernels-cuda.json and scoring-cuda.json and the tables. Peers that are installed are timed beside euds.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
cmake --preset dev -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" -DPython_EXECUTABLE="$(command -v "$python")" > build.log
cmake --build --preset dev >> build.log
rm build.log
export PYTHONPATH=$PWD EUDS_REQUIRE_GPU=1
# The plain options only: this Python need not have every plugin that pyproject.toml configures.
tests=("$python" -m pytest -q -p no:cacheprovider -o addopts= -o filterwarnings= -o timeout= tests/test_gpu.py)
timeout 120 "${tests[@]}"
if command -v compute-sanitizer > /dev/null; then
  timeout 60 compute-sanitizer --tool memcheck --error-exitcode 9 "${tests[@]}" -k odd
fi
timeout 240 "$python" benchmarks/bench_kernels.py --device cuda
timeout 90 "$python" benchmarks/bench_scoring_gpu.py
