"""Entropies of the cosine similarities among each sample's embeddings, in Numba."""

from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange
from threadpoolctl import threadpool_limits

from euds.kernels.cosine_numba import cosines
from euds.kernels.parallel_numba import parallel_njit
from euds.kernels.semantic_numba import mass_entropy
from euds.types import Float32Array, Float64Array, Int64Array

_ONE_BLAS_THREAD = Lock()


@parallel_njit
def ragged_neighbor_entropy(embeddings: Float32Array, offsets: Int64Array, temperature: float) -> Float64Array:
    """-(1/n) sum_i ln sum_j exp(cos_ij / temperature) of each sample, (n,); NaN if empty or without a direction."""
    result = np.full(len(offsets) - 1, np.nan)
    for i in prange(len(offsets) - 1):
        similarities = cosines(embeddings[offsets[i] : offsets[i + 1]])
        n = len(similarities)
        total = 0.0
        for row in range(n):
            # 1 is the largest cosine, but for rounding, and always there, on the diagonal.
            below = np.minimum(similarities[row] - 1.0, 0.0)
            total -= 1.0 / temperature + np.log(np.exp(below / temperature).sum())
        if n > 0:
            result[i] = total / n
    return result


COSINE_ROUNDING = 1e-6
"""Of float32 embeddings. Beside no other edge of its node, normalising makes a whole edge of a cosine of so little."""


@njit(cache=True, nogil=True)
def laplacian(similarities: Float64Array, normalized: bool) -> Float64Array:
    """Graph Laplacian (n, n) of the similarities that are above 0, or if normalized above rounding, without loops."""
    n = len(similarities)
    least = COSINE_ROUNDING if normalized else 0.0
    result = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i != j:
                weight = similarities[i, j] if similarities[i, j] > least else 0.0
                result[i, j] = -weight
                result[i, i] += weight
    if not normalized:
        return result
    degrees = np.sqrt(np.diag(result))
    for i in range(n):
        for j in range(n):
            # A node without edges keeps its zeros.
            if result[i, j] != 0.0:
                result[i, j] /= degrees[i] * degrees[j]
    return result


@njit(cache=True, nogil=True)
def _above_least(eigenvalues: npt.NDArray[np.floating[Any]]) -> Float64Array:
    """How far eigenvalues lie above the least, which a kernel scaled to its trace does not see; 0 within rounding.

    So the least ones last, however long the time.
    """
    above: Float64Array = eigenvalues - eigenvalues.min()
    rounding = len(eigenvalues) * np.finfo(np.float64).eps * np.abs(eigenvalues).max()
    above[above <= rounding] = 0.0
    return above


@njit(cache=True, nogil=True)
def heat_entropy(matrix: Float64Array, time: float, unit_diagonal: bool) -> float:
    """Von Neumann entropy of exp(-time * matrix) scaled to trace 1, nats."""
    if not unit_diagonal:
        # The eigenvalues of the kernel are exp(-time * eigenvalue), so the kernel itself is not needed.
        return mass_entropy(np.exp(-time * _above_least(np.linalg.eigvalsh(matrix))), len(matrix))
    eigenvalues, vectors = np.linalg.eigh(matrix)
    half = vectors * np.exp(-0.5 * time * _above_least(eigenvalues))
    for i in range(len(half)):
        half[i] /= np.sqrt((half[i] ** 2).sum())
    # half @ half.T is the kernel with a unit diagonal; rounding can put its zeros below 0.
    return mass_entropy(np.maximum(np.linalg.eigvalsh(half @ half.T), 0.0), len(half))


def ragged_heat_entropy(
    embeddings: Float32Array, offsets: Int64Array, time: float, normalized: bool, unit_diagonal: bool
) -> Float64Array:
    """Kernel language entropy of each sample, (n,); NaN if empty or without a direction."""
    # The LAPACK that Numba calls: loaded before its threads are counted, of which each of ours would start all.
    import scipy.linalg.cython_lapack  # noqa: F401

    # The limit is the process': a call beside this one would take it for what it has to restore.
    with _ONE_BLAS_THREAD, threadpool_limits(1, user_api="blas"):
        result: Float64Array = _ragged_heat_entropy(embeddings, offsets, time, normalized, unit_diagonal)
    return result


@parallel_njit
def _ragged_heat_entropy(
    embeddings: Float32Array, offsets: Int64Array, time: float, normalized: bool, unit_diagonal: bool
) -> Float64Array:
    result = np.full(len(offsets) - 1, np.nan)
    for i in prange(len(offsets) - 1):
        similarities = cosines(embeddings[offsets[i] : offsets[i + 1]])
        if len(similarities) > 0 and not np.isnan(similarities).any():
            result[i] = heat_entropy(laplacian(similarities, normalized), time, unit_diagonal)
    return result
