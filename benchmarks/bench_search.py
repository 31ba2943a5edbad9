"""The searches on this machine: histograms against the memory, boxes against trying them all, and a whole pipeline.

A time is printed only after the result is right: counts as NumPy's, the box the same on one thread and on all and as
small as the smallest of all boxes, its count, volume and lift as the rows say. Optional peer: boost-histogram.

    python benchmarks/bench_search.py                   # everything
    python benchmarks/bench_search.py --part histogram  # only that; the other rows of results/search-cpu*.json stay
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from environment import environment, kept_rows, results_path
from table import write_tables
from timing import interleave, peak_memory_mib

import euds
from euds.ops.histogram import equal_mass_edges, equal_width_edges
from euds.ops.ranks import check_threads, rank_rows
from euds.types import Box, Float64Array

PACKAGES = ("euds", "numpy", "boost-histogram", "torch")
HISTOGRAM_ROWS, NUMPY_ROWS = 100_000_000, 10_000_000
BRUTE_ROWS, BRUTE_BINS = 100_000, 16
GRID_ROWS, PIPELINE_ROWS = 1_000_000, 10_000_000
KEEP = 0.16
Row = dict[str, Any]
Call = Callable[[int], object]


def main() -> None:
    """Measure the parts that are asked for, and write rows and tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=list(PARTS), help="only this part")
    part = parser.parse_args().part
    path, facts = results_path("search"), environment(PACKAGES)
    before = [] if part is None else kept_rows(path, facts)
    rows = {name: [row for row in before if row["part"] == name] for name in PARTS}
    for name in PARTS if part is None else [part]:
        rows[name] = [{"part": name, **row} for row in PARTS[name]()]
    content = {"environment": facts, "rows": [row for own in rows.values() for row in own]}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    write_tables()


def histogram_part() -> list[Row]:
    """Bins of float32 values, equally wide ones and those of equal mass, against reading the values once."""
    rng = np.random.default_rng(0)
    values = rng.random(HISTOGRAM_ROWS, dtype=np.float32)
    rows = []
    for bins in (64, 512):
        rows += fill_rows("Histogram.add", values, equal_width_edges(0.0, 1.0, bins), uniform=True)
    rng.standard_normal(out=values, dtype=np.float32)
    for bins in (64, 512):
        edges = equal_mass_edges(values[:GRID_ROWS], bins)
        edges[0], edges[-1] = values.min(), values.max()
        rows += fill_rows("Histogram.add, equal mass", values, edges, uniform=False)
    return rows


def fill_rows(op: str, values: np.ndarray, edges: Float64Array, *, uniform: bool) -> list[Row]:
    """Time the filling of one histogram; what does not know equal widths counts fewer rows."""
    bins, few = len(edges) - 1, values[:NUMPY_ROWS]
    if fill(edges, few).tolist() != np.histogram(few, edges)[0].tolist():
        raise SystemExit("the counts are not NumPy's: nothing is timed that is not right")
    words = torch.from_numpy(values).view(torch.int32)
    many: dict[str, Call] = {"euds": again(fill, edges, values)}
    fewer: dict[str, Call] = {}
    if uniform:
        fewer["NumPy, equal widths"] = again(np.histogram, few, bins, (edges[0], edges[-1]))
    else:
        fewer["NumPy"] = again(np.histogram, few, edges)
    peer = boost(edges, values if uniform else few, uniform=uniform)
    if peer is not None:
        (many if uniform else fewer)["boost-histogram, all threads"] = peer
    many["memory read"] = lambda _: words.max()
    facts = {"op": op, "bins": bins, "axes": 1}
    large = measure(facts, many, len(values), rounds=7, limit="memory read", bytes_a_row=4)
    small = measure(facts, fewer, NUMPY_ROWS, rounds=3)
    for row in small:
        row["ratio_to_euds"] = round(row["p50"] / large[0]["p50"], 5)
    return [*large, *small]


def fill(edges: Float64Array, values: np.ndarray) -> np.ndarray:
    """Count values with euds."""
    histogram = euds.Histogram(edges)
    histogram.add(values)
    return histogram.counts


def again(function: Callable[..., object], *arguments: object) -> Call:
    """Return a call that does the same in every round."""
    return lambda _: function(*arguments)


def find(scores: Float64Array) -> Box:
    """Find the box of 64 bins a score."""
    return euds.find_box(scores, keep=KEEP)


def boost(edges: Float64Array, values: np.ndarray, *, uniform: bool) -> Call | None:
    """Return boost-histogram's way to do it, or None, with a word, where it is not installed."""
    try:
        import boost_histogram
    except ImportError:
        print("left out boost-histogram: not installed", file=sys.stderr)
        return None

    regular = boost_histogram.axis.Regular(len(edges) - 1, edges[0], edges[-1])
    axis = regular if uniform else boost_histogram.axis.Variable(edges)
    return lambda _: boost_histogram.Histogram(axis).fill(values, threads=check_threads(None))


