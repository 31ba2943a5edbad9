"""Semantic clustering entropy: how clearly an embedding belongs to one meaning group of its pool."""

import math

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument
from euds.ops.embeddings import unit_rows
from euds.types import Float32Array, Int64Array

DEFAULT_NEIGHBORS = 16


def cluster_entropy(
    embeddings: npt.ArrayLike,
    *,
    n_clusters: int,
    n_neighbors: int | None = None,
    similarity_temperature: float = 0.05,
    seed: int = 0,
) -> Float32Array:
    """Return the entropy of each embedding's membership in the clusters of all of them.

    K unit-norm centroids by spherical k-means; p = softmax(cos(e, c) / similarity_temperature) over the m nearest; the
    score is H(p). Source: method.md, "Semantic entropy", estimator `clusters`.

    Args:
        embeddings: (n, H) real numbers; rows are scaled to unit norm. A row of zeros or with NaN or infinity has no
            direction: its score is NaN, and it takes no part in the clustering.
        n_clusters: K, 1..number of usable rows.
        n_neighbors: m, 1..K; None: 16, or K if that is less.
        similarity_temperature: divisor of the cosine similarities, > 0.
        seed: of the clustering, >= 0.

    Returns:
        (n,) float32, nats, in 0..ln m.

    Raises:
        InvalidArgument: embeddings are not a matrix of real numbers, or a number is out of its range.
    """
    unit, usable = unit_rows(embeddings)
    if not 1 <= n_clusters <= max(int(usable.sum()), 1):
        raise InvalidArgument(f"n_clusters: must be 1..{int(usable.sum())}, the usable rows; got {n_clusters}")
    if not usable.any():
        return np.full(len(unit), np.nan, np.float32)
    centroids = fit_centroids(unit[usable], n_clusters=n_clusters, seed=seed)
    neighbors = min(DEFAULT_NEIGHBORS, n_clusters) if n_neighbors is None else n_neighbors
    entropy, _ = entropy_to_centroids(
        unit, centroids, n_neighbors=neighbors, similarity_temperature=similarity_temperature
    )
    return entropy


def default_n_clusters(n: int) -> int:
    """Return a number of clusters for n samples: about the square root, at least 2 samples a cluster, at most 4,096."""
    return max(1, min(round(math.sqrt(n)), n // 2, 4096))


def fit_centroids(embeddings: npt.ArrayLike, *, n_clusters: int, seed: int = 0) -> Float32Array:
    """Return the unit-norm centroids (K, H) float32 of a spherical k-means (FAISS) over usable embeddings (n, H).

    Raises:
        InvalidArgument: n_clusters is not in 1..n, an embedding has no direction, or the seed is negative.
    """
    from euds.kernels.cluster_faiss import fit

    unit, usable = unit_rows(embeddings)
    if not usable.all():
        raise InvalidArgument(f"embeddings: row {int(np.argmin(usable))} is zero or not finite")
    if not 1 <= n_clusters <= len(unit):
        raise InvalidArgument(f"n_clusters: must be 1..{len(unit)}, got {n_clusters}")
    if seed < 0:
        raise InvalidArgument(f"seed: must not be negative, got {seed}")
    return fit(unit, n_clusters, seed)


def entropy_to_centroids(
    embeddings: npt.ArrayLike,
    centroids: Float32Array,
    *,
    n_neighbors: int,
    similarity_temperature: float,
) -> tuple[Float32Array, Int64Array]:
    """Return each embedding's entropy over its nearest centroids, and the nearest centroid.

    Args:
        embeddings: (n, H), scaled to unit norm here.
        centroids: (K, H) float32, unit norm.
        n_neighbors: m, 1..K.
        similarity_temperature: > 0.

    Returns:
        Entropy (n,) float32, nats, in 0..ln m, and ids (n,) int64; NaN and -1 where an embedding has no direction.

    Raises:
        InvalidArgument: n_neighbors or similarity_temperature is out of its range, or the widths differ.
    """
    from euds.kernels.cluster_entropy_numba import softmax_entropy
    from euds.kernels.cluster_faiss import search

    if not 1 <= n_neighbors <= len(centroids):
        raise InvalidArgument(f"n_neighbors: must be 1..{len(centroids)}, the clusters; got {n_neighbors}")
    if not (math.isfinite(similarity_temperature) and similarity_temperature > 0):
        raise InvalidArgument(f"similarity_temperature: must be finite and above 0, got {similarity_temperature}")
    unit, usable = unit_rows(embeddings)
    if unit.shape[1] != centroids.shape[1]:
        raise InvalidArgument(f"embeddings: width {unit.shape[1]}, but the centroids have {centroids.shape[1]}")
    entropy = np.full(len(unit), np.nan, np.float32)
    nearest = np.full(len(unit), -1, np.int64)
    if usable.any():
        similarities, ids = search(unit[usable], centroids, n_neighbors)
        # Rounding can put equal similarities a hair below 0 or above ln m.
        entropy[usable] = np.clip(softmax_entropy(similarities, similarity_temperature), 0.0, math.log(n_neighbors))
        nearest[usable] = ids[:, 0]
    return entropy, nearest
