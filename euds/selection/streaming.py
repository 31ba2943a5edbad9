"""`euds.select_streaming`: choose rows of a run whose scores do not fit into memory.

Two passes over the part files give equal-mass edges and a histogram, from which the region is found; a third one finds
how far from its centre a row may lie for exactly b rows to be left; a fourth one writes them. Partial edges and
histograms merge, so that parts can be counted anywhere.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from euds.corpus import corpus_files, part_files, read_manifest
from euds.errors import InputError, InvalidArgument, check_seed, one_of
from euds.files import write_json
from euds.ops.histogram import Histogram
from euds.ops.keep import Keep, parse_keep, tie_hash
from euds.ops.quantiles import EqualMassEdges
from euds.ops.search import find_histogram_box, find_histogram_interval
from euds.selection.axes import ENTROPIES, axis_columns, values_of
from euds.selection.rows import write_rows
from euds.types import AxisBounds, Float64Array, Int64Array, Selection

INTERVAL_RULES = ("low", "middle", "high", "densest")
BOX_RULES = ("igse", "box")
INTERVAL_BINS = 4096
"""Bins of the one-axis rules: a bound is off by less than 1/4,096 of the rows."""

NOT_DONE: dict[str, Any] = {
    **dict.fromkeys(("adjust", "group_by", "groups", "auto", "validated", "keep_auto", "stability", "source_shift")),
    "quantiles": {},
    "length_correlation": {},
}
"""Keys of a selection record that this way leaves empty."""

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Region:
    """A region of whole bins.

    Attributes:
        bounds: on every axis.
        first: lowest bin inside, by axis.
        last: highest bin inside, by axis.
        n_inside: rows in it.
        volume: product of its extents in ranks.
        lift: rows in it over those that independent axes would give.
    """

    bounds: tuple[AxisBounds, ...]
    first: tuple[int, ...]
    last: tuple[int, ...]
    n_inside: int
    volume: float
    lift: float


def select_streaming(
    run_dir: str | Path,
    *,
    keep: Keep,
    rule: str,
    axes: Sequence[str] | None = None,
    seed: int = 0,
    bins: int = 64,
    out: str | Path | None = None,
    columns: Sequence[str] | None = None,
    quantile_limit: int = 1 << 24,
) -> Selection:
    """Choose rows as `euds.select`, in memory that grows with the kept rows only (12 bytes each), not with the scores.

    The region consists of whole equal-mass bins, their edges exact up to `quantile_limit` rows and off by at most
    0.14 % of the rows (99 % confidence) beyond; ranks within a bin are interpolated. Of the rows inside, those farthest
    from the centre in rank space are dropped (the highest for "low", the lowest for "high") until b are left, ties by a
    seeded hash of the row id.

    Args:
        run_dir: finished run directory of `euds.score`.
        keep: fraction in (0, 1] (float) or count (int) of the rows that have the scores which the rule needs.
        rule: "igse", "box" (one to three axes), "low", "middle", "high" or "densest" (one axis); no default, as
            "auto" needs the rows in memory.
        axes: short names or score columns as for `euds.select`; "igse" looks at the three entropies and takes none.
        seed: of ties.
        bins: equal-mass bins per axis of the box search.
        out: Parquet file of the kept rows; `run_dir`/selected.parquet if None.
        columns: fields of the corpus to copy; None: those that were scored (text, id, label, source).
        quantile_limit: rows up to which edges are exact; 8 bytes each an axis.

    Returns:
        The kept row ids and the record that `run_dir`/selection.json holds.

    Raises:
        InvalidArgument: an argument is impossible.
        InputError: the run is missing or unfinished, its corpus has changed, or a score or field is not there.
        MissingExtra: more rows than `quantile_limit`, and `datasketches` is not installed.
    """
    start = time.perf_counter()
    check_seed("seed", seed)
    folder = Path(run_dir)
    manifest = read_manifest(folder)
    files = corpus_files(manifest)
    parts = part_files(folder)
    if not parts:
        raise InputError(f"{folder}/scores: the parts are gone; score into a new directory")
    named = _axes(rule, axes, parts[0])
    n_bins = INTERVAL_BINS if rule in INTERVAL_RULES else bins
    histogram, rank_error = _count(parts, named, n_bins, quantile_limit)
    n_rows = histogram.n_counted
    budget = parse_keep(keep, n_rows)
    region = _find(histogram, rule, named, budget)
    kept = _trimmed(parts, named, histogram, region, rule, budget, seed)
    path = folder / "selected.parquet" if out is None else Path(out)
    rates = write_rows(path, files, parts, kept, _scored_fields(manifest) if columns is None else columns, named)
    record = {
        "rule": rule,
        "search": "histogram",
        "axes": list(named),
        "keep": keep,
        "seed": seed,
        "bins": n_bins,
        "rank_error": rank_error,
        "uses_labels": False,
        "n_rows": n_rows,
        "n_left_out": manifest["counts"]["rows"] - n_rows,
        "n_in_region": region.n_inside,
        "n_kept": len(kept),
        "bounds": [asdict(side) for side in region.bounds],
        "volume": region.volume if rule in BOX_RULES else None,
        "lift": region.lift if rule in BOX_RULES else None,
        **{f"keep_rate_by_{name}": _rates(*rates[name]) for name in ("label", "source")},
        **NOT_DONE,
        "seconds": round(time.perf_counter() - start, 4),
        "config_sha256": manifest["config_sha256"],
        "selected_file": str(path.absolute()),
    }
    write_json(folder / "selection.json", record)
    return Selection(kept, rule, named, n_rows, region.bounds, record)


def _axes(rule: str, axes: Sequence[str] | None, part: Path) -> tuple[str, ...]:
    """Return the score columns that a rule looks at."""
    one_of("rule", rule, (*BOX_RULES, *INTERVAL_RULES))
    if rule == "igse" and axes is not None:
        raise InvalidArgument("axes: rule 'igse' looks at the three entropies; use rule 'box' for axes of choice")
    named = axis_columns(ENTROPIES if rule == "igse" else axes or (), pq.read_schema(part).empty_table())
    most = 1 if rule in INTERVAL_RULES else 3
    if not 1 <= len(named) <= most:
        raise InvalidArgument(f"axes: rule {rule!r} looks at 1 to {most} axes, got {len(named)}")
    return named


def _count(parts: Sequence[Path], columns: Sequence[str], n_bins: int, limit: int) -> tuple[Histogram, float]:
    """Return the histogram of the usable rows on equal-mass edges, and the rank error of the edges."""
    collected = [EqualMassEdges(limit=limit) for _ in columns]
    n_rows = 0
    for row_ids, values in _usable(parts, columns):
        n_rows += len(row_ids)
        for own, axis in zip(collected, values.T, strict=True):
            own.add(axis)
    if n_rows == 0:
        raise InputError(f"{parts[0].parent}: no row has {', '.join(columns)}; see quarantine.jsonl for the reasons")
    histogram = Histogram([own.edges(n_bins) for own in collected])
    for _, values in _usable(parts, columns):
        histogram.add(values[:, 0] if len(columns) == 1 else values)
    return histogram, max(own.rank_error for own in collected)


def _scored_fields(manifest: Mapping[str, Any]) -> list[str]:
    config = manifest["config"]
    carried = (config[f"{name}_field"] for name in ("id", "label", "source"))
    return [*config["text_fields"], *filter(None, carried)]


def _usable(parts: Sequence[Path], columns: Sequence[str]) -> Iterator[tuple[Int64Array, Float64Array]]:
    """Yield row ids (n,) and scores (n, d) of the rows that have them all, some at a time."""
    for part in parts:
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(columns=["row_id", *columns], use_threads=False):
                table = pa.Table.from_batches([batch])
                values = np.column_stack([values_of(table, column) for column in columns])
                usable = np.isfinite(values).all(axis=1)
                yield table.column("row_id").to_numpy()[usable], values[usable]


def _find(histogram: Histogram, rule: str, columns: Sequence[str], budget: int) -> Region:
    if rule in INTERVAL_RULES:
        interval = find_histogram_interval(histogram, keep=budget, rule=rule)
        lows: tuple[float, ...] = (interval.low,)
        highs: tuple[float, ...] = (interval.high,)
    else:
        box = find_histogram_box(histogram, keep=budget)
        lows, highs = box.low, box.high
    n = histogram.n_counted
    counts = histogram.counts
    first, last, bounds = [], [], []
    for axis, (column, low, high) in enumerate(zip(columns, lows, highs, strict=True)):
        edges = histogram.edges[axis]
        first.append(int(np.searchsorted(edges, low)))
        last.append(int(np.searchsorted(edges, high)) - 1)
        below = _below(histogram, axis)
        ranks = below[first[-1]] / n, below[last[-1] + 1] / n
        bounds.append(AxisBounds(column, low, high, *ranks))
    inside = counts[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))]
    n_inside = int(inside.sum())
    volume = float(np.prod([side.high_rank - side.low_rank for side in bounds]))
    return Region(tuple(bounds), tuple(first), tuple(last), n_inside, volume, n_inside / (n * volume))


def _below(histogram: Histogram, axis: int) -> Float64Array:
    """Rows below each edge of an axis."""
    others = tuple(other for other in range(histogram.counts.ndim) if other != axis)
    return np.concatenate(([0.0], np.cumsum(histogram.counts.sum(axis=others))))


def _trimmed(
    parts: Sequence[Path],
    columns: Sequence[str],
    histogram: Histogram,
    region: Region,
    rule: str,
    budget: int,
    seed: int,
) -> Int64Array:
    """Return the ids of the `budget` rows inside that lie nearest the centre, ascending."""
    belows = [_below(histogram, axis) / histogram.n_counted for axis in range(len(columns))]
    ids: list[Int64Array] = []
    distances: list[Float32Array] = []
    for row_ids, values in _usable(parts, columns):
        places = [_bins(histogram.edges[axis], values[:, axis]) for axis in range(len(columns))]
        inside = np.all(
            [
                (first <= own) & (own <= last)
                for own, first, last in zip(places, region.first, region.last, strict=True)
            ],
            axis=0,
        )
        ids.append(row_ids[inside])
        ranks = [np.interp(values[inside, axis], histogram.edges[axis], belows[axis]) for axis in range(len(columns))]
        distances.append(_distance(rule, ranks, region).astype(np.float32))
    found, distance = np.concatenate(ids), np.concatenate(distances)
    if len(found) == budget:
        return found
    threshold = np.partition(distance, budget - 1)[budget - 1]
    nearer, ties = found[distance < threshold], found[distance == threshold]
    order = np.argsort(tie_hash(ties, seed), kind="stable")
    return np.sort(np.concatenate([nearer, ties[order[: budget - len(nearer)]]]))


def _bins(edges: Float64Array, values: Float64Array) -> Int64Array:
    """Bin of each value; the last edge belongs to the last bin."""
    return np.minimum(np.searchsorted(edges, values, side="right") - 1, len(edges) - 2)


def _distance(rule: str, ranks: Sequence[Float64Array], region: Region) -> Float64Array:
    if rule == "low":
        return ranks[0]
    if rule == "high":
        return 1 - ranks[0]
    centres = [0.5 if rule == "middle" else (side.low_rank + side.high_rank) / 2 for side in region.bounds]
    squares = [(own - centre) ** 2 for own, centre in zip(ranks, centres, strict=True)]
    distance: Float64Array = np.sqrt(np.sum(squares, axis=0))
    return distance


def _rates(pool: Counter[str], kept: Counter[str]) -> dict[str, dict[str, float]] | None:
    if not pool:
        return None
    return {
        name: {"rows": pool[name], "kept": kept[name], "rate": round(kept[name] / pool[name], 4)}
        for name in sorted(pool)
    }
