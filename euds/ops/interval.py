"""Find the interval of one score that holds the samples to keep."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument, one_of, real_number
from euds.ops.histogram import Histogram, refuse_rows
from euds.ops.keep import Keep, parse_keep, parse_max_keep, tie_hash
from euds.ops.pool import FloatArray, as_floats, as_ids, as_utility, nearest_rows, utility_scale
from euds.ops.ranks import rank_rows
from euds.types import BoolArray, Float64Array, Int64Array, Interval

INTERVAL_RULES = ("low", "middle", "high", "densest")
"""The rules that need nothing but scores."""

ALL_INTERVAL_RULES = (*INTERVAL_RULES, "density", "utility", "typical")


def find_interval(
    scores: npt.ArrayLike | Histogram,
    *,
    keep: Keep,
    rule: str = "densest",
    seed: int = 0,
    ids: npt.ArrayLike | None = None,
    utility: npt.ArrayLike | None = None,
    max_keep: Keep | None = None,
    min_width: float | None = None,
    expected: npt.ArrayLike | None = None,
    n_threads: int | None = None,
) -> Interval:
    """Find the interval of one score that holds the samples to keep.

    `low`, `middle` and `high` take the lowest, most central and highest mid-ranks; `densest` takes the shortest
    interval of values (ties: more scores, then the lower one); `density` the one with most scores per width, a width
    below `min_width` counting as `min_width` (same ties); `utility` the one with the largest utility sum (ties: the
    shortest, more scores, the lower one); `typical` the scores within the smallest distance of what is `expected` of
    each, and its bounds are bounds of score - expected. The region holds at least the budget; surplus samples are
    dropped from its far end, for the searches by distance of the mid-rank from the region's centre, equals by a seeded
    hash of the id. Distances are float64: ranks that mirror each other about the centre may differ in the last bit.
    Source: docs/method.md, "Intervals".

    Args:
        scores: (n,) real numbers; nulls, NaN and infinite ones are left out. Or their histogram on one axis, merged
            from parts or not, whose utilities are then the ones used; scores in no bin are left out. Its bins take the
            place of scores, so that the interval is one of whole bins; `typical` is `low` on one of |score - expected|.
        keep: fraction in (0, 1] (float) or count (int) of the finite scores.
        rule: "low", "middle", "high", "densest", "density", "utility" or "typical".
        seed: of the hash.
        ids: (n,) integers to hash, such as row ids; positions if None.
        utility: (n,) finite numbers, for the rule `utility`; compared in steps of 2^-60 n max|utility|.
        max_keep: most scores that the interval of rule `utility`, or of a histogram by `densest`, may hold, as `keep`;
            if given, all inside are kept.
        min_width: for the rule `density`, >= 0, in the unit of the scores.
        expected: (n,) real numbers, for the rule `typical`; rows with NaN or infinite ones are left out.
        n_threads: threads to rank with, all cores if None; the result does not depend on it.

    Returns:
        Bounds in the scores' unit and in ranks, and exactly b = ceil(keep * n) indices unless `max_keep` is given. Of a
        histogram: bin edges as bounds, where an upper edge itself belongs to the next bin, but for the last one; the
        mid-ranks of the first and last bin; and no indices, as a histogram knows no rows.

    Raises:
        InvalidArgument: scores are not flat numbers, none is finite, more than 2^31 - 2; keep or rule is impossible; an
            argument that the rule needs is missing, or one it has no use for is given; no interval meets `keep` and
            `max_keep` together; a histogram comes with arguments of rows, or has several axes.
    """
    if isinstance(scores, Histogram):
        from euds.ops.histogram_interval import histogram_interval

        refuse_rows(ids=ids, utility=utility, expected=expected)
        return histogram_interval(scores, keep=keep, rule=rule, max_keep=max_keep, min_width=min_width)
    one_of("rule", rule, ALL_INTERVAL_RULES)
    values = as_floats("scores", scores)
    if values.ndim != 1:
        raise InvalidArgument(f"scores: must have shape (n,), got {values.shape}")
    _check_needs(rule, utility=utility, max_keep=max_keep, min_width=min_width, expected=expected)
    if expected is not None:
        values = values.astype(np.float64) - _as_expected(expected, len(values))
    weights = None if utility is None else as_utility(utility, len(values))
    ranks = rank_rows(values[:, None], n_threads=n_threads)
    if ranks.n_ranked == 0:
        raise InvalidArgument("scores: no row has finite scores")
    budget = parse_keep(keep, ranks.n_ranked)
    most = parse_max_keep(max_keep, ranks.n_ranked)
    if most < budget:
        raise InvalidArgument(f"max_keep: {most} rows are fewer than the {budget} of keep")
    places = np.flatnonzero(ranks.is_ranked())
    pool = _Pool(
        values[places], ranks.percentiles(0, places), None if weights is None else weights[places], budget, most
    )
    inside, distance = _region(pool, rule, min_width)
    rows = places[inside]
    ties = tie_hash(as_ids(ids, len(values))[rows], seed)
    return Interval(
        rule=rule,
        low=float(pool.values[inside].min()),
        high=float(pool.values[inside].max()),
        low_rank=float(pool.ranks[inside].min()),
        high_rank=float(pool.ranks[inside].max()),
        n_scores=ranks.n_ranked,
        n_left_out=len(values) - ranks.n_ranked,
        n_in_region=len(rows),
        utility=None if weights is None else float(weights[rows].sum()),
        indices=rows if max_keep is not None else nearest_rows(rows, distance[inside], ties, budget),
    )


@dataclass(frozen=True, eq=False)
class _Pool:
    """The finite scores, and how many of them the region must and may hold."""

    values: FloatArray
    ranks: Float64Array
    weights: Float64Array | None
    budget: int
    most: int


def _region(pool: _Pool, rule: str, min_width: float | None) -> tuple[BoolArray, Float64Array]:
    """Return which scores are inside, and the distances by which surplus ones are dropped."""
    ranks = pool.ranks
    if rule in ("low", "middle", "high", "typical"):
        middle = np.abs(pool.values).astype(np.float64) if rule == "typical" else np.abs(ranks - 0.5)
        distance: Float64Array = {"low": ranks, "high": 1 - ranks}.get(rule, middle)
        return distance <= np.partition(distance, pool.budget - 1)[pool.budget - 1], distance
    low, high = _search(pool, rule, min_width or 0.0)
    inside = (pool.values >= low) & (pool.values <= high)
    return inside, np.abs(ranks - (ranks[inside].min() + ranks[inside].max()) / 2)


def _search(pool: _Pool, rule: str, min_width: float) -> tuple[float, float]:
    from euds import _core

    order = np.argsort(pool.values) if pool.weights is not None else None
    ordered = (np.sort(pool.values) if order is None else pool.values[order]).astype(np.float64)
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    different = ordered[first]
    counts = np.diff(np.append(first, len(ordered)))
    objective = {"densest": "shortest", "density": "density", "utility": "utility"}[rule]
    sums = None
    if pool.weights is not None and order is not None:
        sums = np.add.reduceat(scaled_utility(pool.weights)[order], first)
    found = _core.find_interval(different, different, counts, sums, objective, pool.budget, pool.most, min_width)
    if found is None:
        raise InvalidArgument(f"max_keep: no interval holds {pool.budget} to {pool.most} rows; raise it")
    return float(different[found[0]]), float(different[found[1]])


def scaled_utility(utility: Float64Array) -> Int64Array:
    """Return utilities as integers whose sums are exact and stay within 2^60."""
    return np.rint(utility * utility_scale(utility)).astype(np.int64)


def _as_expected(expected: npt.ArrayLike, n: int) -> Float64Array:
    array = as_floats("expected", expected).astype(np.float64)
    if array.shape != (n,):
        raise InvalidArgument(f"expected: must have shape ({n},), got {array.shape}")
    # A difference of infinities is NaN by intent: the row is left out.
    return np.where(np.isfinite(array), array, np.nan)


def _check_needs(rule: str, **given: object) -> None:
    """Refuse an argument that the rule needs and lacks, or has and would ignore."""
    uses = {"density": {"min_width"}, "utility": {"utility", "max_keep"}, "typical": {"expected"}}.get(rule, set())
    for name, value in given.items():
        if value is not None and name not in uses:
            raise InvalidArgument(f"{name}: rule {rule!r} has no use for it")
        if value is None and name in uses - {"max_keep"}:
            raise InvalidArgument(f"{name}: rule {rule!r} needs it")
    width = given["min_width"]
    if width is not None and not 0 <= real_number("min_width", width) < np.inf:
        raise InvalidArgument(f"min_width: must be at least 0 and finite, got {width!r}")
