"""Ranks and equal-mass bins, in which equal scores always share their place."""

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument, whole_number
from euds.types import BoolArray, Float64Array, Int32Array, Int64Array

MAX_ROWS = (1 << 31) - 2
"""Rows that one ranking takes: doubled ranks are 32-bit integers."""

MOST_THREADS = 1 << 20
"""More are as many: none has so many cores."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """Ranks of n rows on d axes as integers, so that no bin edge depends on rounding.

    Attributes:
        doubled: (d, n) uint32; 2 x the rows below + the rows equal, itself counted, among the rows that are finite on
            every axis; 0 for the other rows.
        n_ranked: number of rows that are finite on every axis.
    """

    doubled: npt.NDArray[np.uint32]
    n_ranked: int

    def is_ranked(self) -> BoolArray:
        """Tell which rows are finite on every axis; (n,)."""
        ranked: BoolArray = self.doubled[0] > 0
        return ranked

    def percentiles(self, axis: int, rows: Int64Array | BoolArray | slice = slice(None)) -> Float64Array:
        """Return the mid-rank percentiles of rows on an axis, in (0, 1), or 0 for rows that have no rank."""
        ranks: Float64Array = self.doubled[axis][rows] / (2 * max(self.n_ranked, 1))
        return ranks


def rank_rows(scores: npt.NDArray[np.floating], *, n_threads: int | None = None) -> Ranks:
    """Rank every axis of (n, d) float32 or float64 scores among the rows that are finite on all axes.

    One sort an axis, of (score, row) pairs: 16 bytes a row twice (float32: 8) beside the ranks. The result does not
    depend on `n_threads` (all cores if None).

    Raises:
        InvalidArgument: more than 2^31 - 2 rows, or `n_threads` is below 1.
    """
    from euds import _core

    if len(scores) > MAX_ROWS:
        raise InvalidArgument(f"scores: {len(scores)} rows are more than the {MAX_ROWS} that can be ranked; take fewer")
    doubled, n_ranked = _core.rank_rows(np.ascontiguousarray(scores), check_threads(n_threads))
    return Ranks(doubled, n_ranked)


def check_threads(n_threads: int | None) -> int:
    """Return the number of threads to use: all cores that this process may use if None.

    Raises:
        InvalidArgument: the number is below 1, or no integer.
    """
    if n_threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(whole_number("n_threads", n_threads, least=1), MOST_THREADS)


def mid_ranks(scores: Float64Array) -> Float64Array:
    """Return the mid-rank percentile of each finite score: (scores below + half of the equal ones) / n, in (0, 1)."""
    return rank_rows(scores[:, None]).percentiles(0)


def equal_mass_bins(scores: Float64Array, bins: int) -> tuple[Int32Array, int]:
    """Return each score's bin by mid-rank, and the number of bins; ties share a bin, empty bins are left out."""
    ranks = rank_rows(scores[:, None])
    # Each mid-rank has a bin of its own from then on.
    bins = min(bins, 2 * max(ranks.n_ranked, 1))
    wide = bins * ranks.doubled[0].astype(np.int64) // (2 * max(ranks.n_ranked, 1))
    used, codes = np.unique(wide, return_inverse=True)
    return codes.astype(np.int32), max(len(used), 1)
