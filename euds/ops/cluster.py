"""Semantic clustering entropy: how clearly an embedding belongs to one meaning group of its pool.

The rules that scoring follows where it is told nothing else; K, m and the temperature are arguments:
* K, the clusters: `default_n_clusters`, about the square root of the pool, at most 4,096.
* m, the nearest clusters that the entropy runs over: 16. More change little, as the weights fall off exponentially.
* The temperature: 0.05 by default. Where that leaves scores at an end of their range, `euds.calibrate_temperature`
  finds the one that spreads them.
* Rows that the clustering looks at: all of them up to 65,536, beyond that a seeded sample of 65,536 or 64 a cluster,
  whichever is more.
* Search: exact, by FAISS's flat index.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument, check_seed, positive_number, whole_number
from euds.ops.embeddings import BLOCK_ROWS, as_matrix, unit_rows, usable_rows
from euds.types import Float32Array, Int64Array

DEFAULT_NEIGHBORS, DEFAULT_TEMPERATURE = 16, 0.05
TRAINED_ROWS = 65_536
TRAINED_ROWS_PER_CLUSTER = 64
NORM_ERROR = 1e-3
"""How far a centroid's norm may be from 1: rounding of float32, and of float16 that it may have been kept in."""


@dataclass(frozen=True, eq=False)
class CentroidIndex:
    """Centroids (K, H), unit norm, float32, ready to be searched again and again: made once, used for every shard."""

    centroids: Float32Array
    index: Any

    def __len__(self) -> int:
        return len(self.centroids)


def cluster_entropy(
    embeddings: npt.ArrayLike,
    *,
    n_clusters: int,
    n_neighbors: int | None = None,
    similarity_temperature: float = DEFAULT_TEMPERATURE,
    seed: int = 0,
    device: str = "auto",
) -> Float32Array:
    """Return the entropy of each embedding's membership in the clusters of all of them.

    K unit-norm centroids by spherical k-means; p = softmax(cos(e, c) / similarity_temperature) over the m nearest; the
    score is H(p). Source: docs/method.md, "Semantic entropy", estimator `clusters`.

    Args:
        embeddings: (n, H) real numbers; only their directions matter. A row of zeros or with NaN or infinity has none:
            its score is NaN, and it takes no part in the clustering.
        n_clusters: K, 1..number of usable rows; 1 gives 0 everywhere.
        n_neighbors: m, 1..K; None: 16, or K if that is less.
        similarity_temperature: divisor of the cosine similarities, > 0.
        seed: of the sample that the clustering looks at (see the module) and of the clustering, in 0..2^31-1.
        device: "cpu", or "auto", "cuda" or "cuda:N" for that GPU where FAISS is a build for GPUs and sees one, else the
            CPU.

    Returns:
        (n,) float32, nats, in 0..ln m.

    Raises:
        InvalidArgument: embeddings are not a matrix of real numbers, or a number is out of its range.
    """
    array = as_matrix(embeddings)
    usable = np.flatnonzero(usable_rows(array))
    n_clusters = whole_number("n_clusters", n_clusters)
    if not 1 <= n_clusters <= max(len(usable), 1):
        raise InvalidArgument(f"n_clusters: must be 1..{len(usable)}, the usable rows; got {n_clusters}")
    # Before the clustering, which takes the time.
    neighbors = whole_number("n_neighbors", min(DEFAULT_NEIGHBORS, n_clusters) if n_neighbors is None else n_neighbors)
    _check_neighbors(neighbors, n_clusters)
    positive_number("similarity_temperature", similarity_temperature)
    if len(usable) == 0:
        return np.full(len(array), np.nan, np.float32)
    trained = usable[sample_rows(len(usable), trained_rows(n_clusters), seed)]
    centroids = fit_centroids(array[trained], n_clusters=n_clusters, seed=seed, device=device)
    entropy, _ = entropy_to_centroids(
        array,
        index_centroids(centroids, device=device),
        n_neighbors=neighbors,
        similarity_temperature=similarity_temperature,
    )
    return entropy


def default_n_clusters(n: int) -> int:
    """Return a number of clusters for n samples: about the square root, at least 2 samples a cluster, at most 4,096."""
    return max(1, min(round(math.sqrt(n)), n // 2, 4096))


def trained_rows(n_clusters: int) -> int:
    """Return how many rows at most the clustering looks at: 65,536, or 64 a cluster if that is more."""
    return max(TRAINED_ROWS, TRAINED_ROWS_PER_CLUSTER * n_clusters)


def sample_rows(n: int, size: int, seed: int) -> Int64Array:
    """Return min(n, size) different numbers of 0..n-1, ascending, the same for the same seed.

    Raises:
        InvalidArgument: the seed is not in 0..2^31-1.
    """
    check_seed("seed", seed)
    if size >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, size, replace=False))


def fit_centroids(embeddings: npt.ArrayLike, *, n_clusters: int, seed: int = 0, device: str = "auto") -> Float32Array:
    """Return the centroids of a spherical k-means (FAISS), as `euds.cluster_entropy` fits them.

    It looks at every row given: give a sample of a large pool, such as 64 rows a cluster.

    Args:
        embeddings: (n, H) real numbers; only their directions matter, and every row needs one.
        n_clusters: K, 1..n.
        seed: in 0..2^31-1.
        device: as of `euds.cluster_entropy`; of several GPUs FAISS fits on the first.

    Returns:
        (K, H) float32, unit norm.

    Raises:
        InvalidArgument: embeddings are not a matrix of real numbers, a row is zero or not finite, or a number is out of
            its range.
    """
    from euds.kernels.cluster_faiss import fit

    unit, usable = unit_rows(embeddings)
    if not usable.all():
        raise InvalidArgument(f"embeddings: row {int(np.argmin(usable))} is zero or not finite")
    n_clusters = whole_number("n_clusters", n_clusters)
    if not 1 <= n_clusters <= len(unit):
        raise InvalidArgument(f"n_clusters: must be 1..{len(unit)}, got {n_clusters}")
    seed = check_seed("seed", seed)
    return fit(unit, n_clusters, seed, _checked_device(device))


