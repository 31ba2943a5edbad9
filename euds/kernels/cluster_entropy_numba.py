"""Entropy of a softmax over a few similarities, row by row, in Numba."""

import numpy as np
from numba import prange

from euds.kernels.parallel_numba import parallel_njit
from euds.types import Float32Array


@parallel_njit
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
            # Far below the top, d may be -inf.
            a += d * e if e > 0.0 else 0.0
        result[i] = np.log(s) - a / s
    return result
