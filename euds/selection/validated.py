"""The rule `validated`: the interval or box on whose rows a cheap trainee does best; it uses labels."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

import numpy as np

from euds.ops.box import find_boxes
from euds.ops.keep import tie_hash
from euds.ops.luck import luck_bound
from euds.ops.pool import nearest_rows
from euds.ops.ranks import mid_ranks
from euds.selection.axes import ENTROPIES
from euds.selection.rules import Pool, Region, apply_rule, region_of
from euds.selection.trainee import PROBE, Trainee, Trials
from euds.types import AxisBounds, Float64Array, Int64Array

INTERVALS = 11
"""Intervals tried on each axis, their centres evenly spaced in ranks."""

BOXES = 4
MAX_BOX_BINS = 32
"""Most equal-mass bins an axis of the candidate boxes; the fixed box beside them has as many as are named."""

RUNGS = (0.25, 0.5, 1.0)
"""Shares of its rows that a candidate trains on; after each of them but the last, the better half goes on."""


@dataclass(frozen=True)
class Validation:
    """How the search went, all of it in plain types.

    Attributes:
        trainee: what the probe is and what it reads.
        n_validation: rows carved from the pool to judge on; they were trained on by no candidate.
        split_seed: of the split.
        n_candidates: intervals and boxes compared.
        n_trials: probes trained, the fixed intervals included.
        seconds: what the probes took.
        chosen: name of the winner.
        accuracy: its share of validation rows right, in 0..1.
        fixed: accuracies of what needed no search: "igse" (on other axes "box"), "middle AXIS", "random".
        luck: upper bound on how far the best of `n_trials` equally good candidates is expected to exceed their true
            accuracy by chance.
    """

    trainee: str
    n_validation: int
    split_seed: int
    n_candidates: int
    n_trials: int
    seconds: float
    chosen: str
    accuracy: float
    fixed: Mapping[str, float]
    luck: float

    def to_record(self) -> dict[str, Any]:
        """Return it as selection.json holds it."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A region of exactly the budget, with a name for readers."""

    name: str
    region: Region


def search_validated(pool: Pool, budget: int, trainee: Trainee, *, seed: int, bins: int) -> tuple[Region, Validation]:
    """Find the region by successive halving over intervals of every axis and the best boxes.

    Every candidate holds exactly `budget` rows of the pool; it is trained on those outside the validation split. The
    boxes among them are of a grid of `bins` bins an axis, at most `MAX_BOX_BINS`.

    Raises:
        InputError: the labelled rows are too few for a split.
    """
    fit, validation = trainee.split(seed)
    is_fit = np.zeros(len(trainee.row_ids), bool)
    is_fit[fit] = True
    trials = Trials(trainee)

    def accuracy(region: Region, share: float) -> float:
        rows = trainee.positions(pool.row_ids[region.kept])
        rows = rows[is_fit[rows]]
        # Always the same rows of a region, a smaller share within a larger one.
        order = np.argsort(tie_hash(trainee.row_ids[rows], seed))
        return trials.accuracy(np.sort(rows[order[: max(1, round(share * len(rows)))]]), validation)

    candidates = candidates_of(pool, budget, seed=seed, bins=bins)
    alive = list(range(len(candidates)))
    found: dict[int, float] = {}
    for share in RUNGS:
        found = {at: accuracy(candidates[at].region, share) for at in alive}
        alive = sorted(alive, key=lambda at: (-found[at], at))
        alive = alive if share == RUNGS[-1] else alive[: (len(alive) + 1) // 2]
    best = alive[0]
    fixed = {}
    for name, region in _fixed(pool, budget, seed=seed, bins=bins):
        fixed[name] = accuracy(region, 1.0)
    report = Validation(
        trainee=f"{PROBE}, on {trainee.source}",
        n_validation=len(validation),
        split_seed=seed,
        n_candidates=len(candidates),
        n_trials=trials.count,
        seconds=round(trials.seconds, 3),
        chosen=candidates[best].name,
        accuracy=found[best],
        fixed=fixed,
        luck=luck_bound(trials.count, len(validation), float(np.mean(list(fixed.values())))),
    )
    return candidates[best].region, report


def candidates_of(pool: Pool, budget: int, *, seed: int, bins: int) -> list[Candidate]:
    """Return intervals of `budget` rows all along every axis, and on several axes the best boxes that differ."""
    half = budget / len(pool.row_ids) / 2
    ties = tie_hash(pool.row_ids, seed)
    centres = _named_apart(np.unique(np.linspace(half, 1 - half, INTERVALS)).tolist())
    candidates = []
    for axis, values in zip(pool.axes, pool.values.T, strict=True):
        ranks = mid_ranks(values)
        candidates += [
            Candidate(f"{axis} around rank {name}", _around(pool, axis, ranks, centre, ties, budget))
            for name, centre in centres.items()
        ]
    if len(pool.axes) > 1:
        boxes = find_boxes(pool.values, keep=budget, k=BOXES, bins=min(bins, MAX_BOX_BINS), seed=seed, ids=pool.row_ids)
        candidates += [Candidate(f"box {at + 1}", region_of(box, pool.axes)) for at, box in enumerate(boxes)]
    return candidates


def _named_apart(centres: Sequence[float]) -> dict[str, float]:
    """Return different numbers by their text, of two decimals or as many as tell them apart."""
    named = ({f"{centre:.{digits}f}": centre for centre in centres} for digits in count(2))
    return next(found for found in named if len(found) == len(centres))


def _around(
    pool: Pool, axis: str, ranks: Float64Array, centre: float, ties: np.ndarray[Any, Any], budget: int
) -> Region:
    values = pool.values[:, pool.axes.index(axis)]
    distance = np.abs(ranks - centre)
    kept: Int64Array = nearest_rows(np.arange(len(ranks)), distance, ties, budget)
    inside = distance <= distance[kept].max()
    sides = (values[inside], ranks[inside])
    low, high, low_rank, high_rank = (float(end) for side in sides for end in (side.min(), side.max()))
    return Region(kept, (AxisBounds(axis, low, high, low_rank, high_rank),), int(inside.sum()))


def _fixed(pool: Pool, budget: int, *, seed: int, bins: int) -> Sequence[tuple[str, Region]]:
    """What the search must beat: the box, the middle of each axis, and random."""
    fixed = [
        (f"middle {axis}", apply_rule("middle", pool.on([axis]), budget, seed=seed, bins=bins)) for axis in pool.axes
    ]
    if len(pool.axes) > 1:
        name = "igse" if pool.axes == ENTROPIES else "box"
        fixed.insert(0, (name, apply_rule("box", pool, budget, seed=seed, bins=bins)))
    return [*fixed, ("random", apply_rule("random", pool, budget, seed=seed, bins=bins))]
