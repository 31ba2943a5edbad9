"""Masses and numbers of meaning groups, sample by sample, in Numba."""

import numpy as np
from numba import njit, prange

from euds.kernels.exp_log_numba import exp_in_place, log_in_place
from euds.kernels.parallel_numba import parallel_njit
from euds.types import Float64Array, Int64Array

BLOCK = 4096
"""Generations weighed at a time: their weights stay in the cache."""

UNLIKELY = -300.0
"""Log-probability down to which exponentials and their sums are far from underflow."""


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
def block_weights(
    logprobs: Float64Array, offsets: Int64Array, first: int, stop: int, weights: Float64Array, scratch: Int64Array
) -> None:
    """Fill weights with numbers that are in proportion to the probabilities within each of samples first..stop-1."""
    base = offsets[first]
    n = offsets[stop] - base
    n_unlikely = 0
    for at in range(n):
        weights[at] = logprobs[base + at]
        n_unlikely += (weights[at] < UNLIKELY) & (weights[at] > -np.inf)
    if n_unlikely > 0:
        relative_weights(logprobs, offsets, first, stop, weights, scratch)
    else:
        # Without a largest for each sample, which takes longer than the exponentials.
        exp_in_place(weights, scratch, n)


@njit(cache=True, nogil=True, error_model="numpy")
def dense_mass_entropy(
    groups: Int64Array, logprobs: Float64Array, offsets: Int64Array, first: int, stop: int, n_ids: int
) -> Float64Array:
    """`ragged_mass_entropy` of samples first..stop-1 of groups in 0..n_ids-1, several times faster than by sorting."""
    size = BLOCK
    for i in range(first, stop):
        size = max(size, offsets[i + 1] - offsets[i])
    weights, scratch = np.empty(size), np.empty(size, np.int64)
    shares, logs, ends = np.empty(size + 1), np.empty(size), np.empty(size, np.int64)
    table = np.zeros(n_ids)
    result = np.zeros(stop - first)
    start = first
    while start < stop:
        end = start + 1
        while end < stop and end - start < size and offsets[end + 1] - offsets[start] <= size:
            end += 1
        block_weights(logprobs, offsets, start, end, weights, scratch)
        base, n_shares = offsets[start], 0
        for i in range(start, end):
            total = 0.0
            for at in range(offsets[i], offsets[i + 1]):
                table[groups[at]] += weights[at - base]
                total += weights[at - base]
            for at in range(offsets[i], offsets[i + 1]):
                # A group met again has given its mass already, and the next one overwrites its 0.
                mass = table[groups[at]]
                shares[n_shares] = mass / total
                n_shares += mass > 0.0
                table[groups[at]] = 0.0
            ends[i - start] = n_shares
        logs[:n_shares] = shares[:n_shares]
        log_in_place(logs, scratch, n_shares)
        at = 0
        for i in range(start, end):
            entropy = 0.0
            if at == ends[i - start] and offsets[i + 1] > offsets[i]:
                entropy = np.nan
            while at < ends[i - start]:
                entropy -= shares[at] * logs[at]
                at += 1
            result[i - first] = entropy
        start = end
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
