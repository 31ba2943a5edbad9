"""Masses and numbers of meaning groups, sample by sample, in Numba."""

import numpy as np
from numba import njit, prange

from euds.kernels.exp_numba import exp_in_place
from euds.kernels.parallel_numba import parallel_njit
from euds.types import Float64Array, Int64Array

BLOCK = 4096
"""Generations weighed at a time: their weights stay in the cache."""


@njit(cache=True, nogil=True)
def mass_entropy(masses: Float64Array, n: int) -> float:
    """Entropy of the first n masses (all >= 0, sum > 0), nats."""
    total = 0.0
    for at in range(n):
        total += masses[at]
    entropy = 0.0
    for at in range(n):
        share = masses[at] / total
        if share > 0.0:
            entropy -= share * np.log(share)
    # -1 ln 1 is -0.0.
    return max(entropy, 0.0)


@njit(cache=True, nogil=True)
def relative_weights(
    logprobs: Float64Array, offsets: Int64Array, first: int, stop: int, weights: Float64Array, scratch: Int64Array
) -> None:
    """Fill weights with exp(logprob - the sample's largest) of samples first..stop-1; 0 where all of one are -inf."""
    for i in range(first, stop):
        top = -np.inf
        for at in range(offsets[i], offsets[i + 1]):
            top = max(top, logprobs[at])
        for at in range(offsets[i], offsets[i + 1]):
            # Relative to the largest, so that very unlikely generations do not all underflow.
            weights[at - offsets[first]] = logprobs[at] - top if top > -np.inf else -np.inf
    exp_in_place(weights, scratch, offsets[stop] - offsets[first])


@njit(cache=True, nogil=True)
def dense_mass_entropy(
    groups: Int64Array, logprobs: Float64Array, offsets: Int64Array, first: int, stop: int, n_ids: int
) -> Float64Array:
    """`ragged_mass_entropy` of samples first..stop-1 of groups in 0..n_ids-1, several times faster than by sorting."""
    size = BLOCK
    for i in range(first, stop):
        size = max(size, offsets[i + 1] - offsets[i])
    weights, scratch = np.empty(size), np.empty(size, np.int64)
    table, masses = np.zeros(n_ids), np.empty(n_ids + 1)
    result = np.zeros(stop - first)
    start = end = first
    for i in range(first, stop):
        if i == end:
            start, end = i, i + 1
            while end < stop and offsets[end + 1] - offsets[start] <= size:
                end += 1
            relative_weights(logprobs, offsets, start, end, weights, scratch)
        for at in range(offsets[i], offsets[i + 1]):
            table[groups[at]] += weights[at - offsets[start]]
        n_masses = 0
        for at in range(offsets[i], offsets[i + 1]):
            # A group met again has given its mass already, and the next one overwrites its 0.
            masses[n_masses] = table[groups[at]]
            n_masses += masses[n_masses] > 0.0
            table[groups[at]] = 0.0
        if n_masses > 0:
            result[i - first] = mass_entropy(masses, n_masses)
        elif offsets[i + 1] > offsets[i]:
            result[i - first] = np.nan
    return result


@parallel_njit
def ragged_mass_entropy_dense(
    groups: Int64Array, logprobs: Float64Array, offsets: Int64Array, n_ids: int, n_pieces: int
) -> Float64Array:
    """`dense_mass_entropy` of all samples, in pieces side by side."""
    n = len(offsets) - 1
    result = np.empty(n)
    for piece in prange(n_pieces):
        first, stop = n * piece // n_pieces, n * (piece + 1) // n_pieces
        result[first:stop] = dense_mass_entropy(groups, logprobs, offsets, first, stop, n_ids)
    return result


@njit(cache=True, nogil=True)
def group_masses(groups: Int64Array, logprobs: Float64Array, top: float) -> Float64Array:
    """Sum of exp(logprob - top) of every different group, in the order of the sorted groups."""
    order = np.argsort(groups)
    masses = np.zeros(len(groups))
    at = 0
    for place, member in enumerate(order):
        if place > 0 and groups[member] != groups[order[place - 1]]:
            at += 1
        masses[at] += np.exp(logprobs[member] - top)
    return masses[: at + 1]


@parallel_njit
def ragged_mass_entropy(groups: Int64Array, logprobs: Float64Array, offsets: Int64Array) -> Float64Array:
    """Entropy of each sample's summed probabilities by group, (n,); 0 if empty, NaN if all are -inf."""
    result = np.zeros(len(offsets) - 1)
    for i in prange(len(offsets) - 1):
        start, stop = offsets[i], offsets[i + 1]
        if stop > start:
            # Relative to the largest, so that very unlikely generations do not all underflow.
            top = logprobs[start:stop].max()
            if top == -np.inf:
                result[i] = np.nan
            else:
                masses = group_masses(groups[start:stop], logprobs[start:stop], top)
                result[i] = mass_entropy(masses, len(masses))
    return result


@parallel_njit
def ragged_n_groups(groups: Int64Array, offsets: Int64Array) -> Int64Array:
    """Number of different groups in each sample, (n,)."""
    result = np.zeros(len(offsets) - 1, np.int64)
    for i in prange(len(offsets) - 1):
        members = np.sort(groups[offsets[i] : offsets[i + 1]])
        for at in range(len(members)):
            result[i] += at == 0 or members[at] != members[at - 1]
    return result
