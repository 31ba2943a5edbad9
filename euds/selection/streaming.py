"""`euds.select_streaming`: choose rows of a run whose scores do not fit into memory.

Two passes over the part files give equal-mass edges and counts of bins, from which the region is found; a third one
finds how far from its centre a row may lie for exactly b rows to be left; a fourth one writes them. Partial edges and
histograms merge, so that parts can be counted anywhere.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from euds.corpus import check_fields, corpus_files, read_manifest, readable_scores, run_folder, whole_parts
from euds.errors import InputError, check_seed, one_of, whole_number
from euds.ops.box import check_grid
from euds.ops.histogram import Histogram, marginals_of
from euds.ops.histogram_box import histogram_box
from euds.ops.histogram_interval import densest_bins, ranked_bins
from euds.ops.interval import INTERVAL_RULES
from euds.ops.keep import Keep, number_of, parse_keep, tie_hash
from euds.ops.quantiles import EqualMassEdges
from euds.progress import search_bar, slow_bar
from euds.selection.axes import axis_columns, values_of
from euds.selection.describe import rates_of
from euds.selection.fields import fields_of
from euds.selection.placing import place_selection
from euds.selection.rows import (
    RowWriter,
    output_path,
    score_names,
    write_rows,
)
from euds.selection.rules import BOX_RULES, FIXED_AXES, axes_for, bins_for, named, warn_of_one_row
from euds.types import AxisBounds, Float64Array, Int64Array, ScoreResult, Selection

INTERVAL_BINS = 4096
"""Bins of the one-axis rules: a bound is off by less than 1/4,096 of the rows."""

NOT_DONE: dict[str, Any] = {
    **dict.fromkeys(
        ("adjust", "group_by", "groups", "auto", "validated", "keep_auto", "stability", "source_shift", "label_cues")
    ),
    "fields_as_text": {},
    "quantiles": {},
    "length_correlation": {},
}
"""Keys of a selection record that this way leaves empty."""


@dataclass(frozen=True)
class BinRegion:
    """A region of whole bins.

    Attributes:
        bounds: on every axis.
        sides: lowest and highest bin inside, by axis.
        n_inside: rows in it.
        volume: of a box, the product of its extents in ranks.
        lift: of a box, rows in it over those that independent axes would give.
    """

    bounds: tuple[AxisBounds, ...]
    sides: tuple[tuple[int, int], ...]
    n_inside: int
    volume: float | None = None
    lift: float | None = None


@dataclass(frozen=True, eq=False)
class Bins:
    """The usable rows counted in bins, and the largest value in each bin of each axis."""

    histogram: Histogram
    highest: Sequence[Float64Array]

    def edges(self, axis: int) -> Float64Array:
        """Edges of the bins; each is the lowest value of its bin but for approximate ones."""
        return self.histogram.edges[axis]

    @cached_property
    def below(self) -> list[Int64Array]:
        """Rows below each edge, by axis; made once, as it takes a pass over the grid."""
        return [np.concatenate(([0], np.cumsum(rows))) for rows in marginals_of(self.histogram.counts)]

    def place(self, axis: int, values: Float64Array) -> Int64Array:
        """Bin of each value; the last edge belongs to the last bin."""
        return bin_of(self.edges(axis), values)

    def rank(self, axis: int, values: Float64Array) -> Float64Array:
        """Rank of each value, interpolated within its bin; the mid-rank where a bin holds one value only."""
        edges, below, place, n = self.edges(axis), self.below[axis], self.place(axis, values), self.histogram.n_counted
        tied = self.highest[axis] <= edges[:-1]
        # Integers over 2 n, as in `Ranks`, so that equal distances are equal here, too.
        middle = (below[:-1] + below[1:]) / (2 * n)
        ranks: Float64Array = np.where(tied[place], middle[place], np.interp(values, edges, below / n))
        return ranks


def bin_of(edges: Float64Array, values: Float64Array) -> Int64Array:
    """Return the bin of each value; the last edge belongs to the last bin."""
    return np.minimum(np.searchsorted(edges, values, side="right") - 1, len(edges) - 2)


def select_streaming(
    run_dir: str | Path | ScoreResult,
    *,
    keep: Keep,
    rule: str,
    axes: Sequence[str] | None = None,
    seed: int = 0,
    bins: int | None = None,
    out: str | Path | None = None,
    columns: Sequence[str] | None = None,
    quantile_limit: int = 1 << 24,
    dry_run: bool = False,
) -> Selection:
    """Choose rows as `euds.select`, in memory that grows with the rows of the region and not with the scores.

    The region consists of whole equal-mass bins, its bounds the lowest and the highest score in them. Edges are exact
    up to `quantile_limit` rows; beyond, they are those of as many rows that the seed draws, off by at most 0.04 % of
    all (99 % confidence) at the default. Equal scores share a bin; ranks within a bin of several scores are
    interpolated. Of the rows inside, those farthest from the centre in rank space are dropped (the highest for "low",
    the lowest for "high") until b are left, ties by a seeded hash of the row id. Finding them holds 25 bytes a row of
    the region, which has more than b where scores are equal or bins are coarse; each source has a count.

    Args:
        run_dir: finished run directory of `euds.score`, or what that returned.
        keep: fraction in (0, 1] (float) or count (int) of the rows that have the scores which the rule needs.
        rule: "igse", "box" (one to three axes), "low", "middle", "high" or "densest" (one axis); no default, as
            "auto" needs the rows in memory.
        axes: short names or score columns as for `euds.select`; "igse" looks at the three entropies.
        seed: of ties, and of the sample of more than `quantile_limit` rows.
        bins: equal-mass bins per axis, of rules that search a box; None: 64.
        out: file of the kept rows, as in `euds.select`.
        columns: fields of the corpus to copy, or a single one; None: those that were scored (text, id, label, source).
            Scores are called as in `euds.select`.
        quantile_limit: rows up to which edges are exact, from 1; see `EqualMassEdges` for the memory, of each axis.
        dry_run: choose, and write nothing: the record then lacks keep rates and what concerns a file of rows.

    Returns:
        The kept row ids and the record, which is kept as that of `euds.select`.

    Raises:
        InvalidArgument: an argument is impossible.
        InputError: the run is missing or unfinished, its corpus has changed, or a score or field is not there.
        InvalidType: names, or a path, are of another type.
    """
    start = time.perf_counter()
    seed = check_seed("seed", seed)
    one_of("rule", rule, (*BOX_RULES, *INTERVAL_RULES))
    box_bins = bins_for(rule, bins)
    quantile_limit = whole_number("quantile_limit", quantile_limit, least=1)
    folder = run_folder(run_dir)
    manifest = read_manifest(folder)
    files = corpus_files(manifest)
    path = output_path(folder, out, files, dry_run=dry_run)
    total = manifest["counts"]["rows"]
    # What no pool of the run could satisfy, before any pass over the scores.
    parse_keep(keep, total)
    warn_of_one_row(keep)
    columns = _scored_fields(manifest) if columns is None else named("columns", columns) or ()
    check_fields(files, columns)
    parts = whole_parts(folder)
    axis_names = _axes(rule, axes, parts[0])
    n_bins = INTERVAL_BINS if rule in INTERVAL_RULES else box_bins
    with slow_bar("count", 2 * total, "rows") as advance:
        bins_of_pool, rank_error = _count(_Scores(parts, axis_names, advance), n_bins, quantile_limit, seed)
    n_rows = bins_of_pool.histogram.n_counted
    budget = parse_keep(keep, n_rows)
    region = _find(bins_of_pool, rule, axis_names, budget)
    with slow_bar("trim", total, "rows") as advance:
        kept = _trimmed(_Scores(parts, axis_names, advance), bins_of_pool, region, rule, budget, seed)
    called = score_names(pq.read_schema(parts[0]).names, manifest["config"], columns, files)
    record: dict[str, Any] = {
        "rule": rule,
        "search": "histogram",
        "axes": list(axis_names),
        "keep": number_of(keep),
        "seed": seed,
        "bins": n_bins,
        "rank_error": rank_error,
        "uses_labels": False,
        "n_rows": n_rows,
        "n_left_out": total - n_rows,
        "n_in_region": region.n_inside,
        "n_kept": len(kept),
        "bounds": [asdict(side) for side in region.bounds],
        "volume": region.volume,
        "lift": region.lift,
        **NOT_DONE,
        "config_sha256": manifest["config_sha256"],
    }
    if dry_run:
        return Selection(kept, rule, axis_names, n_rows, region.bounds, record)

    def fill(writer: RowWriter) -> dict[str, Any]:
        with slow_bar("write", total, "rows") as advance:
            fields = fields_of(columns, files)
            rates = write_rows(writer, files, parts, kept, fields, called, axis_names, advance)
        found = {f"keep_rate_by_{name}": rates_of(*rates[name]) or None for name in ("label", "source")}
        return {**record, **found, "seconds": round(time.perf_counter() - start, 4)}

    return Selection(kept, rule, axis_names, n_rows, region.bounds, place_selection(folder, path, columns, fill))


def _axes(rule: str, axes: Sequence[str] | None, part: Path) -> tuple[str, ...]:
    """Return the score columns that a rule looks at."""
    fixed_by = rule if rule in FIXED_AXES else None
    return axis_columns(axes_for(rule, axes), pq.read_schema(part).empty_table(), fixed_by=fixed_by)


@dataclass(frozen=True, eq=False)
class _Scores:
    """The axes of a run's part files; `advance` is told the rows as they are read, usable or not."""

    parts: Sequence[Path]
    axes: Sequence[str]
    advance: Callable[[float], None]

    def usable(self) -> Iterator[tuple[Int64Array, Float64Array]]:
        """Yield row ids (n,) and scores (n, d) of the rows that have them all, some at a time."""
        for part in self.parts:
            with readable_scores(part.parent.parent), pq.ParquetFile(part) as file:
                for batch in file.iter_batches(columns=["row_id", *self.axes], use_threads=False):
                    table = pa.Table.from_batches([batch])
                    values = np.column_stack([values_of(table, axis) for axis in self.axes])
                    usable = np.isfinite(values).all(axis=1)
                    yield table.column("row_id").to_numpy()[usable], values[usable]
                    self.advance(len(values))


