"""How much the region of a rule depends on which rows happened to be in the pool: a bootstrap over rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument, check_seed, one_of, whole_number
from euds.ops.box import Shares, make_grid
from euds.ops.filled_cells import filled_cells
from euds.ops.histogram import MAX_AXES, marginals_of
from euds.ops.histogram_interval import densest_bins, ranked_bins
from euds.ops.interval import INTERVAL_RULES
from euds.ops.keep import Keep, parse_keep
from euds.ops.pool import FloatArray, as_floats
from euds.ops.ranks import Ranks, check_threads, rank_rows
from euds.types import BoundSpread, Float64Array, Int64Array, Quantiles, Stability

STABLE_RULES = (*INTERVAL_RULES, "box", "intersection")
BINS = {1: 512, 2: 64, 3: 32}
"""Bins per axis by the number of axes: 100 box searches on 32^3 cells take about half a second."""

Ranges = tuple[tuple[int, int], ...]
"""First and last bin per axis."""


def region_stability(
    scores: npt.ArrayLike,
    *,
    keep: Keep,
    rule: str,
    n_replicates: int = 100,
    seed: int = 0,
    bins: int | None = None,
    n_threads: int | None = None,
) -> Stability:
    """Search the region of a rule again in pools drawn with replacement, and tell how far it moves.

    Rows are counted once in a grid of equal-mass bins; a replicate draws the counts of its cells (multinomial), so that
    it costs O(cells), whatever n. Its region is compared with that of the pool itself on the same grid.

    Args:
        scores: (n,) or (n, d) real numbers, d = 1..3; rows with null, NaN or infinity are left out.
        keep: fraction in (0, 1] (float) or count (int) of the other rows.
        rule: "low", "middle", "high" or "densest" of one axis; "box" (smallest volume) or "intersection".
        n_replicates: resampled pools, >= 1.
        seed: of the resampling, in 0..2^31-1.
        bins: equal-mass bins per axis; 512, 64 or 32 for one, two or three axes if None.
        n_threads: threads to use, all cores if None; the result does not depend on it.

    Returns:
        How much the regions overlap with the pool's, in 0..1, and the spread of their sides in units of the scores.

    Raises:
        InvalidArgument: a shape, number or rule is impossible, or no row is finite.
    """
    one_of("rule", rule, STABLE_RULES)
    values = as_floats("scores", scores)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or not 1 <= values.shape[1] <= MAX_AXES:
        raise InvalidArgument(f"scores: must have shape (n, d) with d = 1..{MAX_AXES}, got {values.shape}")
    if rule in INTERVAL_RULES and values.shape[1] != 1:
        raise InvalidArgument(f"rule: {rule!r} looks at one axis, got {values.shape[1]}")
    cells = count_cells(values, BINS[values.shape[1]] if bins is None else bins, check_threads(n_threads))
    budget = parse_keep(keep, cells.n)
    return _stability(cells, lambda counts: _find(rule, cells, counts, budget), n_replicates, seed)


def quantile_stability(
    scores: npt.ArrayLike,
    sides: Sequence[tuple[float, float]],
    *,
    n_replicates: int = 100,
    seed: int = 0,
    n_threads: int | None = None,
) -> Stability:
    """Take the region between fixed quantiles again in pools drawn with replacement, and tell how far it moves.

    For regions whose search is too dear to repeat: it shows how the pool's sample moves the bounds and the rows inside,
    but not that another region might have won. Otherwise as `region_stability`.

    Args:
        scores: (n, d) real numbers, d = 1..3; rows with null, NaN or infinity are left out.
        sides: the lower and the upper quantile of each axis, in 0..1.
        n_replicates: resampled pools, >= 1.
        seed: of the resampling, in 0..2^31-1.
        n_threads: threads to use, all cores if None; the result does not depend on it.

    Raises:
        InvalidArgument: a shape or number is impossible, or no row is finite.
    """
    values = as_floats("scores", scores)
    if values.ndim != 2 or not 1 <= values.shape[1] <= MAX_AXES:
        raise InvalidArgument(f"scores: must have shape (n, d) with d = 1..{MAX_AXES}, got {values.shape}")
    if len(sides) != values.shape[1] or not all(0 <= low <= high <= 1 for low, high in sides):
        raise InvalidArgument(f"sides: give an ascending pair of quantiles in 0..1 for each axis, got {list(sides)}")
    cells = count_cells(values, BINS[values.shape[1]], check_threads(n_threads))
    return _stability(cells, lambda counts: _between(counts, sides), n_replicates, seed)


def _stability(cells: "Cells", find: Callable[[Int64Array], Ranges], n_replicates: int, seed: int) -> Stability:
    seed, n_replicates = check_seed("seed", seed), whole_number("n_replicates", n_replicates, least=1)
    own = find(cells.counts)
    found = [find(drawn) for drawn in _replicates(cells.counts, n_replicates, seed)]
    overlaps = np.array([_overlap(cells.counts, own, other) for other in found])
    return Stability(
        overlap=float(overlaps.mean()),
        overlap_quantiles=_quantiles(overlaps),
        sides=tuple(_spread(cells, axis, [ranges[axis] for ranges in found]) for axis in range(cells.counts.ndim)),
        n_replicates=n_replicates,
        seed=seed,
        bins=cells.bins,
    )


@dataclass(frozen=True, eq=False)
class Cells:
    """The pool as a grid; per axis the rows below each edge and the least and largest value of each bin."""

    n: int
    bins: int
    n_threads: int
    counts: Int64Array
    masses: tuple[Int64Array, ...]
    lowest: tuple[Float64Array, ...]
    highest: tuple[Float64Array, ...]


def count_cells(values: FloatArray, bins: int, n_threads: int) -> Cells:
    """Count (n, d) scores in the cells of their grid of equal-mass bins; raises InvalidArgument if none is finite."""
    ranks = rank_rows(values, n_threads=n_threads)
    n, d = ranks.n_ranked, values.shape[1]
    if n == 0:
        raise InvalidArgument("scores: no row has finite scores")
    grid = make_grid(ranks, bins, Shares(None, np.array([1])), None, n_threads)
    counts = grid.filled.counts.reshape(grid.filled.counts.shape[-d:]).astype(np.int64)
    extremes = [_extremes(ranks, values, axis, grid.bins, grid.filled.used[axis]) for axis in range(d)]
    lowest, highest = (tuple(found) for found in zip(*extremes, strict=True))
    return Cells(n, grid.bins, n_threads, counts, grid.filled.masses, lowest, highest)


def _extremes(
    ranks: Ranks, values: FloatArray, axis: int, bins: int, used: Int64Array
) -> tuple[Float64Array, Float64Array]:
    rows = ranks.is_ranked()
    codes = np.searchsorted(used, bins * ranks.doubled[axis][rows].astype(np.int64) // (2 * ranks.n_ranked))
    lowest, highest = np.full(len(used), np.inf), np.full(len(used), -np.inf)
    np.minimum.at(lowest, codes, values[rows, axis])
    np.maximum.at(highest, codes, values[rows, axis])
    return lowest, highest


def _replicates(counts: Int64Array, n_replicates: int, seed: int) -> Iterator[Int64Array]:
    rng = np.random.default_rng(seed)
    n, flat = int(counts.sum()), counts.ravel()
    filled = np.flatnonzero(flat)
    for _ in range(n_replicates):
        drawn = np.zeros(len(flat), np.int64)
        drawn[filled] = rng.multinomial(n, flat[filled] / n)
        yield drawn.reshape(counts.shape)


def _find(rule: str, cells: Cells, counts: Int64Array, budget: int) -> Ranges:
    if rule == "box":
        return find_grid_box(counts, budget, cells.n_threads)
    if rule == "intersection":
        return _find_intersection(counts, budget)
    if rule == "densest":
        return (densest_bins(cells.lowest[0], cells.highest[0], counts, budget),)
    return (ranked_bins(counts, rule, budget),)


def find_grid_box(counts: Int64Array, budget: int, n_threads: int) -> Ranges:
    """Return the box of smallest volume that holds `budget` rows of a grid, which may have empty bins."""
    from euds import _core

    # Resampling may empty bins.
    filled = filled_cells(counts[None])
    n, needs = int(counts.sum()), np.array([budget])
    ((low, high, _),) = _core.find_boxes(filled.counts, None, needs, n, "volume", 1, 0.5, n_threads, None)
    return tuple(zip(filled.bins(low), filled.bins(high), strict=True))


def _find_intersection(counts: Int64Array, budget: int) -> Ranges:
    n = int(counts.sum())
    marginals = marginals_of(counts)
    # 2 n |mid-rank - 1/2| of each bin, as in `find_intersection`.
    reaches = [np.abs(2 * np.cumsum(marginal) - marginal - n) for marginal in marginals]
    farthest = np.zeros(counts.shape, np.int64)
    for reach in np.ix_(*reaches):
        farthest = np.maximum(farthest, reach)
    order = np.argsort(farthest, axis=None, kind="stable")
    enough = np.searchsorted(np.cumsum(counts.ravel()[order]), budget)
    largest = farthest.ravel()[order[enough]]
    inside = [np.flatnonzero((reach <= largest) & (of > 0)) for reach, of in zip(reaches, marginals, strict=True)]
    return tuple((int(places[0]), int(places[-1])) for places in inside)


def _between(counts: Int64Array, sides: Sequence[tuple[float, float]]) -> Ranges:
    """Return the filled bins whose mid-ranks lie between quantiles, at least the one nearest to their middle."""
    n = int(counts.sum())
    ranges = []
    for marginal, (low, high) in zip(marginals_of(counts), sides, strict=True):
        filled = np.flatnonzero(marginal)
        ranks = (np.cumsum(marginal) - marginal / 2)[filled] / n
        nearest = int(np.abs(ranks - (low + high) / 2).argmin())
        inside = np.flatnonzero((ranks >= low) & (ranks <= high))
        first, last = (inside[0], inside[-1]) if len(inside) else (nearest, nearest)
        ranges.append((int(filled[first]), int(filled[last])))
    return tuple(ranges)


def _overlap(counts: Int64Array, one: Ranges, other: Ranges) -> float:
    common = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(one, other, strict=True))
    both = count_inside(counts, common)
    either = count_inside(counts, one) + count_inside(counts, other) - both
    # Two regions without a row hold the same ones.
    return both / either if either else 1.0


def count_inside(counts: Int64Array, ranges: Ranges) -> int:
    """Return the rows inside a region."""
    return int(counts[tuple(slice(first, last + 1) for first, last in ranges)].sum())


def _spread(cells: Cells, axis: int, found: Sequence[tuple[int, int]]) -> BoundSpread:
    first, last = np.array(found).T
    return BoundSpread(
        low=_quantiles(cells.lowest[axis][first]),
        high=_quantiles(cells.highest[axis][last]),
        low_rank=_quantiles(cells.masses[axis][first] / cells.n),
        high_rank=_quantiles(cells.masses[axis][last + 1] / cells.n),
    )


def _quantiles(values: Float64Array) -> Quantiles:
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95]).tolist()
    return low, middle, high
