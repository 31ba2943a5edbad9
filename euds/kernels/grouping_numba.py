"""Groups of generations by cosine similarity or by equal text, sample by sample, in Numba."""

import numpy as np
from numba import njit, prange

from euds.kernels.cosine_numba import dot, inverse_norms
from euds.kernels.parallel_numba import parallel_njit
from euds.types import BoolArray, Float32Array, Float64Array, Int64Array


@njit(cache=True, nogil=True)
def directions(rows: Float32Array, empty: BoolArray) -> Float64Array:
    """1 / norm of each row, NaN for a row that is similar to none: empty, zero or not finite."""
    inverse = inverse_norms(rows)
    for i in range(len(rows)):
        if empty[i]:
            inverse[i] = np.nan
    return inverse


@njit(cache=True, nogil=True)
def by_representative(rows: Float32Array, empty: BoolArray, least: float) -> Int64Array:
    """Group of each row: that of the first representative, in order, with a cosine of at least `least`."""
    n = len(rows)
    inverse = directions(rows, empty)
    group = np.empty(n, np.int64)
    representatives = np.empty(n, np.int64)
    n_groups = 0
    group_of_empty = -1
    for i in range(n):
        found = group_of_empty if empty[i] else -1
        # NaN passes no comparison, so a row without a direction meets nobody.
        if inverse[i] > 0.0:
            for g in range(n_groups):
                j = representatives[g]
                if dot(rows[i], rows[j]) * inverse[i] * inverse[j] >= least:
                    found = g
                    break
        if found < 0:
            found = n_groups
            representatives[n_groups] = i
            n_groups += 1
            if empty[i]:
                group_of_empty = found
        group[i] = found
    return group


@njit(cache=True, nogil=True)
def root_of(parent: Int64Array, i: int) -> int:
    """Root of node i, halving the path to it."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def by_component(rows: Float32Array, empty: BoolArray, least: float) -> Int64Array:
    """Group of each row: the connected component of the graph whose edges are cosines of at least `least`."""
    n = len(rows)
    inverse = directions(rows, empty)
    parent = np.arange(n)
    for i in range(n):
        for j in range(i):
            left, right = root_of(parent, i), root_of(parent, j)
            if left != right and ((empty[i] and empty[j]) or dot(rows[i], rows[j]) * inverse[i] * inverse[j] >= least):
                # The smaller root stays, so that a root is the first member of its group.
                parent[max(left, right)] = min(left, right)
    group = np.empty(n, np.int64)
    n_groups = 0
    for i in range(n):
        root = root_of(parent, i)
        if root == i:
            group[i] = n_groups
            n_groups += 1
        else:
            group[i] = group[root]
    return group


@parallel_njit
def ragged_similarity_groups(
    embeddings: Float32Array, offsets: Int64Array, empty: BoolArray, least: float, components: bool
) -> Int64Array:
    """Group of every generation (total,), numbered from 0 within each sample by first appearance."""
    result = np.empty(len(embeddings), np.int64)
    for i in prange(len(offsets) - 1):
        start, stop = offsets[i], offsets[i + 1]
        rows, blank = embeddings[start:stop], empty[start:stop]
        if components:
            result[start:stop] = by_component(rows, blank, least)
        else:
            result[start:stop] = by_representative(rows, blank, least)
    return result


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
