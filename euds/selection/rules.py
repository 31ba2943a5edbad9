"""The rules: from the values on some axes to the rows kept and the region they lie in."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from euds.errors import InvalidArgument
from euds.ops.keep import tie_hash
from euds.ops.search import INTERVAL_RULES, find_box, find_intersection, find_interval
from euds.types import AxisBounds, Float64Array, Int64Array

BOX_RULES = ("box", "igse")
RULES = (*INTERVAL_RULES, "typical", "random", "longest", "shortest", "intersection", *BOX_RULES)

ONE_AXIS = INTERVAL_RULES
FIXED_AXES = {
    "typical": ("nll", "generative"),
    "igse": ("information", "generative", "semantic"),
    "random": (),
    "longest": (),
    "shortest": (),
}
"""Rules that always look at the same axes."""

TYPICALITY = "typicality_nats"
"""|nll - generative entropy|, the one axis of `typical`."""


@dataclass(frozen=True, eq=False)
class Region:
    """What a rule found: positions kept (ascending), bounds per axis, rows inside before trimming."""

    kept: Int64Array
    bounds: tuple[AxisBounds, ...]
    n_in_region: int
    volume: float | None = None
    lift: float | None = None


@dataclass(frozen=True, eq=False)
class Pool:
    """Rows to choose from: values per axis (n, d), lengths in tokens (n,) and row ids (n,)."""

    axes: tuple[str, ...]
    values: Float64Array
    n_tokens: Float64Array
    row_ids: Int64Array


def axes_for(rule: str, axes: Sequence[str] | None) -> tuple[str, ...]:
    """Return the axes that a rule looks at.

    Raises:
        InvalidArgument: the rule needs axes and has none, or has another number than it takes.
    """
    given = tuple(axes or ())
    if rule in FIXED_AXES:
        fixed = FIXED_AXES[rule]
        if given and given != fixed:
            raise InvalidArgument(f"axis: rule {rule!r} always looks at {', '.join(fixed) or 'no score'}; name none")
        return fixed
    if rule in ONE_AXIS and len(given) != 1:
        raise InvalidArgument(f"axis: rule {rule!r} looks at one score; name it, such as --axis generative")
    if rule == "box" and not 1 <= len(given) <= 3:
        raise InvalidArgument("axis: rule 'box' looks at one to three scores; name them")
    if rule == "intersection" and not given:
        raise InvalidArgument("axis: rule 'intersection' needs at least one score; name two or three")
    return given


def apply_rule(rule: str, pool: Pool, budget: int, *, seed: int, bins: int) -> Region:
    """Keep exactly `budget` rows of the pool, all of whose values are finite."""
    if rule in BOX_RULES:
        return _box(pool, budget, seed, bins)
    if rule == "intersection":
        return _intersection(pool, budget, seed)
    if rule == "random":
        order = np.lexsort((pool.row_ids, tie_hash(pool.row_ids, seed)))
        return Region(np.sort(order[:budget]), (), len(order))
    if rule == "typical":
        distance = np.abs(pool.values[:, 0] - pool.values[:, 1])
        return _interval(distance, TYPICALITY, "low", pool.row_ids, budget, seed)
    if rule in ("longest", "shortest"):
        end = "high" if rule == "longest" else "low"
        return _interval(pool.n_tokens, "n_tokens", end, pool.row_ids, budget, seed)
    return _interval(pool.values[:, 0], pool.axes[0], rule, pool.row_ids, budget, seed)


def _interval(values: Float64Array, axis: str, rule: str, row_ids: Int64Array, budget: int, seed: int) -> Region:
    found = find_interval(values, keep=budget, rule=rule, seed=seed, ids=row_ids)
    bounds = AxisBounds(axis, found.low, found.high, found.low_rank, found.high_rank)
    return Region(found.indices, (bounds,), found.n_in_region)


def _box(pool: Pool, budget: int, seed: int, bins: int) -> Region:
    found = find_box(pool.values, keep=budget, bins=bins, seed=seed, ids=pool.row_ids)
    sides = zip(pool.axes, found.low, found.high, found.low_rank, found.high_rank, strict=True)
    bounds = tuple(AxisBounds(*side) for side in sides)
    return Region(found.indices, bounds, found.n_in_region, found.volume, found.lift)


def _intersection(pool: Pool, budget: int, seed: int) -> Region:
    found = find_intersection(pool.values, keep=budget, seed=seed, ids=pool.row_ids)
    sides = zip(pool.axes, found.low, found.high, found.low_rank, found.high_rank, strict=True)
    bounds = tuple(AxisBounds(*side) for side in sides)
    return Region(found.indices, bounds, found.n_in_region, found.volume, found.lift)
