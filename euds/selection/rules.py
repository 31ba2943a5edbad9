"""The rules: from the values on some axes to the rows kept and the region they lie in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from euds.errors import InvalidArgument, names_of, whole_number
from euds.ops.box import find_box
from euds.ops.intersection import find_intersection
from euds.ops.interval import INTERVAL_RULES, find_interval
from euds.ops.keep import Keep, number_of, tie_hash
from euds.progress import say, search_bar, slow_bar
from euds.selection.coverage import facility_location, k_center
from euds.types import AxisBounds, Box, Float32Array, Float64Array, Int64Array, Intersection

BOX_RULES = ("box", "igse")
DEFAULT_BINS = 64
"""Equal-mass bins an axis of a box search."""
RULES = (*INTERVAL_RULES, "typical", "random", "longest", "shortest", "intersection", *BOX_RULES)
"""The rules that `apply_rule` knows."""

COVERAGE_RULES = ("k_center", "facility")
"""The rules that look at embeddings instead of scores."""

REGIONLESS_RULES = ("random", *COVERAGE_RULES)
"""The rules whose rows lie in no region of scores."""

VALIDATED = "validated"
AUTO_RULE = "auto"
SEARCHED_RULES = (AUTO_RULE, VALIDATED)
"""The rules that choose one of the others, or a region of their own."""

ONE_AXIS = INTERVAL_RULES
FIXED_AXES = {
    "typical": ("nll", "generative"),
    "igse": ("information", "generative", "semantic"),
    "random": (),
    "longest": (),
    "shortest": (),
    **dict.fromkeys(COVERAGE_RULES, ()),
}
"""Rules that always look at the same axes."""

TYPICALITY = "typicality_nats"
"""|nll - generative entropy|, the one axis of `typical`."""


@dataclass(frozen=True, eq=False)
class Region:
    """What a rule found: positions kept (ascending), bounds per axis, rows inside before trimming, how stable it is."""

    kept: Int64Array
    bounds: tuple[AxisBounds, ...]
    n_in_region: int
    volume: float | None = None
    lift: float | None = None
    stability: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class Pool:
    """Rows to choose from.

    Attributes:
        axes: names of the scores.
        values: of them, float64 (n, d).
        n_tokens: lengths (n,).
        row_ids: (n,).
        embeddings: float32 (n, H), unit norm, for the rules that cover them.
    """

    axes: tuple[str, ...]
    values: Float64Array
    n_tokens: Float64Array
    row_ids: Int64Array
    embeddings: Float32Array | None = None

    def part(self, rows: Int64Array) -> "Pool":
        """Return some of the rows."""
        embeddings = None if self.embeddings is None else self.embeddings[rows]
        return Pool(self.axes, self.values[rows], self.n_tokens[rows], self.row_ids[rows], embeddings)

    def on(self, axes: Sequence[str]) -> "Pool":
        """Return all rows with some of the axes."""
        places = [self.axes.index(axis) for axis in axes]
        return replace(self, axes=tuple(axes), values=self.values[:, places])


def named(argument: str, names: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return names, or the one name that stands alone instead of in a list; see `names_of` for its error."""
    return None if names is None else names_of(argument, names)


def axes_for(rule: str, axes: Sequence[str] | None) -> tuple[str, ...]:
    """Return the axes that a rule looks at.

    Raises:
        InvalidArgument: the rule needs axes and has none, or has another number than it takes.
    """
    given = named("axes", axes) or ()
    if rule in FIXED_AXES:
        fixed = FIXED_AXES[rule]
        if given and given != fixed:
            raise InvalidArgument(f"axes: rule {rule!r} always looks at {', '.join(fixed) or 'no score'}; name none")
        return fixed
    if rule in ONE_AXIS and len(given) != 1:
        raise InvalidArgument(f"axes: rule {rule!r} looks at one score; name it, such as --axis generative")
    if rule == "box" and not 1 <= len(given) <= 3:
        raise InvalidArgument("axes: rule 'box' looks at one to three scores; name each, such as --axis generative")
    if rule == AUTO_RULE and given:
        raise InvalidArgument("axes: rule 'auto' chooses its score itself; name none, or name a rule with it")
    if rule == VALIDATED and len(given) > 3:
        raise InvalidArgument(
            f"axes: rule {rule!r} looks at one to three scores, or at the entropies of the run where none is named"
        )
    if rule == "intersection" and not given:
        raise InvalidArgument(
            "axes: rule 'intersection' looks at one score or more; name each, such as --axis generative --axis nll"
        )
    return given


