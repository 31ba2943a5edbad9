"""Norms and cosine similarities of embeddings in Numba: products in float64, so that a comparison is exact."""

import numpy as np
from numba import njit, prange

from euds.kernels.parallel_numba import parallel_njit
from euds.types import BoolArray, Float32Array, Float64Array

# Sums may be reordered into vector lanes; NaN and infinity keep their meaning.
SUMS = {"reassoc", "contract", "nsz"}


@njit(cache=True, nogil=True, fastmath=SUMS)
def dot(left: Float32Array | Float64Array, right: Float32Array | Float64Array) -> float:
    """Dot product of two vectors, summed in float64."""
    total = 0.0
    for at in range(len(left)):
        total += np.float64(left[at]) * np.float64(right[at])
    return total


@njit(cache=True, nogil=True)
def inverse_norms(rows: Float32Array) -> Float64Array:
    """1 / norm of each row (n, H), (n,); NaN for a row of zeros or with NaN or infinity."""
    result = np.empty(len(rows))
    for i in range(len(rows)):
        squares = dot(rows[i], rows[i])
        result[i] = 1.0 / np.sqrt(squares) if 0.0 < squares < np.inf else np.nan
    return result


@njit(cache=True, nogil=True)
def cosines(rows: Float32Array) -> Float64Array:
    """Cosine similarities of rows (n, H) with each other, (n, n), diagonal 1; NaN where a row has no direction."""
    n = len(rows)
    inverse = inverse_norms(rows)
    result = np.empty((n, n))
    for i in range(n):
        result[i, i] = 1.0 if inverse[i] > 0.0 else np.nan
        for j in range(i):
            result[i, j] = result[j, i] = dot(rows[i], rows[j]) * inverse[i] * inverse[j]
    return result


@njit(cache=True, nogil=True)
def norm(row: Float64Array | Float32Array) -> tuple[float, float]:
    """Norm of row / scale and the scale, 1 where squares neither overflow nor vanish; a norm of NaN: no direction."""
    squares = dot(row, row)
    if 1e-200 < squares < 1e200:
        return np.sqrt(squares), 1.0
    if not np.isfinite(row).all() or not row.any():
        return np.nan, 1.0
    scale = np.float64(np.abs(row).max())
    scaled = row / scale
    return np.sqrt(dot(scaled, scaled)), scale


@parallel_njit
def unit_rows(rows: Float64Array | Float32Array) -> tuple[Float32Array, BoolArray]:
    """Rows (n, H) at unit norm in float32, and which have a direction; the others, zero or not finite, become zeros."""
    n, width = rows.shape
    unit = np.empty((n, width), np.float32)
    usable = np.empty(n, np.bool_)
    for i in prange(n):
        length, scale = norm(rows[i])
        usable[i] = length > 0.0
        if scale == 1.0:
            factor = 1.0 / length if length > 0.0 else 0.0
            for j in range(width):
                # NaN and infinity times 0 would be NaN.
                unit[i, j] = rows[i, j] * factor if factor > 0.0 else 0.0
        else:
            for j in range(width):
                unit[i, j] = rows[i, j] / scale / length
    return unit, usable


@parallel_njit
def have_direction(rows: Float64Array | Float32Array) -> BoolArray:
    """Which rows (n, H) are finite and not zero, (n,)."""
    result = np.empty(len(rows), np.bool_)
    for i in prange(len(rows)):
        result[i] = norm(rows[i])[0] > 0.0
    return result
