"""The box search on this machine: 64 bins an axis, every objective, and ten million rows from scores to a written file.

Prints one JSON row a measurement. A time is printed only after the box is found the same on one thread and on all, and
its count, volume and lift agree with the rows.

    python benchmarks/bench_search.py
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import euds
from euds.ops.ranks import check_threads, rank_rows
from euds.types import Box, Float64Array

GRID_ROWS = 1_000_000
PIPELINE_ROWS = 10_000_000
KEEPS = (0.16, 0.02, 0.5)
ROUNDS = 3


def main() -> None:
    """Measure the searches, then the stages of the pipeline."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(GRID_ROWS, 3))
    correlated = 0.7 * rng.normal(size=(GRID_ROWS, 1)) + 0.51**0.5 * noise
    for name, scores in (("independent", noise), ("correlated", correlated)):
        for keep in KEEPS:
            for objective in ("volume", "lift", "utility"):
                measure_search(name, scores, keep, objective)
    del noise, correlated
    measure_pipeline(rng.normal(size=(PIPELINE_ROWS, 3)))


def measure_search(name: str, scores: Float64Array, keep: float, objective: str) -> None:
    """Time `find_box`, ranking and trimming included."""
    utility = np.abs(np.random.default_rng(1).normal(size=len(scores)))
    most = min(1.0, 1.05 * keep) if objective == "utility" else None

    def search(n_threads: int) -> Box:
        return euds.find_box(
            scores, keep=keep, max_keep=most, objective=objective, utility=utility, n_threads=n_threads
        )

    check(scores, search(1), search(check_threads(None)))
    report(
        f"find_box {objective}", {"data": name, "keep": keep, "bins": 64}, scores, lambda: search(check_threads(None))
    )


def measure_pipeline(scores: Float64Array) -> None:
    """Time ranking alone, and all from scores to the written ids of the kept rows."""
    check(scores, euds.find_box(scores, keep=0.16, n_threads=1), euds.find_box(scores, keep=0.16))
    report("rank_rows", {}, scores, lambda: rank_rows(scores))
    with tempfile.TemporaryDirectory() as folder:

        def select_and_write() -> None:
            found = euds.find_box(scores, keep=0.16)
            pq.write_table(pa.table({"row_id": found.indices}), Path(folder) / "selected.parquet")

        report("find_box and write", {"keep": 0.16, "bins": 64}, scores, select_and_write)


def check(scores: Float64Array, one: Box, all_threads: Box) -> None:
    """Compare two finds, and the bounds with the rows inside them."""
    if (one.low, one.high) != (all_threads.low, all_threads.high) or not np.array_equal(
        one.indices, all_threads.indices
    ):
        raise SystemExit("the box depends on the number of threads: nothing is timed that is not right")
    inside = int(((scores >= one.low) & (scores <= one.high)).all(1).sum())
    if inside != one.n_in_region or abs(one.lift * len(scores) * one.volume - inside) > 1e-6 * inside:
        raise SystemExit("the box does not hold what it says: nothing is timed that is not right")


def report(op: str, facts: dict[str, object], scores: Float64Array, work: Callable[[], object]) -> None:
    """Print the median and the extremes of a few rounds."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    row = {"op": op, **facts, "rows": len(scores), "axes": scores.shape[1], "threads": check_threads(None), "unit": "s"}
    row |= {
        "median": round(statistics.median(seconds), 3),
        "low": round(min(seconds), 3),
        "high": round(max(seconds), 3),
    }
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
