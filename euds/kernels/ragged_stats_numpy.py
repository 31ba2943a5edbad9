"""Mean and maximum of consecutive runs of values in NumPy."""

import numpy as np

from euds.types import Float32Array, Int64Array


def ragged_mean_max(values: Float32Array, offsets: Int64Array) -> tuple[Float32Array, Float32Array]:
    """Return the mean and the maximum, each (F, n) float32, of every sample of each row of values (F, N).

    Sample i is values[:, offsets[i]:offsets[i + 1]]; both are NaN for an empty sample and for one that holds a NaN.
    """
    lengths = np.diff(offsets)
    means = np.full((len(values), len(lengths)), np.nan, np.float32)
    maxima = means.copy()
    filled = lengths > 0
    if filled.any():
        # An empty sample ends where it starts, so what lies between two starts is one whole sample.
        starts = offsets[:-1][filled]
        # Sums in float64, so that a long sample loses nothing.
        sums = np.add.reduceat(values.astype(np.float64), starts, axis=1)
        means[:, filled] = sums / lengths[filled]
        maxima[:, filled] = np.maximum.reduceat(values, starts, axis=1)
    return means, maxima
