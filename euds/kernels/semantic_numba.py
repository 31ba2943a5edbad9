"""Masses and numbers of meaning groups, sample by sample, in Numba."""

import numpy as np
from numba import njit, prange

from euds.kernels.parallel_numba import parallel_njit
from euds.types import Float64Array, Int64Array


@njit(cache=True, nogil=True)
def mass_entropy(masses: Float64Array) -> float:
    """Entropy of masses (all >= 0, sum > 0), nats."""
    total = masses.sum()
    entropy = 0.0
    for mass in masses:
        share = mass / total
        if share > 0.0:
            entropy -= share * np.log(share)
    # -1 ln 1 is -0.0.
    return max(entropy, 0.0)


@njit(cache=True, nogil=True)
def dense_mass_entropy(
    groups: Int64Array, logprobs: Float64Array, offsets: Int64Array, first: int, stop: int, n_ids: int
) -> Float64Array:
    """`ragged_mass_entropy` of samples first..stop-1 of groups in 0..n_ids-1, several times faster than by sorting."""
    table = np.zeros(n_ids)
    masses = np.empty(n_ids + 1)
    result = np.zeros(stop - first)
    for i in range(first, stop):
        begin, end = offsets[i], offsets[i + 1]
        if end == begin:
            continue
        top = logprobs[begin:end].max()
        if top == -np.inf:
            result[i - first] = np.nan
            continue
        for at in range(begin, end):
            table[groups[at]] += np.exp(logprobs[at] - top)
        n_masses = 0
        for at in range(begin, end):
            # A group met again has given its mass already, and the next one overwrites its 0.
            masses[n_masses] = table[groups[at]]
            n_masses += masses[n_masses] > 0.0
            table[groups[at]] = 0.0
        result[i - first] = mass_entropy(masses[:n_masses])
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
                result[i] = mass_entropy(group_masses(groups[start:stop], logprobs[start:stop], top))
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
