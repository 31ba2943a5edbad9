"""Find the interval of one score from its histogram, for pools too large to sort."""

import numpy as np

from euds.errors import InvalidArgument, one_of, real_number
from euds.ops.histogram import Histogram
from euds.ops.keep import Keep, parse_keep, parse_max_keep
from euds.types import Float64Array, Int64Array, Interval

HISTOGRAM_RULES = ("low", "middle", "high", "densest", "density", "utility")


def histogram_interval(
    histogram: Histogram, *, keep: Keep, rule: str, max_keep: Keep | None, min_width: float | None
) -> Interval:
    """Return the interval of a histogram in O(bins), as `find_interval` says."""
    one_of("rule", rule, HISTOGRAM_RULES)
    if len(histogram.edges) != 1:
        raise InvalidArgument(f"histogram: must be of one axis, got {len(histogram.edges)}")
    counts, edges = histogram.counts, histogram.edges[0]
    n = histogram.n_counted
    if n == 0:
        raise InvalidArgument("histogram: no row is in a bin")
    min_width = None if min_width is None else real_number("min_width", min_width)
    if (min_width is None) == (rule == "density") or (min_width is not None and not 0 <= min_width < np.inf):
        raise InvalidArgument(f"min_width: rule 'density', and it alone, needs one from 0, got {min_width}")
    if max_keep is not None and rule not in ("densest", "utility"):
        raise InvalidArgument(f"max_keep: rule {rule!r} has no use for it")
    least = parse_keep(keep, n)
    most = parse_max_keep(max_keep, n)
    ranks = _mid_ranks(counts)
    utilities = histogram.utilities
    if rule in ("low", "middle", "high"):
        first, last = ranked_bins(counts, rule, least)
    else:
        first, last = _by_search(histogram, rule, least, most, min_width or 0.0)
    inside = slice(first, last + 1)
    return Interval(
        rule=rule,
        low=float(edges[first]),
        high=float(edges[last + 1]),
        low_rank=float(ranks[first]),
        high_rank=float(ranks[last]),
        n_scores=n,
        n_left_out=histogram.n_left_out,
        n_in_region=int(counts[inside].sum()),
        utility=None if utilities is None else float(utilities[inside].sum()),
        indices=np.empty(0, np.int64),
    )


def densest_bins(lowest: Float64Array, highest: Float64Array, counts: Int64Array, least: int) -> tuple[int, int]:
    """Return the first and last bin of the shortest interval from a lowest to a highest value of bins with enough rows.

    It is that of the rule `densest` where every bin is a value; edges would make a bin of equal values as wide as the
    gap behind them. Empty bins may be among them, with any values that ascend.
    """
    from euds import _core

    found = _core.find_interval(lowest, highest, counts, None, "shortest", least, int(counts.sum()), 0.0)
    assert found is not None
    return found


def ranked_bins(counts: Int64Array, rule: str, least: int) -> tuple[int, int]:
    """Return the first and last bin of the rows whose mid-ranks are "low", nearest the "middle", or "high".

    Args:
        counts: rows of each bin, some of which may be empty.
        rule: "low", "middle" or "high".
        least: rows that the bins hold at least, 1 to all.
    """
    ranks = _mid_ranks(counts)
    distance = {"low": ranks, "middle": np.abs(ranks - 0.5), "high": 1 - ranks}[rule]
    filled = np.flatnonzero(counts)
    order = filled[np.argsort(distance[filled], kind="stable")]
    enough = int(np.searchsorted(np.cumsum(counts[order]), least))
    inside = filled[distance[filled] <= distance[order[enough]]]
    return int(inside[0]), int(inside[-1])


def _mid_ranks(counts: Int64Array) -> Float64Array:
    below = np.concatenate(([0], np.cumsum(counts)))
    ranks: Float64Array = (below[:-1] + below[1:]) / (2 * below[-1])
    return ranks


def _by_search(histogram: Histogram, rule: str, least: int, most: int, min_width: float) -> tuple[int, int]:
    from euds import _core

    edges = histogram.edges[0]
    sums = None
    if rule == "utility":
        sums = histogram.comparable_utilities
        if sums is None:
            raise InvalidArgument("histogram: rule 'utility' needs one with utilities")
    objective = "shortest" if rule == "densest" else rule
    found = _core.find_interval(
        edges[:-1].copy(), edges[1:].copy(), histogram.counts, sums, objective, least, most, min_width
    )
    if found is None:
        raise InvalidArgument(f"max_keep: no range of bins holds {least} to {most} rows; raise it")
    return found