def _count(scores: _Scores, n_bins: int, limit: int, seed: int) -> tuple[Bins, float]:
    """Return the usable rows counted in equal-mass bins, and the rank error of the edges."""
    collected = [EqualMassEdges(limit=limit, seed=seed) for _ in scores.axes]
    n_rows = 0
    for row_ids, values in scores.usable():
        n_rows += len(row_ids)
        for own, axis in zip(collected, values.T, strict=True):
            own.add(axis, row_ids)
    if n_rows == 0:
        where = scores.parts[0].parent
        raise InputError(f"{where}: no row has {', '.join(scores.axes)}; see quarantine.jsonl for the reasons")
    found = [own.edges(n_bins) for own in collected]
    # Of few different scores there are fewer bins than were asked for.
    check_grid(n_bins, [len(edges) - 1 for edges in found])
    histogram = Histogram(found)
    # An empty bin, which none but an approximate edge makes, ends where it begins.
    highest = [edges[:-1].copy() for edges in histogram.edges]
    for _, values in scores.usable():
        histogram.add(values[:, 0] if len(scores.axes) == 1 else values)
        for edges, largest, axis in zip(histogram.edges, highest, values.T, strict=True):
            np.maximum.at(largest, bin_of(edges, axis), axis)
    return Bins(histogram, highest), max(own.rank_error for own in collected)


