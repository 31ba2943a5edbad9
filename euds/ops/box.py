"""Find the axis-aligned boxes of several scores that hold the samples to keep."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument, one_of, real_number, whole_number
from euds.ops.filled_cells import FilledCells, filled_cells
from euds.ops.groups import rows_by_group
from euds.ops.histogram import MAX_AXES, Histogram, refuse_rows
from euds.ops.keep import Keep, parse_keep, parse_max_keep, seed_hash, split_budget, tie_hash
from euds.ops.pool import FloatArray, as_floats, as_ids, as_labels, as_utility, nearest_rows, utility_scale
from euds.ops.ranks import Ranks, check_threads, rank_rows
from euds.types import Box, Float64Array, Int64Array

BOX_OBJECTIVES = ("volume", "utility", "lift")
MAX_CELLS = 1 << 27
"""Cells of the largest grid searched, groups counted: 512 MiB of counts, and as much again of their sums."""

Progress = Callable[[float], None]
"""Called about 20 times a second with the share of the search that is done, in 0..1."""


def find_box(
    scores: npt.ArrayLike | Histogram,
    *,
    keep: Keep,
    bins: int = 64,
    objective: str | None = None,
    utility: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    max_keep: Keep | None = None,
    seed: int = 0,
    ids: npt.ArrayLike | None = None,
    n_threads: int | None = None,
    progress: Progress | None = None,
) -> Box:
    """Find the axis-aligned box that holds the samples to keep and is best over all boxes of a grid: exact.

    The grid has equal-mass bins; equal scores share a bin. Volume is the product over axes of the share of rows between
    the bounds. Objectives: "volume", the smallest volume, is where the scores agree more than independence allows;
    "lift", the largest count / (n volume), may hold more rows; "utility" has the largest utility sum. Ties: smaller
    volume, more rows, then the lowest bounds, axis by axis. Surplus rows are dropped by Euclidean distance of their
    mid-ranks from the box's centre, equals by a seeded hash of the id. Source: docs/method.md, "Intervals", rule `box`.

    Args:
        scores: (n, d) real numbers, d = 1..3; rows with null, NaN or infinity are left out. Or their histogram, merged
            from parts or not, whose bins and utilities are then the ones used; rows in no cell are left out.
        keep: fraction in (0, 1] (float) or count (int) of the other rows: what the box holds at least.
        bins: equal-mass bins per axis, >= 1. Time grows with their square even on one axis (80,000: seconds).
        objective: "volume", "utility" or "lift"; "utility" if a utility is given and this is None, else "volume".
        utility: (n,) finite numbers, compared in steps of 2^-60 n max|utility| over the rows not left out.
        groups: (n,) labels; if given, the box holds every group's share of the budget, in proportion to its rows, and
            exactly that many rows of each group are kept.
        max_keep: most rows that the box may hold, as `keep`; if given, all rows inside are kept.
        seed: of the hash.
        ids: (n,) integers to hash, such as row ids; positions if None.
        n_threads: threads to use, all cores if None; the result does not depend on it.
        progress: told the share of the search that is done; what it raises, and Ctrl-C, end the search.

    Returns:
        Bounds in the scores' units and in ranks, volume, lift, and the indices kept: exactly b = ceil(keep * n) of them
        unless `max_keep` is given. Of a histogram: bin edges as bounds, where an upper edge itself belongs to the next
        bin, but for the last one; no indices, as a histogram knows no rows; and as `bins` those of the axis with most.
        On the edges of `equal_mass_edges` its box is the one that the rows themselves give, by utilities where totals
        differ by more than their rounding.

    Raises:
        InvalidArgument: a shape or number is impossible, no row can be searched, more than 2^31 - 2 rows, the grid has
            more than 2^27 cells, or no box of the grid meets `keep` and `max_keep` together; a histogram comes with
            arguments of rows.
    """
    if isinstance(scores, Histogram):
        from euds.ops.histogram_box import histogram_box

        refuse_rows(utility=utility, groups=groups, ids=ids)
        box, _ = histogram_box(
            scores, keep=keep, objective=objective, max_keep=max_keep, n_threads=n_threads, progress=progress
        )
        return box
    return find_boxes(
        scores,
        keep=keep,
        k=1,
        bins=bins,
        objective=objective,
        utility=utility,
        groups=groups,
        max_keep=max_keep,
        seed=seed,
        ids=ids,
        n_threads=n_threads,
        progress=progress,
    )[0]


def find_boxes(
    scores: npt.ArrayLike,
    *,
    keep: Keep,
    k: int,
    max_overlap: float = 0.5,
    bins: int = 64,
    objective: str | None = None,
    utility: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    max_keep: Keep | None = None,
    seed: int = 0,
    ids: npt.ArrayLike | None = None,
    n_threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[Box, ...]:
    """Find the k best boxes that differ, the best first; the other arguments are those of `find_box`.

    Each box is the best of all boxes of the grid that differ from every earlier one and share with each at most
    `max_overlap` of the rows of the smaller of the two, rows counted before trimming.

    Args:
        scores: (n, d) real numbers, as for `find_box`.
        keep: rows of every box, as for `find_box`.
        k: number of boxes, >= 1.
        max_overlap: largest share of common rows, in 0..1; 0: no common row, 1: only the bounds differ.
        bins, objective, utility, groups, max_keep, seed, ids, n_threads, progress: as for `find_box`.

    Returns:
        At least one box; fewer than k if no more differ enough.

    Raises:
        InvalidArgument: as `find_box`, or `k` or `max_overlap` is impossible.
    """
    from euds import _core

    values = as_floats("scores", scores)
    if values.ndim != 2 or not 1 <= values.shape[1] <= MAX_AXES:
        raise InvalidArgument(f"scores: must have shape (n, d) with d = 1..{MAX_AXES}, got {values.shape}")
    k = whole_number("k", k, least=1)
    max_overlap = real_number("max_overlap", max_overlap)
    if not 0 <= max_overlap <= 1:
        raise InvalidArgument(f"max_overlap: must be in 0..1, got {max_overlap}")
    weights = None if utility is None else as_utility(utility, len(values))
    goal = objective_of(objective, has_utility=weights is not None)
    seed_hash(seed)
    ranks = rank_rows(values, n_threads=n_threads)
    hashed_ids = as_ids(ids, len(values))
    if ranks.n_ranked == 0:
        raise InvalidArgument("scores: no row has finite scores")
    budget = parse_keep(keep, ranks.n_ranked)
    most = parse_max_keep(max_keep, ranks.n_ranked)
    if most < budget:
        raise InvalidArgument(f"max_keep: {most} rows are fewer than the {budget} of keep")
    shares = _shares(groups, ranks, budget)
    grid = make_grid(ranks, bins, shares, weights, check_threads(n_threads))
    found = _core.find_boxes(
        grid.filled.counts,
        grid.filled.sums,
        shares.needs,
        most,
        goal,
        k,
        max_overlap,
        check_threads(n_threads),
        progress,
    )
    if not found:
        raise InvalidArgument(f"max_keep: no box of the grid holds {budget} to {most} rows; raise it, or bins")
    pool = _Pool(values, weights, ranks, shares, grid, goal, hashed_ids, seed, keeps_all=max_keep is not None)
    return tuple(_describe(pool, grid.filled.places(low), grid.filled.places(high)) for low, high, _ in found)


@dataclass(frozen=True, eq=False)
class Shares:
    """The group of every row (None: a single group), and how many rows of each group to keep."""

    codes: npt.NDArray[np.int32] | None
    needs: Int64Array


@dataclass(frozen=True, eq=False)
class Grid:
    """The grid of `bins` equal-mass bins an axis; ties leave bins of it empty."""

    bins: int
    filled: FilledCells


@dataclass(frozen=True, eq=False)
class _Pool:
    """All that describes a box once its bins are known."""

    values: FloatArray
    weights: Float64Array | None
    ranks: Ranks
    shares: Shares
    grid: Grid
    objective: str
    ids: Int64Array
    seed: int
    keeps_all: bool


def objective_of(objective: str | None, *, has_utility: bool) -> str:
    """Return the objective that is meant; raises InvalidArgument if it is unknown or lacks a utility."""
    if objective is None:
        return "utility" if has_utility else "volume"
    if objective == "utility" and not has_utility:
        raise InvalidArgument("objective: 'utility' needs a utility of each row")
    return one_of("objective", objective, BOX_OBJECTIVES)


def _shares(groups: npt.ArrayLike | None, ranks: Ranks, budget: int) -> Shares:
    if groups is None:
        return Shares(None, np.array([budget]))
    n = ranks.doubled.shape[1]
    labels = as_labels(groups, n)
    ranked = ranks.is_ranked()
    _, places, sizes = np.unique(labels[ranked], return_inverse=True, return_counts=True)
    codes = np.zeros(n, np.int32)
    codes[ranked] = places
    return Shares(codes, np.array(split_budget(budget, sizes.tolist())))


def check_grid(bins: int, shape: Sequence[int], n_groups: int = 1) -> None:
    """Refuse a grid that is too large to search, before it is made.

    Args:
        bins: that were asked for, of each axis.
        shape: bins that each axis has.
        n_groups: groups whose rows are counted apart.

    Raises:
        InvalidArgument: it has too many cells.
    """
    if math.prod(used + 1 for used in shape) * (n_groups + 1) > MAX_CELLS:
        raise InvalidArgument(f"bins: a grid of {bins}^{len(shape)} for {n_groups} groups is too large; take fewer")


def make_grid(ranks: Ranks, bins: int, shares: Shares, weights: Float64Array | None, n_threads: int) -> Grid:
    """Count rows and utility in the cells of the grid of equal-mass bins; raises InvalidArgument if there is none."""
    from euds import _core

    d, n_groups = len(ranks.doubled), len(shares.needs)
    # NumPy's integers would wrap around in the number of cells.
    bins = whole_number("bins", bins, least=1)
    check_grid(bins, [bins] * d, n_groups)
    # Of the rows that can be chosen: the utility of one left out must not decide how finely theirs are compared.
    scale = 1.0 if weights is None else utility_scale(weights[ranks.is_ranked()])
    counts, raw_sums = _core.count_rows(
        ranks.doubled, ranks.n_ranked, bins, shares.codes, n_groups, weights, scale, n_threads
    )
    return Grid(bins, filled_cells(counts, None if weights is None else raw_sums))


def _describe(pool: _Pool, low: list[int], high: list[int]) -> Box:
    ranks, grid, n = pool.ranks, pool.grid, pool.ranks.n_ranked
    axes = range(len(low))
    rows = _rows_inside(ranks, grid, low, high)
    edges = [(grid.filled.masses[axis][low[axis]] / n, grid.filled.masses[axis][high[axis] + 1] / n) for axis in axes]
    volume = float(np.prod([above - below for below, above in edges]))
    values = pool.values[rows]
    return Box(
        low=tuple(values.min(0).tolist()),
        high=tuple(values.max(0).tolist()),
        low_rank=tuple(float(below) for below, _ in edges),
        high_rank=tuple(float(above) for _, above in edges),
        bins=grid.bins,
        n_scores=n,
        n_left_out=len(pool.values) - n,
        n_in_region=len(rows),
        volume=volume,
        lift=len(rows) / (n * volume),
        utility=None if pool.weights is None else float(pool.weights[rows].sum()),
        objective=pool.objective,
        indices=rows if pool.keeps_all else _trim(pool, rows, edges),
    )


def _rows_inside(ranks: Ranks, grid: Grid, low: list[int], high: list[int]) -> Int64Array:
    inside = ranks.is_ranked()
    for axis, doubled in enumerate(ranks.doubled):
        first, last = int(grid.filled.used[axis][low[axis]]), int(grid.filled.used[axis][high[axis]])
        # bins * rank // (2 n) is at least `first` and at most `last`.
        least = -(-2 * ranks.n_ranked * first // grid.bins)
        beyond = -(-2 * ranks.n_ranked * (last + 1) // grid.bins)
        inside &= (doubled >= least) & (doubled < beyond)
    return np.flatnonzero(inside)


def _trim(pool: _Pool, rows: Int64Array, edges: list[tuple[float, float]]) -> Int64Array:
    """Keep each group's share of the rows, those nearest to the centre of the box."""
    squares = [
        (pool.ranks.percentiles(axis, rows) - (below + above) / 2) ** 2 for axis, (below, above) in enumerate(edges)
    ]
    distance: Float64Array = np.sqrt(np.sum(squares, axis=0))
    ties = tie_hash(pool.ids[rows], pool.seed)
    if pool.shares.codes is None:
        return nearest_rows(rows, distance, ties, int(pool.shares.needs[0]))
    needs = pool.shares.needs.tolist()
    members = rows_by_group(pool.shares.codes[rows], len(needs))
    kept = [nearest_rows(rows[own], distance[own], ties[own], need) for own, need in zip(members, needs, strict=True)]
    return np.sort(np.concatenate(kept))