def index_centroids(centroids: npt.ArrayLike, device: str = "auto") -> CentroidIndex:
    """Return centroids (K, H) of unit norm ready to be searched on a device as of `euds.cluster_entropy`.

    Raises:
        InvalidArgument: they are not a matrix of real numbers, or one is not of unit norm.
    """
    from euds.kernels.cluster_faiss import index_of

    matrix = np.ascontiguousarray(as_matrix(centroids, "centroids"), np.float32)
    norms = np.linalg.norm(matrix, axis=1)
    # Written so that NaN is refused too.
    if not (np.abs(norms - 1) <= NORM_ERROR).all():
        row = int(np.argmin(np.abs(norms - 1) <= NORM_ERROR))
        raise InvalidArgument(
            f"centroids: row {row} has norm {norms[row]:.4g}, must be 1, as euds.fit_centroids returns them"
        )
    return CentroidIndex(matrix, index_of(matrix, _checked_device(device)))


def _checked_device(device: object) -> str:
    from euds.kernels.cluster_faiss import gpu_of, n_gpus

    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise InvalidArgument(f"device: must be auto, cpu, cuda or cuda:N, got {device!r}")
    if (gpu_of(device) or 0) >= max(n_gpus(), 1):
        raise InvalidArgument(f"device: FAISS sees {n_gpus()} GPU(s), got {device!r}")
    return device


def entropy_to_centroids(
    embeddings: npt.ArrayLike,
    centroids: npt.ArrayLike | CentroidIndex,
    *,
    n_neighbors: int,
    similarity_temperature: float,
) -> tuple[Float32Array, Int64Array]:
    """Return each embedding's entropy over its nearest centroids, and the nearest centroid.

    Rows do not touch each other: a pool is scored shard by shard with the same result, up to the rounding of products
    of another size.

    Args:
        embeddings: (n, H), scaled to unit norm here, a block at a time.
        centroids: (K, H) of unit norm; made ready by `index_centroids` if many shards follow.
        n_neighbors: m, 1..K.
        similarity_temperature: > 0.

    Returns:
        Entropy (n,) float32, nats, in 0..ln m, and ids (n,) int64; NaN and -1 where an embedding has no direction.

    Raises:
        InvalidArgument: n_neighbors or similarity_temperature is out of its range, or the widths differ.
    """
    from euds.kernels.cluster_entropy_numba import softmax_entropy

    n_neighbors = whole_number("n_neighbors", n_neighbors)
    similarity_temperature = positive_number("similarity_temperature", similarity_temperature)
    array = as_matrix(embeddings)
    index = checked_index(centroids, array, n_neighbors)
    entropy = np.full(len(array), np.nan, np.float32)
    nearest = np.full(len(array), -1, np.int64)
    for start in range(0, len(array), BLOCK_ROWS):
        similarities, ids, usable = nearest_centroids(array[start : start + BLOCK_ROWS], index, n_neighbors)
        rows = start + np.flatnonzero(usable)
        # Rounding can put equal similarities a hair below 0 or above ln m.
        entropy[rows] = np.clip(softmax_entropy(similarities, similarity_temperature), 0.0, math.log(n_neighbors))
        nearest[rows] = ids[:, 0]
    return entropy, nearest


def _check_neighbors(n_neighbors: int, n_clusters: int) -> None:
    if not 1 <= n_neighbors <= n_clusters:
        raise InvalidArgument(f"n_neighbors: must be 1..{n_clusters}, the clusters; got {n_neighbors}")


def checked_index(
    centroids: npt.ArrayLike | CentroidIndex, embeddings: npt.ArrayLike, n_neighbors: int
) -> CentroidIndex:
    """Return the index of `centroids` if its width is that of `embeddings` and n_neighbors is in 1..K.

    Raises:
        InvalidArgument: it is not, embeddings or centroids are not a matrix of real numbers, a centroid is not of unit
            norm, or FAISS on a GPU finds fewer.
    """
    from euds.kernels.cluster_faiss import most_neighbors

    width = as_matrix(embeddings).shape[1]
    index = centroids if isinstance(centroids, CentroidIndex) else index_centroids(centroids)
    _check_neighbors(whole_number("n_neighbors", n_neighbors), len(index))
    if n_neighbors > most_neighbors(index.index):
        raise InvalidArgument(
            f"n_neighbors: FAISS finds {most_neighbors(index.index):,} on a GPU at most, got {n_neighbors:,}; "
            "take fewer, or device='cpu'"
        )
    if width != index.centroids.shape[1]:
        raise InvalidArgument(f"embeddings: width {width}, but the centroids have {index.centroids.shape[1]}")
    return index


def nearest_centroids(
    embeddings: npt.ArrayLike, index: CentroidIndex, n_neighbors: int
) -> tuple[Float32Array, Int64Array, npt.NDArray[np.bool_]]:
    """Return cosines and ids of the nearest centroids for the usable rows, each (usable, m), and which are usable."""
    from euds.kernels.cluster_faiss import search

    unit, usable = unit_rows(embeddings)
    similarities, ids = search(index.index, unit if usable.all() else unit[usable], n_neighbors)
    return similarities, ids, usable
