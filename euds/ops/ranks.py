"""Ranks and equal-mass bins, in which equal scores always share their place."""

import numpy as np
import numpy.typing as npt

from euds.types import Float64Array

Int32Array = npt.NDArray[np.int32]


def mid_ranks(scores: Float64Array) -> Float64Array:
    """Return the mid-rank percentile of each finite score: (scores below + half of the equal ones) / n, in (0, 1)."""
    below, equal = _below_and_equal(scores)
    ranks: Float64Array = (below + 0.5 * equal) / max(len(scores), 1)
    return ranks


def equal_mass_bins(scores: Float64Array, bins: int) -> tuple[Int32Array, int]:
    """Return each score's bin by mid-rank, and the number of bins; ties share a bin, empty bins are left out."""
    below, equal = _below_and_equal(scores)
    # Integers, so that no edge depends on rounding.
    wide = bins * (2 * below + equal) // (2 * max(len(scores), 1))
    used, codes = np.unique(wide, return_inverse=True)
    return codes.astype(np.int32), max(len(used), 1)


def _below_and_equal(scores: Float64Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    below = np.concatenate(([0], np.cumsum(counts)[:-1])) if len(counts) else counts
    return below[place], counts[place]
