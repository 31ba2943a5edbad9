"""Entropies of one sample's generations from the cosine similarities of their embeddings, as defined, in float64."""

from collections.abc import Sequence

import numpy as np
import scipy.linalg

from euds.types import Float64Array


def n_groups(groups: Sequence[int]) -> int:
    """Number of different meaning groups."""
    return len(set(groups))


def cosines(embeddings: Float64Array) -> Float64Array:
    """Cosine similarities of the rows (n, H) with each other, (n, n)."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    result: Float64Array = unit @ unit.T
    return result


def nearest_neighbor_entropy(embeddings: Float64Array, temperature: float) -> float:
    """SNNE of one sample, -(1/n) sum_i ln sum_j exp(cos_ij / temperature), nats."""
    return float(-np.log(np.exp(cosines(embeddings) / temperature).sum(1)).mean())


def kernel_language_entropy(embeddings: Float64Array, time: float, laplacian: str, kernel_scale: str) -> float:
    """KLE of one sample, -tr(K ln K) of the heat kernel on the graph of positive cosines, nats."""
    weights = cosines(embeddings)
    # Rounding is no edge; without others beside it, normalising would make it a whole one.
    weights[weights <= (1e-6 if laplacian == "normalized" else 0)] = 0
    np.fill_diagonal(weights, 0)
    degrees = weights.sum(1)
    matrix = np.diag(degrees) - weights
    if laplacian == "normalized":
        inverse = np.diag([degree**-0.5 if degree > 0 else 0.0 for degree in degrees])
        matrix = inverse @ matrix @ inverse
    kernel = scipy.linalg.expm(-time * matrix)
    if kernel_scale == "unit_diagonal":
        kernel = kernel / np.sqrt(np.outer(np.diag(kernel), np.diag(kernel)))
    eigenvalues = np.linalg.eigvalsh(kernel / np.trace(kernel))
    eigenvalues = eigenvalues[eigenvalues > 0]
    return float(-(eigenvalues * np.log(eigenvalues)).sum())