def _scored_fields(manifest: Mapping[str, Any]) -> list[str]:
    config = manifest["config"]
    # The scores have those under these very names already, as text.
    carried = (config[f"{name}_field"] for name in ("id", "label", "source") if config[f"{name}_field"] != name)
    return [*config["text_fields"], *(field for field in carried if field is not None)]


def _find(pool: Bins, rule: str, columns: Sequence[str], budget: int) -> BinRegion:
    if rule in INTERVAL_RULES:
        return _find_interval(pool, rule, columns[0], budget)
    with search_bar() as progress:
        box, sides = histogram_box(pool.histogram, keep=budget, progress=progress)
    # The upper edges of the histogram's box belong to the next bins.
    high = [float(highest[last]) for highest, (_, last) in zip(pool.highest, sides, strict=True)]
    bounds = map(AxisBounds, columns, box.low, high, box.low_rank, box.high_rank)
    return BinRegion(tuple(bounds), sides, box.n_in_region, box.volume, box.lift)


def _find_interval(pool: Bins, rule: str, column: str, budget: int) -> BinRegion:
    counts, lowest, highest = pool.histogram.counts, pool.edges(0)[:-1].copy(), pool.highest[0]
    densest = rule == "densest"
    first, last = densest_bins(lowest, highest, counts, budget) if densest else ranked_bins(counts, rule, budget)
    ends = np.array([lowest[first], highest[last]])
    bounds = AxisBounds(column, *ends.tolist(), *pool.rank(0, ends).tolist())
    return BinRegion((bounds,), ((first, last),), int(counts[first : last + 1].sum()))


def _trimmed(scores: _Scores, pool: Bins, region: BinRegion, rule: str, budget: int, seed: int) -> Int64Array:
    """Return the ids of the `budget` rows inside that lie nearest the centre, ascending."""
    found = np.empty(region.n_inside, np.int64)
    distance = np.empty(region.n_inside)
    end = 0
    for row_ids, values in scores.usable():
        places = [pool.place(axis, own) for axis, own in enumerate(values.T)]
        inside = np.all(
            [(first <= own) & (own <= last) for own, (first, last) in zip(places, region.sides, strict=True)], axis=0
        )
        here = slice(end, end + int(inside.sum()))
        found[here] = row_ids[inside]
        distance[here] = _distance(rule, [pool.rank(axis, own[inside]) for axis, own in enumerate(values.T)], region)
        end = here.stop
    if end == budget:
        return found
    threshold = np.partition(distance, budget - 1)[budget - 1]
    kept = distance < threshold
    ties = np.flatnonzero(distance == threshold)
    order = np.argsort(tie_hash(found[ties], seed), kind="stable")
    kept[ties[order[: budget - int(kept.sum())]]] = True
    chosen: Int64Array = found[kept]
    return chosen


def _distance(rule: str, ranks: Sequence[Float64Array], region: BinRegion) -> Float64Array:
    if rule == "low":
        return ranks[0]
    if rule == "high":
        return 1 - ranks[0]
    centres = [0.5 if rule == "middle" else (side.low_rank + side.high_rank) / 2 for side in region.bounds]
    squares = [(own - centre) ** 2 for own, centre in zip(ranks, centres, strict=True)]
    distance: Float64Array = np.sqrt(np.sum(squares, axis=0))
    return distance
