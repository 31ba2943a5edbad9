"""How methods choose rows beyond euds' own rules: each takes a pool, a budget and a seed, and returns positions."""

from collections.abc import Callable
from typing import Any

import numpy as np

from euds.errors import InvalidArgument
from euds.ops.box import find_box
from euds.ops.interval import find_interval
from euds.ops.keep import tie_hash
from euds.selection.coverage import equal_shares, facility_location, k_center
from euds.selection.duplicates import near_duplicates
from euds.selection.rules import FIXED_AXES
from euds.study.grid.pool import StudyPool
from euds.types import Int64Array

Choice = Callable[[StudyPool, int, int], Int64Array]
"""(pool, budget, seed) -> positions, ascending."""

IGSE_AXES = FIXED_AXES["igse"]
STRATA = 10
"""Equal-mass bins of a score that get equal shares, and of the lengths that are matched."""

CLUSTERS = 50
PSEUDO_CLASSES = 10
LABEL_BINS = 16
"""Equal-mass bins of the label surprisal, whose intervals are tried one by one, and of the axes of the box inside."""


def by_rule(rule: str, *axes: str, **settings: object) -> Choice:
    """One of euds' own rules."""
    return lambda pool, budget, seed: pool.choose(budget, rule, axes, seed=seed, **settings).row_ids


def by_interval(rule: str, axis: str) -> Choice:
    """An interval of a score that the scores table does not have."""
    return lambda pool, budget, seed: find_interval(pool.values(axis), keep=budget, rule=rule, seed=seed).indices


def everything(pool: StudyPool, budget: int, seed: int) -> Int64Array:
    """The whole pool, whatever the budget."""
    return np.arange(len(pool))


def with_lengths_of_igse(pool: StudyPool, budget: int, seed: int) -> Int64Array:
    """Random rows, of each tenth of the lengths as many as the IGSE box has."""
    edges = np.quantile(pool.n_tokens, np.linspace(0, 1, STRATA + 1)[1:-1])
    stratum = np.searchsorted(edges, pool.n_tokens, side="right")
    wanted = np.bincount(stratum[by_rule("igse")(pool, budget, seed)], minlength=STRATA)
    ties = tie_hash(np.arange(len(pool)), seed)
    parts = []
    for at, share in enumerate(wanted.tolist()):
        members = np.flatnonzero(stratum == at)
        parts.append(members[np.argsort(ties[members])][:share])
    return np.sort(np.concatenate(parts))


def stratified(axis: str) -> Choice:
    """Equal shares of the equal-mass bins of a score."""
    return lambda pool, budget, seed: equal_shares(strata(pool, axis), budget, seed=seed)


def strata(pool: StudyPool, axis: str) -> Int64Array:
    """Return (n,) the equal-mass bin of each row."""
    return np.minimum((pool.ranks(axis) * STRATA).astype(np.int64), STRATA - 1)


def centers(pool: StudyPool, budget: int, seed: int) -> Int64Array:
    """k-center on the embeddings of the whole pool."""
    return k_center(pool.embeddings, budget, seed=seed)


def facilities(pool: StudyPool, budget: int, seed: int) -> Int64Array:
    """Facility location on the embeddings of the whole pool."""
    return facility_location(pool.embeddings, budget)


def clusters(pool: StudyPool, budget: int, seed: int) -> Int64Array:
    """Equal shares of the semantic clusters of the whole pool."""
    return equal_shares(pool.clusters(CLUSTERS), budget, seed=seed)


def within_box(times: int, inner: Choice) -> Choice:
    """Some rows of an IGSE box that is `times` as large, without near-duplicates."""

    def choose(pool: StudyPool, budget: int, seed: int) -> Int64Array:
        wide = by_rule("igse")(pool, min(times * budget, len(pool)), seed)
        # A copy outside the box stands for nothing in it: what repeats is told among the box's own rows.
        fresh = np.delete(wide, near_duplicates([pool.texts[at] for at in wide.tolist()]))
        # Where nearly everything repeats, repetitions must do.
        candidates = fresh if len(fresh) >= budget else wide
        return candidates[inner(_part(pool, candidates), budget, seed)]

    return choose


