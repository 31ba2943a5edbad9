"""Entropy of a softmax over a few similarities, row by row, in Numba."""

import numpy as np
from numba import njit, prange

from euds.types import Float32Array


@njit(cache=True, nogil=True, parallel=True)
def softmax_entropy(similarities: Float32Array, temperature: float) -> Float32Array:
    """Entropy of softmax(similarities / temperature) per row, (n,) float32, nats; rows (n, m) sorted downwards."""
    n, m = similarities.shape
    result = np.empty(n, np.float32)
    for i in prange(n):
        top = similarities[i, 0]
        s = 0.0
        a = 0.0
        for j in range(m):
            d = (similarities[i, j] - top) / temperature
            e = np.exp(d)
            s += e
            a += d * e
        result[i] = np.log(s) - a / s
    return result
