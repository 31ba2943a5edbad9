"""Find the interval of one score that holds the samples to keep."""

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument, one_of
from euds.ops.keep import Keep, parse_keep, tie_hash
from euds.ops.pool import as_floats, as_ids, nearest_rows
from euds.ops.ranks import rank_rows
from euds.types import Interval

INTERVAL_RULES = ("low", "middle", "high", "densest")


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
    values = as_floats("scores", scores)
    if values.ndim != 1:
        raise InvalidArgument(f"scores: must have shape (n,), got {values.shape}")
    pool = rank_rows(values[:, None])
    if pool.n_ranked == 0:
        raise InvalidArgument("scores: no row has finite scores")
    budget = parse_keep(keep, pool.n_ranked)
    places = np.flatnonzero(pool.is_ranked())
    finite = values[places]
    ranks = pool.percentiles(0, places)
    if rule == "densest":
        ordered = np.sort(finite).astype(np.float64)
        first, last = densest_interval(ordered, budget)
        inside = (finite >= ordered[first]) & (finite <= ordered[last])
        distance = np.abs(ranks - (ranks[inside].min() + ranks[inside].max()) / 2)
    else:
        distance = {"low": ranks, "middle": np.abs(ranks - 0.5), "high": 1 - ranks}[rule]
        inside = distance <= np.partition(distance, budget - 1)[budget - 1]
    rows = places[inside]
    ties = tie_hash(as_ids(ids, len(values))[rows], seed)
    return Interval(
        rule=rule,
        low=float(finite[inside].min()),
        high=float(finite[inside].max()),
        low_rank=float(ranks[inside].min()),
        high_rank=float(ranks[inside].max()),
        n_scores=pool.n_ranked,
        n_left_out=len(values) - pool.n_ranked,
        n_in_region=len(rows),
        indices=nearest_rows(rows, distance[inside], ties, budget),
    )