def per_pseudo_class(pool: StudyPool, budget: int, seed: int) -> Int64Array:
    """An IGSE box inside each cluster of the embeddings, budgets in proportion."""
    named = pool.labelled(pool.clusters(PSEUDO_CLASSES))
    return by_rule("igse", group_by="label")(named, budget, seed)


def best_validated_interval(pool: StudyPool, budget: int, seed: int) -> Int64Array:
    """The interval of any entropy on whose rows a linear probe does best on a validation split of the pool."""
    found = [pool.choose(budget, "validated", (axis,), seed=seed) for axis in IGSE_AXES]
    records: list[Any] = [one.record["validated"] for one in found]
    return found[int(np.argmax([record["accuracy"] for record in records]))].row_ids


def box_with_label_surprisal(pool: StudyPool, budget: int, seed: int) -> Int64Array:
    """An IGSE box within the best interval of label surprisal: all intervals are tried, each with its smallest box.

    The best has the smallest product of the share of rows in the interval and the volume of the box, which is measured
    in ranks among the rows inside: it is not the smallest box over four axes.
    """
    ranks = np.column_stack([pool.ranks(axis) for axis in IGSE_AXES])
    label_bin = np.minimum((pool.ranks("label_surprisal") * LABEL_BINS).astype(np.int64), LABEL_BINS - 1)
    best: tuple[float, Int64Array] = (np.inf, np.empty(0, np.int64))
    for low in range(LABEL_BINS):
        for high in range(low, LABEL_BINS):
            inside = np.flatnonzero((label_bin >= low) & (label_bin <= high))
            if len(inside) < budget:
                continue
            box = find_box(ranks[inside], keep=budget, bins=LABEL_BINS, seed=seed, ids=inside)
            volume = len(inside) / len(pool) * box.volume
            if volume < best[0]:
                best = (volume, inside[box.indices])
    return best[1]


def of_source(source: str) -> Choice:
    """Random rows of one source.

    The choice raises InvalidArgument where the pool has fewer of them than the budget.
    """

    def choose(pool: StudyPool, budget: int, seed: int) -> Int64Array:
        rows = np.flatnonzero(np.asarray(pool.scores.column("source")) == source)
        if len(rows) < budget:
            raise InvalidArgument(f"grid: {source}_rows: the pool has {len(rows)} rows of {source}, to keep {budget}")
        return np.sort(rows[np.argsort(tie_hash(rows, seed))][:budget])

    return choose


def shuffled(pool: StudyPool, budget: int, seed: int) -> Int64Array:
    """The IGSE box of scores that have been dealt out to the rows anew."""
    dealt = np.random.default_rng(seed).permutation(len(pool))
    return np.sort(dealt[by_rule("igse")(pool, budget, seed)])


def leaked(pool: StudyPool, budget: int, seed: int) -> Int64Array:
    """Positions of test rows, with their labels."""
    return leaked_positions(pool.n_test, budget, seed)


def leaked_positions(n_test: int, budget: int, seed: int) -> Int64Array:
    """Return random positions of the test rows, `budget` or all there are."""
    return np.sort(np.argsort(tie_hash(np.arange(n_test), seed))[:budget])


def _part(pool: StudyPool, positions: Int64Array) -> StudyPool:
    """Return some rows of a pool, renumbered, for choices that look at embeddings and scores."""
    return StudyPool(
        scores=pool.scores.take(positions),
        embeddings=pool.embeddings[positions],
        texts=[pool.texts[at] for at in positions.tolist()],
        trainee=None,
        label_surprisal=None,
        el2n=None,
        n_test=0,
    )
