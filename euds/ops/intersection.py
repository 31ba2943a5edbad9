"""Find the common central quantile of several scores whose intersection holds the samples to keep."""

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument
from euds.ops.keep import Keep, parse_keep, tie_hash
from euds.ops.pool import as_floats, as_ids, nearest_rows
from euds.ops.ranks import rank_rows
from euds.types import Intersection


def find_intersection(
    scores: npt.ArrayLike,
    *,
    keep: Keep,
    seed: int = 0,
    ids: npt.ArrayLike | None = None,
    n_threads: int | None = None,
) -> Intersection:
    """Find the smallest q such that enough rows have every mid-rank within q of the median: exact.

    A row's reach is its largest |mid-rank - 1/2| over the axes; q is the b-th smallest reach. Surplus rows, all of them
    of reach q, are dropped by a seeded hash of the id. Source: docs/method.md, "Intervals", rule `intersection`.

    Args:
        scores: (n, d) real numbers, d >= 1; rows with null, NaN or infinity are left out.
        keep: fraction in (0, 1] (float) or count (int) of the other rows.
        seed: of the hash.
        ids: (n,) integers to hash, such as row ids; positions if None.
        n_threads: threads to rank with, all cores if None; the result does not depend on it.

    Returns:
        Bounds in the scores' units and in ranks, q, lift, and exactly b = ceil(keep * n) indices.

    Raises:
        InvalidArgument: a shape or number is impossible, no row is finite, or more than 2^31 - 2 rows.
    """
    values = as_floats("scores", scores)
    if values.ndim != 2 or values.shape[1] < 1:
        raise InvalidArgument(f"scores: must have shape (n, d) with d >= 1, got {values.shape}")
    ranks = rank_rows(values, n_threads=n_threads)
    n = ranks.n_ranked
    if n == 0:
        raise InvalidArgument("scores: no row has finite scores")
    budget = parse_keep(keep, n)
    places = np.flatnonzero(ranks.is_ranked())
    # 2 n |mid-rank - 1/2|, an integer: no bound depends on rounding.
    reaches = np.abs(ranks.doubled[:, places].astype(np.int64) - n)
    reach = reaches.max(0)
    largest = int(np.partition(reach, budget - 1)[budget - 1])
    inside = reach <= largest
    rows = places[inside]
    doubled = ranks.doubled[:, rows]
    volume = float(np.prod((reaches <= largest).sum(1) / n))
    ties = tie_hash(as_ids(ids, len(values))[rows], seed)
    return Intersection(
        low=tuple(values[rows].min(0).tolist()),
        high=tuple(values[rows].max(0).tolist()),
        low_rank=tuple((doubled.min(1) / (2 * n)).tolist()),
        high_rank=tuple((doubled.max(1) / (2 * n)).tolist()),
        reach=largest / (2 * n),
        n_scores=n,
        n_left_out=len(values) - n,
        n_in_region=len(rows),
        volume=volume,
        lift=len(rows) / (n * volume),
        indices=nearest_rows(rows, reach[inside].astype(np.float64), ties, budget),
    )
