"""Groups of generations by equal text, sample by sample, in Numba."""

import numpy as np
from numba import prange

from euds.kernels.parallel_numba import parallel_njit
from euds.types import Int64Array


@parallel_njit
def ragged_first_equal(codes: Int64Array, offsets: Int64Array) -> Int64Array:
    """Position of the first equal code in the same sample, for every position (total,)."""
    result = np.empty(len(codes), np.int64)
    for i in prange(len(offsets) - 1):
        start, stop = offsets[i], offsets[i + 1]
        # A stable sort keeps the first of equals in front.
        order = np.argsort(codes[start:stop], kind="mergesort")
        for place in range(len(order)):
            at = start + order[place]
            if place > 0 and codes[at] == codes[start + order[place - 1]]:
                result[at] = result[start + order[place - 1]]
            else:
                result[at] = at
    return result


@parallel_njit
def ragged_ranks(firsts: Int64Array, offsets: Int64Array) -> Int64Array:
    """Groups numbered from 0 within each sample by first appearance; firsts names each group by its first position."""
    result = np.empty(len(firsts), np.int64)
    for i in prange(len(offsets) - 1):
        n_groups = 0
        for at in range(offsets[i], offsets[i + 1]):
            if firsts[at] == at:
                result[at] = n_groups
                n_groups += 1
            else:
                result[at] = result[firsts[at]]
    return result