def box_part() -> list[Row]:
    """The box of 16 bins an axis against trying all of them, then of 64 bins on a million rows."""
    scores = np.random.default_rng(0).normal(size=(BRUTE_ROWS, 3))
    found = euds.find_box(scores, keep=KEEP, bins=BRUTE_BINS)
    check(scores, found, euds.find_box(scores, keep=KEEP, bins=BRUTE_BINS, n_threads=1))
    volume = smallest_volume(scores)
    if abs(volume - found.volume) > 1e-12:
        raise SystemExit(f"the smallest of all boxes has volume {volume}, found was {found.volume}")
    calls: dict[str, Call] = {
        "euds": lambda _: euds.find_box(scores, keep=KEEP, bins=BRUTE_BINS),
        "NumPy, all boxes of a summed-area table": lambda _: smallest_volume(scores),
    }
    rows = measure({"op": "find_box", "bins": BRUTE_BINS, "axes": 3}, calls, len(scores), rounds=3)
    noise = np.random.default_rng(0).normal(size=(GRID_ROWS, 3))
    common = 0.7 * np.random.default_rng(1).normal(size=(GRID_ROWS, 1)) + 0.51**0.5 * noise
    for name, data in (("independent", noise), ("correlated", common)):
        check(data, euds.find_box(data, keep=KEEP), euds.find_box(data, keep=KEEP, n_threads=1))
        facts = {"op": f"find_box, {name}", "bins": 64, "axes": 3}
        rows += measure(facts, {"euds": again(find, data)}, len(data), rounds=5)
    stable = {"euds": lambda _: euds.region_stability(noise, keep=KEEP, rule="box")}
    return rows + measure({"op": "region_stability, 100 pools", "bins": 32, "axes": 3}, stable, len(noise), rounds=3)


def smallest_volume(scores: Float64Array) -> float:
    """Rank volume of the smallest box that holds enough rows, by looking at every one."""
    n = len(scores)
    doubled = rank_rows(scores).doubled.astype(np.int64)
    codes = BRUTE_BINS * doubled // (2 * n)
    counts = np.zeros((BRUTE_BINS,) * 3, np.int64)
    np.add.at(counts, tuple(codes), 1)
    sums = np.pad(counts, ((1, 0),) * 3).cumsum(0).cumsum(1).cumsum(2)
    low, high = np.array(list(combinations(range(BRUTE_BINS + 1), 2))).T
    shares = [(counts.sum(axes).cumsum() / n) for axes in ((1, 2), (0, 2), (0, 1))]
    widths = [np.append(0, share)[high] - np.append(0, share)[low] for share in shares]
    slabs = sums[high] - sums[low]
    planes = slabs[:, high] - slabs[:, low]
    inside = planes[:, :, high] - planes[:, :, low]
    volumes = widths[0][:, None, None] * widths[1][None, :, None] * widths[2][None, None, :]
    return float(volumes[inside >= int(np.ceil(KEEP * n))].min())


def pipeline_part() -> list[Row]:
    """Ten million rows: ranks alone, and all from scores to the written ids of the kept rows."""
    scores = np.random.default_rng(2).normal(size=(PIPELINE_ROWS, 3))
    check(scores, euds.find_box(scores, keep=KEEP), euds.find_box(scores, keep=KEEP, n_threads=1))
    with tempfile.TemporaryDirectory() as folder:

        def select_and_write(_: int) -> None:
            found = euds.find_box(scores, keep=KEEP)
            pq.write_table(pa.table({"row_id": found.indices}), Path(folder) / "selected.parquet")

        ranking = measure({"op": "rank_rows", "axes": 3}, {"euds": lambda _: rank_rows(scores)}, len(scores), rounds=3)
        facts = {"op": "find_box and write", "bins": 64, "axes": 3}
        return ranking + measure(facts, {"euds": select_and_write}, len(scores), rounds=3)


PARTS: Mapping[str, Callable[[], list[Row]]] = {
    "histogram": histogram_part,
    "box": box_part,
    "pipeline": pipeline_part,
}


def check(scores: Float64Array, found: Box, one_thread: Box) -> None:
    """Compare two finds, and the bounds with the rows inside them."""
    if (found.low, found.high) != (one_thread.low, one_thread.high) or not np.array_equal(
        found.indices, one_thread.indices
    ):
        raise SystemExit("the box depends on the number of threads: nothing is timed that is not right")
    inside = int(((scores >= found.low) & (scores <= found.high)).all(1).sum())
    if inside != found.n_in_region or abs(found.lift * len(scores) * found.volume - inside) > 1e-6 * inside:
        raise SystemExit("the box does not hold what it says: nothing is timed that is not right")


def measure(
    facts: Row, calls: Mapping[str, Call], n: int, *, rounds: int, limit: str | None = None, bytes_a_row: int = 0
) -> list[Row]:
    """Time contenders in turn, print a line each, and return their rows."""
    timings = interleave(calls, rounds=rounds, n_inputs=1, device="cpu")
    rows = []
    for name, timing in timings.items():
        row = {**facts, "contender": name, "rows": n, "threads": check_threads(None), "unit": "Mrows/s"}
        row |= {
            "p20": round(n / 1e6 / timing.p80, 4),
            "p50": round(n / 1e6 / timing.p50, 4),
            "p80": round(n / 1e6 / timing.p20, 4),
            "milliseconds": round(1e3 * timing.p50, 3),
            "limit": limit,
            "bytes": bytes_a_row * n or None,
            "bytes_formula": "4 bytes a value, each read once" if bytes_a_row else None,
            "gb_per_s": round(bytes_a_row * n / timing.p50 / 1e9, 2) if bytes_a_row else None,
            "ratio_to_limit": None if limit is None else round(timings[limit].p50 / timing.p50, 4),
            "ratio_to_euds": None if "euds" not in timings else round(timings["euds"].p50 / timing.p50, 5),
            "peak_memory_mib": round(peak_memory_mib(calls[name], device="cpu"), 1),
        }
        print(f"{row['op']}, {name}: {row['p50']} Mrows/s, {row['milliseconds']} ms", file=sys.stderr)
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
