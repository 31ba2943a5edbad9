"""Find the box of several scores from their histogram, for pools too large to hold."""

import numpy as np

from euds.errors import InvalidArgument
from euds.ops.box import MAX_CELLS, Progress, objective_of
from euds.ops.filled_cells import filled_cells
from euds.ops.histogram import Histogram
from euds.ops.keep import Keep, parse_keep, parse_max_keep
from euds.ops.ranks import MAX_ROWS, check_threads
from euds.types import Box


def histogram_box(
    histogram: Histogram,
    *,
    keep: Keep,
    objective: str | None = None,
    max_keep: Keep | None = None,
    n_threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[Box, tuple[tuple[int, int], ...]]:
    """Return the box of a histogram, as `find_box` says, and its first and last bin on every axis."""
    from euds import _core

    counts, n = histogram.counts, histogram.n_counted
    if n == 0:
        raise InvalidArgument("histogram: no row is in a bin")
    if n > MAX_ROWS or counts.size > MAX_CELLS:
        raise InvalidArgument(
            f"histogram: {n} rows in {counts.size} cells are more than {MAX_ROWS} rows or {MAX_CELLS} cells; take fewer"
        )
    utilities = histogram.utilities
    goal = objective_of(objective, has_utility=utilities is not None)
    least = parse_keep(keep, n)
    most = parse_max_keep(max_keep, n)
    filled = filled_cells(counts[None], histogram.comparable_utilities)
    found = _core.find_boxes(
        filled.counts, filled.sums, np.array([least]), most, goal, 1, 0.5, check_threads(n_threads), progress
    )
    if not found:
        raise InvalidArgument(f"max_keep: no box of the histogram holds {least} to {most} rows; raise it")
    ((lowest, highest, n_inside),) = found
    first, last = filled.bins(lowest), filled.bins(highest)
    axes = range(counts.ndim)
    low_rank = tuple(float(filled.masses[axis][at] / n) for axis, at in enumerate(filled.places(lowest)))
    high_rank = tuple(float(filled.masses[axis][at + 1] / n) for axis, at in enumerate(filled.places(highest)))
    volume = float(np.prod(np.subtract(high_rank, low_rank)))
    inside = tuple(slice(first[axis], last[axis] + 1) for axis in axes)
    box = Box(
        low=tuple(float(histogram.edges[axis][first[axis]]) for axis in axes),
        high=tuple(float(histogram.edges[axis][last[axis] + 1]) for axis in axes),
        low_rank=low_rank,
        high_rank=high_rank,
        bins=max(counts.shape),
        n_scores=n,
        n_left_out=histogram.n_left_out,
        n_in_region=n_inside,
        volume=volume,
        lift=n_inside / (n * volume),
        utility=None if utilities is None else float(utilities[inside].sum()),
        objective=goal,
        indices=np.empty(0, np.int64),
    )
    return box, tuple(zip(first, last, strict=True))
