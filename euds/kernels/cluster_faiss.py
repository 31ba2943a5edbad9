"""Spherical k-means and nearest-centroid search in FAISS."""

import faiss

from euds.types import Float32Array, Int64Array

ITERATIONS = 20


def fit(embeddings: Float32Array, n_clusters: int, seed: int) -> Float32Array:
    """Return unit-norm centroids (K, H) of unit-norm embeddings (n, H), n >= K."""
    kmeans = faiss.Kmeans(
        embeddings.shape[1],
        n_clusters,
        niter=ITERATIONS,
        spherical=True,
        seed=seed,
        # FAISS would drop points above 256 a centroid and warn below 39; the caller has sampled already.
        max_points_per_centroid=len(embeddings),
        min_points_per_centroid=1,
    )
    kmeans.train(embeddings)
    assert kmeans.centroids is not None
    return kmeans.centroids


def search(embeddings: Float32Array, centroids: Float32Array, n_neighbors: int) -> tuple[Float32Array, Int64Array]:
    """Return cosine similarities and ids of the nearest centroids, best first, each (n, m)."""
    index = faiss.IndexFlatIP(centroids.shape[1])
    index.add(centroids)
    similarities, ids = index.search(embeddings, n_neighbors)
    return similarities, ids
