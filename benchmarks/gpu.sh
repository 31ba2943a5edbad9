#!/usr/bin/env bash
# Everything that needs a GPU, in one command of at most ten minutes: build, check, time, look for bad memory accesses.
# Writes the rows of kernels-cuda_GPU.json and scoring-cuda_GPU.json and the tables; peers that are installed are timed
# beside euds. Every step runs whatever became of the others; the last line names those that failed. Results and a log
# are also put into the folder $OUT, if that is set.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} HF_HUB_OFFLINE=1 TQDM_DISABLE=1 EUDS_REQUIRE_GPU=1 PYTHONUNBUFFERED=1
shopt -s nullglob
failed=()

keep() {
  [[ -z ${OUT:-} ]] || cp benchmarks/results/*-cuda_*.json benchmarks/README.md "$OUT"
}

step() {  # NAME SECONDS COMMAND...: at most so long, interrupted first so that Python can still say what it has
  echo "== $1, at most $2 s"
  timeout --signal=INT --kill-after=5 "$2" "${@:3}" || failed+=("$1 ($?)")
  keep
}

build() {
  cmake --preset dev -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" \
    -DPython_EXECUTABLE="$(command -v "$python")" && cmake --build --preset dev
}
export -f build
export python

# The plain options only: this Python need not have every plugin that pyproject.toml configures.
tests=("$python" -m pytest -q -p no:cacheprovider -o addopts= -o filterwarnings= -o timeout=0 tests/test_gpu.py)

main() {
  nvidia-smi || true
  # Nothing here needs the extension; where it cannot be built, the rest still counts.
  timeout --kill-after=5 30 bash -c build || echo "not built ($?)"
  step tests 100 "${tests[@]}"
  step kernels 190 "$python" benchmarks/bench_kernels.py --device cuda --seconds 165
  step scoring 200 "$python" benchmarks/bench_scoring_gpu.py
  step tables 5 "$python" benchmarks/table.py
  # Last, as it slows everything down: a part of the tests, each tensor allocated on its own so that its end is known.
  if command -v compute-sanitizer > /dev/null; then
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 timeout --kill-after=5 60 compute-sanitizer --tool memcheck --error-exitcode 9 \
      "${tests[@]}" -k "planted and (1025 or 5003) or projections and 130 or sample"
    sanitized=$?
    # Out of time it has found nothing so far; anything else is a bad access, or a test that fails.
    [[ $sanitized == 0 || $sanitized == 124 || $sanitized == 137 ]] || failed+=("compute-sanitizer ($sanitized)")
  fi
  [[ ${#failed[@]} -eq 0 ]] || { printf 'FAILED: %s\n' "${failed[@]}"; return 1; }
}

trap keep EXIT
if [[ -n ${OUT:-} ]]; then
  main 2>&1 | tee "$OUT/gpu.log"
else
  main
fi
