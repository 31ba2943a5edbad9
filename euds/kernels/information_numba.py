"""Per-sample token counts in Numba: sort each sample's ids, then walk the runs."""

import numpy as np
from numba import njit, prange

from euds.kernels.parallel_numba import parallel_njit
from euds.types import Float64Array, Int64Array

PLUGIN, MILLER_MADOW, CHAO_SHEN = 0, 1, 2
SHORT = 32
"""Samples of up to so many ids take the logarithms of their shares from a table, which stays in the cache."""


@njit(cache=True, nogil=True)
def share_terms(longest: int) -> Float64Array:
    """(count / n) ln(count / n) at [n, count], and 0 at count 0."""
    terms = np.zeros((longest + 1, longest + 1))
    for n in range(1, longest + 1):
        for count in range(1, n + 1):
            p = count / n
            terms[n, count] = p * np.log(p)
    return terms


@njit(cache=True, nogil=True)
def corrected(entropy: float, n_types: int, n: int, estimator: int) -> float:
    """The plug-in entropy as it is (but -1 ln 1, which is -0.0), or after Miller and Madow."""
    return entropy + (n_types - 1) / (2 * n) if estimator == MILLER_MADOW else max(entropy, 0.0)


@njit(cache=True, nogil=True)
def count_entropy(counts: Int64Array, n: int, estimator: int) -> float:
    """Entropy of `counts` (all > 0, sum n), nats."""
    if estimator != CHAO_SHEN:
        entropy = 0.0
        for count in counts:
            p = count / n
            entropy -= p * np.log(p)
        return corrected(entropy, len(counts), n, estimator)
    singletons = 0
    for count in counts:
        singletons += count == 1
    coverage = 1.0 - (n - 1 if singletons == n else singletons) / n
    entropy = 0.0
    for count in counts:
        p = coverage * count / n
        if p > 0.0:
            # 1 - (1 - p)^n, whose digits go where p is near 0.
            seen = -np.expm1(n * np.log1p(-p)) if p < 1.0 else 1.0
            entropy -= p * np.log(p) / seen
    return max(entropy, 0.0)


@njit(cache=True, nogil=True)
def run_lengths(values: Int64Array) -> Int64Array:
    """Lengths of the runs of equal values in a sorted array."""
    lengths = np.empty(len(values), np.int64)
    n_runs = 0
    start = 0
    for at in range(1, len(values) + 1):
        if at == len(values) or values[at] != values[start]:
            lengths[n_runs] = at - start
            n_runs += 1
            start = at
    return lengths[:n_runs]


@parallel_njit
def ragged_count_entropy(ids: Int64Array, offsets: Int64Array, estimator: int) -> Float64Array:
    """Entropy of the counts in each ids[offsets[i]:offsets[i+1]], (n,) float64; 0 for an empty sample."""
    result = np.zeros(len(offsets) - 1)
    for i in prange(len(offsets) - 1):
        n = offsets[i + 1] - offsets[i]
        if n > 0:
            counts = run_lengths(np.sort(ids[offsets[i] : offsets[i + 1]]))
            result[i] = count_entropy(counts, n, estimator)
    return result


@njit(cache=True, nogil=True)
def dense_count_entropy(
    ids: Int64Array, offsets: Int64Array, first: int, stop: int, n_ids: int, estimator: int
) -> Float64Array:
    """Entropy of the counts in samples first..stop-1 of ids in 0..n_ids-1, several times faster than by sorting."""
    table = np.zeros(n_ids, np.int32)
    counts = np.empty(n_ids, np.int64)
    terms = share_terms(SHORT)
    result = np.zeros(stop - first)
    for i in range(first, stop):
        n_types = 0
        n = offsets[i + 1] - offsets[i]
        for at in range(offsets[i], offsets[i + 1]):
            table[ids[at]] += 1
        if 0 < n <= SHORT and estimator != CHAO_SHEN:
            # No branch on the counts, which nobody can predict: an id met again counts 0, whose term is 0.
            entropy = 0.0
            for at in range(offsets[i], offsets[i + 1]):
                count = table[ids[at]]
                entropy -= terms[n, count]
                n_types += count > 0
                table[ids[at]] = 0
            result[i - first] = corrected(entropy, n_types, n, estimator)
            continue
        for at in range(offsets[i], offsets[i + 1]):
            count = table[ids[at]]
            if count > 0:
                counts[n_types] = count
                n_types += 1
                table[ids[at]] = 0
        if n_types > 0:
            result[i - first] = count_entropy(counts[:n_types], n, estimator)
    return result


@parallel_njit
def id_range(ids: Int64Array) -> tuple[int, int]:
    """Smallest and largest of some ids, of which there is at least one."""
    smallest = largest = ids[0]
    for at in prange(len(ids)):
        smallest, largest = min(smallest, ids[at]), max(largest, ids[at])
    return smallest, largest


@parallel_njit
def ragged_count_entropy_dense(
    ids: Int64Array, offsets: Int64Array, n_ids: int, n_pieces: int, estimator: int
) -> Float64Array:
    """`dense_count_entropy` of all samples, in pieces side by side."""
    n = len(offsets) - 1
    result = np.empty(n)
    for piece in prange(n_pieces):
        first, stop = n * piece // n_pieces, n * (piece + 1) // n_pieces
        result[first:stop] = dense_count_entropy(ids, offsets, first, stop, n_ids, estimator)
    return result


@njit(cache=True, nogil=True)
def ragged_mean(values: Float64Array, ids: Int64Array, offsets: Int64Array) -> Float64Array:
    """Mean of values[ids] in each sample, (n,) float64; 0 for an empty sample."""
    result = np.zeros(len(offsets) - 1)
    for i in range(len(offsets) - 1):
        n = offsets[i + 1] - offsets[i]
        total = 0.0
        for at in range(offsets[i], offsets[i + 1]):
            total += values[ids[at]]
        if n > 0:
            result[i] = total / n
    return result
