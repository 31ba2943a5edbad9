"""Choose rows that cover a pool: k-center, facility location, and equal shares of groups."""

import heapq
from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument
from euds.ops.groups import rows_by_group
from euds.ops.keep import tie_hash
from euds.types import Float32Array, Int64Array

MAX_FACILITY_ROWS = 20_000
"""Rows whose similarities facility location holds all at once: 1.6 GB."""


def k_center(
    embeddings: Float32Array, budget: int, *, seed: int, advance: Callable[[float], None] = lambda rows: None
) -> Int64Array:
    """Choose rows one by one, each the farthest from those chosen before.

    Within a factor of four of the smallest radius that covers the pool (two of the Euclidean one). Every choice reads
    all embeddings, so that the time grows with n x budget x H; the memory is that of a copy of them. Source: Gonzalez
    1985; for training data Sener & Savarese 2018, "Active Learning for Convolutional Neural Networks: A Core-Set
    Approach".

    Args:
        embeddings: (n, H) float32, unit norm; the distance is 1 - cosine.
        budget: rows to choose, 1..n.
        seed: of the first row, and of equals. Distances are rounded as BLAS sums them, so that rows which are as far
            away but for rounding, copies too, may be told apart otherwise with another number of its threads.
        advance: called with 1 after each choice, such as `Bar.advance`.

    Returns:
        (budget,) positions, ascending.

    Raises:
        InvalidArgument: the budget is not in 1..n.
    """
    _check_budget(budget, len(embeddings))
    # Rows in the order of a seeded hash, so that the first of equals is a random one.
    order = np.argsort(tie_hash(np.arange(len(embeddings)), seed))
    rows = embeddings[order]
    chosen = []
    distance = np.full(len(rows), np.inf, rows.dtype)
    for _ in range(budget):
        farthest = int(distance.argmax())
        chosen.append(farthest)
        np.minimum(distance, 1 - rows @ rows[farthest], out=distance)
        distance[farthest] = -np.inf
        advance(1)
    return np.sort(order[chosen])


def facility_location(embeddings: Float32Array, budget: int) -> Int64Array:
    """Choose rows so that every row of the pool has a similar one among them: greedy, within 1 - 1/e of the best.

    Maximises the sum over the pool of the largest (1 + cosine) / 2 to a chosen row; gains are evaluated lazily. Source:
    Nemhauser et al. 1978; Minoux 1978; for data Wei et al. 2015, "Submodularity in Data Subset Selection and Active
    Learning".

    Args:
        embeddings: (n, H) float32, unit norm.
        budget: rows to choose, 1..n.

    Returns:
        (budget,) positions, ascending; of equals the first is chosen.

    Raises:
        InvalidArgument: the budget is not in 1..n, or n is above 20,000, whose similarities would not fit into memory.
    """
    n = len(embeddings)
    _check_budget(budget, n)
    if n > MAX_FACILITY_ROWS:
        raise InvalidArgument(f"embeddings: facility location compares all pairs of at most {MAX_FACILITY_ROWS} rows")
    # In place, as there is memory for no second one.
    similarity = embeddings @ embeddings.T
    similarity += 1
    similarity /= 2
    covered = np.zeros(n, np.float32)
    # Gains only shrink as rows are chosen, so one from an earlier round is a bound.
    bounds = [(-float(gain), at) for at, gain in enumerate(similarity.sum(1, dtype=np.float64))]
    heapq.heapify(bounds)
    chosen: list[int] = []
    while len(chosen) < budget:
        _, at = heapq.heappop(bounds)
        gain = float(np.maximum(similarity[at] - covered, 0).sum(dtype=np.float64))
        if bounds and (-gain, at) > bounds[0]:
            heapq.heappush(bounds, (-gain, at))
            continue
        chosen.append(at)
        np.maximum(covered, similarity[at], out=covered)
    return np.sort(np.array(chosen, np.int64))


def equal_shares(groups: npt.ArrayLike, budget: int, *, seed: int) -> Int64Array:
    """Choose the same number of rows from every group; what a small group cannot give is split over the others.

    Over bins of a score this is coverage-centric selection (Zheng et al. 2023, "Coverage-centric Coreset Selection for
    High Pruning Rates").

    Args:
        groups: (n,) labels.
        budget: rows to choose, 1..n.
        seed: of the choice within a group, and of which groups give one row more.

    Returns:
        (budget,) positions, ascending.

    Raises:
        InvalidArgument: the budget is not in 1..n.
    """
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    _check_budget(budget, len(group))
    shares = equal_budget(np.bincount(group).tolist(), budget, seed=seed)
    ties = tie_hash(np.arange(len(group)), seed)
    members = rows_by_group(group, len(names))
    parts = [rows[np.argsort(ties[rows])][:share] for rows, share in zip(members, shares, strict=True)]
    return np.sort(np.concatenate(parts))


def equal_budget(sizes: Sequence[int], budget: int, *, seed: int) -> list[int]:
    """Split a budget evenly over groups; none gets more than it has, and the rest goes to the others.

    The shares sum to the budget, given budget <= sum of sizes.
    """

    def shares_at(level: int) -> list[int]:
        return [min(size, level) for size in sizes]

    # The highest level that the budget reaches.
    level = bisect_right(range(max(sizes) + 1), budget, key=lambda level: sum(shares_at(level))) - 1
    shares = shares_at(level)
    order = np.argsort(tie_hash(np.arange(len(sizes)), seed))
    larger = [int(at) for at in order if sizes[at] > level]
    for at in larger[: budget - sum(shares)]:
        shares[at] += 1
    return shares


def _check_budget(budget: int, n: int) -> None:
    if not 1 <= budget <= n:
        raise InvalidArgument(f"budget: must be in 1..{n}, the rows there are; got {budget}")