def bins_for(rule: str, bins: int | None) -> int:
    """Return the equal-mass bins an axis of a rule's box search.

    Raises:
        InvalidArgument: bins are named for a rule that searches no box, are below 2, or no integer.
    """
    bins = None if bins is None else whole_number("bins", bins, least=2)
    if bins is not None and rule not in (*BOX_RULES, VALIDATED):
        raise InvalidArgument(f"bins: rule {rule!r} searches no box; leave it out")
    return DEFAULT_BINS if bins is None else bins


def warn_of_one_row(keep: Keep) -> None:
    """Say aloud that a count of 1, which may be meant to be everything, keeps one row."""
    number = number_of(keep)
    if isinstance(number, int) and number == 1:
        say("warning: keep: 1 is a count and keeps one row; 1.0 keeps all")


@dataclass(frozen=True, eq=False)
class Search:
    """The search that a rule comes down to: a rule of intervals, "box" or "intersection" over some values (n, d)."""

    rule: str
    axes: tuple[str, ...]
    values: Float64Array


def search_of(rule: str, pool: Pool) -> Search | None:
    """Return the search of a rule, or None for those that look at no score."""
    if rule in REGIONLESS_RULES:
        return None
    if rule == "typical":
        distance = np.abs(pool.values[:, 0] - pool.values[:, 1])
        return Search("low", (TYPICALITY,), distance[:, None])
    if rule in ("longest", "shortest"):
        return Search("high" if rule == "longest" else "low", ("n_tokens",), pool.n_tokens[:, None])
    return Search("box" if rule in BOX_RULES else rule, pool.axes, pool.values)


def apply_rule(rule: str, pool: Pool, budget: int, *, seed: int, bins: int) -> Region:
    """Keep exactly `budget` rows of the pool, all of whose values are finite."""
    if rule in COVERAGE_RULES:
        assert pool.embeddings is not None
        return Region(_covering(rule, pool.embeddings, budget, seed), (), len(pool.row_ids))
    search = search_of(rule, pool)
    if search is None:
        order = np.lexsort((pool.row_ids, tie_hash(pool.row_ids, seed)))
        return Region(np.sort(order[:budget]), (), len(order))
    if search.rule in INTERVAL_RULES:
        found = find_interval(search.values[:, 0], keep=budget, rule=search.rule, seed=seed, ids=pool.row_ids)
        bounds = AxisBounds(search.axes[0], found.low, found.high, found.low_rank, found.high_rank)
        return Region(found.indices, (bounds,), found.n_in_region)
    if search.rule == "box":
        with search_bar() as progress:
            box = find_box(search.values, keep=budget, bins=bins, seed=seed, ids=pool.row_ids, progress=progress)
        return region_of(box, pool.axes)
    return region_of(find_intersection(search.values, keep=budget, seed=seed, ids=pool.row_ids), pool.axes)


def _covering(rule: str, embeddings: Float32Array, budget: int, seed: int) -> Int64Array:
    if rule == "facility":
        return facility_location(embeddings, budget)
    with slow_bar("k-center", budget, "rows") as advance:
        return k_center(embeddings, budget, seed=seed, advance=advance)


def region_of(found: Box | Intersection, axes: Sequence[str]) -> Region:
    """Return the region of a search over several axes."""
    sides = zip(axes, found.low, found.high, found.low_rank, found.high_rank, strict=True)
    bounds = tuple(AxisBounds(*side) for side in sides)
    return Region(found.indices, bounds, found.n_in_region, found.volume, found.lift)
