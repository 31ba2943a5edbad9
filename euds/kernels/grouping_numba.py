"""Groups of generations by cosine similarity or by equal text, sample by sample, in Numba."""

import numpy as np
from numba import njit, prange

from euds.kernels.cosine_numba import row_dot
from euds.kernels.parallel_numba import parallel_njit
from euds.types import BoolArray, Float32Array, Float64Array, Int64Array

SMALLEST, LARGEST = 1e-20, 1e20
"""Squared norms between which nothing overflows in float32, and what underflows does not count."""

ROUGHNESS = 4 * 2.0**-23
"""Error of a cosine that was summed in float32, for each number of a row, with room to spare."""


@njit(cache=True, nogil=True)
def inverse_norm(rows: Float32Array | Float64Array, i: int, roughness: float) -> float:
    """1 / norm of a row, NaN where it has no direction or, if sums are rough, where they may not be trusted."""
    squares = row_dot(rows, i, i)
    if roughness > 0.0:
        return 1.0 / np.sqrt(squares) if SMALLEST < squares < LARGEST else np.nan
    return 1.0 / np.sqrt(squares) if 0.0 < squares < np.inf else np.nan


@njit(cache=True, nogil=True)
def by_representative(
    rows: Float32Array | Float64Array,
    start: int,
    stop: int,
    empty: BoolArray,
    least: float,
    roughness: float,
    group: Int64Array,
) -> bool:
    """Fill in the group of rows start..stop: the first representative, in order, with a cosine of at least `least`.

    Returns:
        False, with the groups unfinished, where a cosine is so near to `least` that its roughness leaves it open.
    """
    # Norms are taken as rows come up, so that reading one overlaps with comparing another.
    inverse = np.empty(stop - start)
    representatives = np.empty(stop - start, np.int64)
    n_groups = 0
    group_of_empty = -1
    for i in range(start, stop):
        inverse[i - start] = inverse_norm(rows, i, roughness)
        found = group_of_empty if empty[i] else -1
        if not empty[i]:
            for g in range(n_groups):
                j = representatives[g]
                if empty[j]:
                    continue
                cosine = row_dot(rows, i, j) * inverse[i - start] * inverse[j - start]
                # NaN is as open as a near miss; without roughness it is no similarity.
                if roughness > 0.0 and not abs(cosine - least) > roughness:
                    return False
                if cosine >= least:
                    found = g
                    break
        if found < 0:
            found = n_groups
            representatives[n_groups] = i
            n_groups += 1
            if empty[i]:
                group_of_empty = found
        group[i] = found
    return True


@njit(cache=True, nogil=True)
def root_of(parent: Int64Array, i: int) -> int:
    """Root of node i, halving the path to it."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def by_component(
    rows: Float32Array | Float64Array,
    start: int,
    stop: int,
    empty: BoolArray,
    least: float,
    roughness: float,
    group: Int64Array,
) -> bool:
    """Fill in the group of rows start..stop: the component of the graph whose edges are cosines of at least `least`.

    Returns:
        False, with the groups unfinished, where a cosine is so near to `least` that its roughness leaves it open.
    """
    inverse = np.empty(stop - start)
    parent = np.arange(stop - start)
    for i in range(stop - start):
        inverse[i] = inverse_norm(rows, start + i, roughness)
        for j in range(i):
            left, right = root_of(parent, i), root_of(parent, j)
            if left == right or empty[start + i] != empty[start + j]:
                continue
            joined = empty[start + i]
            if not joined:
                cosine = row_dot(rows, start + i, start + j) * inverse[i] * inverse[j]
                if roughness > 0.0 and not abs(cosine - least) > roughness:
                    return False
                joined = cosine >= least
            if joined:
                # The smaller root stays, so that a root is the first member of its group.
                parent[max(left, right)] = min(left, right)
    n_groups = 0
    for i in range(stop - start):
        root = root_of(parent, i)
        if root == i:
            group[start + i] = n_groups
            n_groups += 1
        else:
            group[start + i] = group[start + root]
    return True


@parallel_njit
def ragged_similarity_groups(
    embeddings: Float32Array, offsets: Int64Array, empty: BoolArray, least: float, components: bool
) -> Int64Array:
    """Group of every generation (total,), numbered from 0 within each sample by first appearance.

    Cosines are summed in float32, and once more in float64 for a sample where that does not settle every comparison.
    """
    result = np.empty(len(embeddings), np.int64)
    roughness = ROUGHNESS * embeddings.shape[1]
    for i in prange(len(offsets) - 1):
        start, stop = offsets[i], offsets[i + 1]
        if components:
            settled = by_component(embeddings, start, stop, empty, least, roughness, result)
        else:
            settled = by_representative(embeddings, start, stop, empty, least, roughness, result)
        if not settled:
            rows = embeddings[start:stop].astype(np.float64)
            if components:
                by_component(rows, 0, stop - start, empty[start:stop], least, 0.0, result[start:stop])
            else:
                by_representative(rows, 0, stop - start, empty[start:stop], least, 0.0, result[start:stop])
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
