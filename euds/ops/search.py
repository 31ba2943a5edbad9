"""Find the interval of one score, or the box of several, that holds the samples to keep."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument, one_of
from euds.ops.keep import Keep, parse_keep, split_budget, tie_hash
from euds.ops.ragged import check_ids
from euds.ops.ranks import equal_mass_bins, mid_ranks
from euds.types import Box, Float64Array, Int64Array, Interval

INTERVAL_RULES = ("low", "middle", "high", "densest")
MAX_AXES = 3
MAX_CELLS = 1 << 27
"""Cells of the largest grid searched, groups counted: 1 GiB of counts."""

BoolArray = npt.NDArray[np.bool_]


def find_interval(
    scores: npt.ArrayLike, *, keep: Keep, rule: str = "densest", seed: int = 0, ids: npt.ArrayLike | None = None
) -> Interval:
    """Find the interval of one score that holds the samples to keep.

    `low`, `middle` and `high` take the lowest, most central and highest mid-ranks; `densest` takes the shortest
    interval of values (ties: more scores, then the lower one). The region holds at least the budget; surplus samples
    are dropped from its far end, for `densest` by distance of the mid-rank from the region's centre, equals by a seeded
    hash of the id. Source: method.md, "Intervals".

    Args:
        scores: (n,) real numbers; NaN and infinite ones are left out.
        keep: fraction in (0, 1] (float) or count (int) of the finite scores.
        rule: "low", "middle", "high" or "densest".
        seed: of the hash.
        ids: (n,) integers to hash, such as row ids; positions if None.

    Returns:
        Bounds in the scores' unit and in ranks, and exactly b = ceil(keep * n) indices.

    Raises:
        InvalidArgument: scores are not flat numbers, none is finite, or keep or rule is impossible.
    """
    from euds._core import densest_interval

    one_of("rule", rule, INTERVAL_RULES)
    values = _as_floats("scores", scores)
    if values.ndim != 1:
        raise InvalidArgument(f"scores: must have shape (n,), got {values.shape}")
    places = _finite_places(values[:, None])
    finite = values[places]
    budget = parse_keep(keep, len(finite))
    ties = tie_hash(_ids(ids, len(values))[places], seed)
    ranks = mid_ranks(finite)
    if rule == "densest":
        ordered = np.sort(finite)
        first, last = densest_interval(ordered, budget)
        inside = (finite >= ordered[first]) & (finite <= ordered[last])
        distance = np.abs(ranks - (ranks[inside].min() + ranks[inside].max()) / 2)
    else:
        distance = {"low": ranks, "middle": np.abs(ranks - 0.5), "high": 1 - ranks}[rule]
        inside = distance <= np.partition(distance, budget - 1)[budget - 1]
    kept = _trim(inside, distance, ties, budget)
    return Interval(
        rule=rule,
        low=float(finite[inside].min()),
        high=float(finite[inside].max()),
        low_rank=float(ranks[inside].min()),
        high_rank=float(ranks[inside].max()),
        n_scores=len(finite),
        n_left_out=len(values) - len(finite),
        n_in_region=int(inside.sum()),
        indices=places[kept],
    )


def find_box(
    scores: npt.ArrayLike,
    *,
    keep: Keep,
    bins: int = 64,
    utility: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    max_keep: Keep | None = None,
    seed: int = 0,
    ids: npt.ArrayLike | None = None,
) -> Box:
    """Find the axis-aligned box of smallest rank volume that holds the samples to keep, over all boxes of a grid.

    The grid has equal-mass bins; equal scores share a bin. Volume is the product over axes of the share of rows between
    the bounds, so the box found is where the scores agree more than independence allows. Ties: more rows, then the
    lowest bounds, axis by axis. Surplus rows are dropped by Euclidean distance of their mid-ranks from the box's
    centre, equals by a seeded hash of the id. Source: method.md, "Intervals", rule `box`.

    Args:
        scores: (n, d) real numbers, d = 1..3; rows with NaN or infinity are left out.
        keep: fraction in (0, 1] (float) or count (int) of the other rows.
        bins: equal-mass bins per axis, >= 1.
        utility: (n,) finite numbers; if given, the box of largest utility sum is sought instead (ties: volume).
        groups: (n,) labels; if given, the box holds every group's share of the budget, in proportion to its rows, and
            exactly that many rows of each group are kept.
        max_keep: most rows that the box may hold, as `keep`; if given, all rows inside are kept.
        seed: of the hash.
        ids: (n,) integers to hash, such as row ids; positions if None.

    Returns:
        Bounds in the scores' units and in ranks, volume, lift, and the indices kept: exactly b = ceil(keep * n) of them
        unless `max_keep` is given.

    Raises:
        InvalidArgument: a shape or number is impossible, the grid has more than 2^27 cells, or no box of the grid meets
            `keep` and `max_keep` together.
    """
    from euds._core import find_box as search

    values = _as_floats("scores", scores)
    if values.ndim != 2 or not 1 <= values.shape[1] <= MAX_AXES:
        raise InvalidArgument(f"scores: must have shape (n, d) with d = 1..{MAX_AXES}, got {values.shape}")
    places = _finite_places(values)
    finite = values[places]
    n, d = finite.shape
    budget = parse_keep(keep, n)
    most = n if max_keep is None else parse_keep(max_keep, n)
    if most < budget:
        raise InvalidArgument(f"max_keep: {most} rows are fewer than the {budget} of keep")
    weights = None if utility is None else _utility(utility, len(values))[places]
    shares = _shares(groups, len(values), places, budget)
    grid = _grid(finite, bins, len(shares.needs))
    found = search(grid.codes, grid.bins, shares.codes, shares.needs, most, weights)
    if found is None:
        raise InvalidArgument(f"max_keep: no box of the grid holds {budget} to {most} rows; raise it, or bins")
    low, high, count = found
    inside = np.all((grid.codes >= low) & (grid.codes <= high), axis=1)
    ranks = np.column_stack([mid_ranks(finite[:, axis]) for axis in range(d)])
    edges = [_edges(grid.codes[:, axis], low[axis], high[axis]) for axis in range(d)]
    distance = np.sqrt(((ranks - np.mean(edges, axis=1)) ** 2).sum(1))
    ties = tie_hash(_ids(ids, len(values))[places], seed)
    volume = float(np.prod([above - below for below, above in edges]))
    kept = np.flatnonzero(inside) if max_keep is not None else _trim_groups(inside, distance, ties, shares)
    return Box(
        low=tuple(finite[inside].min(0).tolist()),
        high=tuple(finite[inside].max(0).tolist()),
        low_rank=tuple(below for below, _ in edges),
        high_rank=tuple(above for _, above in edges),
        bins=bins,
        n_scores=n,
        n_left_out=len(values) - n,
        n_in_region=count,
        volume=volume,
        lift=count / (n * volume),
        utility=None if weights is None else float(weights[inside].sum()),
        indices=places[kept],
    )


class _Shares(NamedTuple):
    """The group of every row, and how many rows of each group to keep."""

    codes: npt.NDArray[np.int32]
    needs: Int64Array


class _Grid(NamedTuple):
    """The bin of every row on three axes, unused ones with a single bin, and the number of bins."""

    codes: npt.NDArray[np.int32]
    bins: Sequence[int]


def _grid(finite: Float64Array, bins: int, n_groups: int) -> _Grid:
    if bins < 1:
        raise InvalidArgument(f"bins: must be at least 1, got {bins}")
    if (bins + 1) ** finite.shape[1] * (n_groups + 1) > MAX_CELLS:
        raise InvalidArgument(
            f"bins: a grid of {bins}^{finite.shape[1]} for {n_groups} groups is too large; take fewer"
        )
    codes = np.zeros((len(finite), MAX_AXES), np.int32)
    used = [1] * MAX_AXES
    for axis in range(finite.shape[1]):
        codes[:, axis], used[axis] = equal_mass_bins(finite[:, axis], bins)
    return _Grid(codes, used)


def _shares(groups: npt.ArrayLike | None, n: int, places: Int64Array, budget: int) -> _Shares:
    if groups is None:
        return _Shares(np.zeros(len(places), np.int32), np.array([budget]))
    labels = np.asarray(groups)
    if labels.shape != (n,):
        raise InvalidArgument(f"groups: must have shape ({n},), got {labels.shape}")
    _, codes, sizes = np.unique(labels[places], return_inverse=True, return_counts=True)
    return _Shares(codes.astype(np.int32), np.array(split_budget(budget, sizes.tolist())))


def _edges(codes: npt.NDArray[np.int32], low: int, high: int) -> tuple[float, float]:
    """Shares of the rows below a range of bins, and up to its end."""
    return float((codes < low).mean()), float((codes <= high).mean())


def _trim_groups(
    inside: BoolArray, distance: Float64Array, ties: npt.NDArray[np.uint64], shares: _Shares
) -> Int64Array:
    kept = [
        _trim(inside & (shares.codes == group), distance, ties, int(need)) for group, need in enumerate(shares.needs)
    ]
    return np.sort(np.concatenate(kept))


def _trim(inside: BoolArray, distance: Float64Array, ties: npt.NDArray[np.uint64], budget: int) -> Int64Array:
    """Return the positions of the `budget` rows inside with the smallest distances."""
    from euds._core import nearest

    positions = np.flatnonzero(inside)
    return positions[nearest(np.ascontiguousarray(distance[positions]), ties[positions], budget)]


def _as_floats(name: str, values: npt.ArrayLike) -> Float64Array:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise InvalidArgument(f"{name}: must be real numbers, got {array.dtype}")
    return array.astype(np.float64)


def _finite_places(values: Float64Array) -> Int64Array:
    places = np.flatnonzero(np.isfinite(values).all(1))
    if not len(places):
        raise InvalidArgument("scores: no row has finite scores")
    return places


def _utility(utility: npt.ArrayLike, n: int) -> Float64Array:
    values = _as_floats("utility", utility)
    if values.shape != (n,) or not np.isfinite(values).all():
        raise InvalidArgument(f"utility: must be {n} finite numbers")
    return values


def _ids(ids: npt.ArrayLike | None, n: int) -> Int64Array:
    if ids is None:
        return np.arange(n)
    array = check_ids("ids", ids)
    if len(array) != n:
        raise InvalidArgument(f"ids: must be {n} integers, got {len(array)}")
    return array
