"""Spherical k-means and nearest-centroid search in FAISS, on the GPU where the module and a device allow it."""

from typing import Any

import faiss
import numpy as np

from euds.types import Float32Array, Int64Array

ITERATIONS = 20
MOST_GPU_NEIGHBORS = 2048
"""Neighbours that FAISS finds on a GPU at most."""


def n_gpus() -> int:
    """Return how many GPUs FAISS finds; 0 where it was built without."""
    return faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0


def gpu_of(device: str) -> int | None:
    """Return the number of the GPU that "auto", "cuda" or "cuda:N" means to FAISS; None: the CPU."""
    return None if device == "cpu" or n_gpus() == 0 else int(device.partition(":")[2] or 0)


def most_neighbors(index: Any) -> int:
    """Return how many neighbours an index finds at most, where it holds as many."""
    on_gpu = hasattr(faiss, "GpuIndex") and isinstance(index, faiss.GpuIndex)
    return MOST_GPU_NEIGHBORS if on_gpu else index.ntotal


def fit(embeddings: Float32Array, n_clusters: int, seed: int, device: str) -> Float32Array:
    """Return unit-norm centroids (K, H) of unit-norm embeddings (n, H), n >= K; of GPUs FAISS takes the first."""
    kmeans = faiss.Kmeans(
        embeddings.shape[1],
        n_clusters,
        niter=ITERATIONS,
        spherical=True,
        seed=seed,
        # Recovers 91 % of the rows of planted clusters where a random start recovers 88, and costs next to nothing;
        # k-means++ in full recovers no more and takes half as long again.
        init_method=faiss.ClusteringInitMethod_AFK_MC2,
        # How many: True would mean all of them.
        gpu=0 if gpu_of(device) is None else 1,
        # FAISS would drop points above 256 a centroid and warn below 39; the caller has sampled already.
        max_points_per_centroid=len(embeddings),
        min_points_per_centroid=1,
    )
    kmeans.train(embeddings)
    assert kmeans.centroids is not None
    # Members that cancel each other out leave no direction: any row is as near to them all as another.
    directionless = np.flatnonzero(~kmeans.centroids.any(axis=1))
    kmeans.centroids[directionless] = embeddings[directionless]
    return kmeans.centroids


def index_of(centroids: Float32Array, device: str) -> Any:
    """Return a FAISS index of centroids (K, H), which finds the nearest exactly.

    An inverted file moves entropies by tenths of a nat where it is faster, and is slower where it does not.
    """
    index: Any = faiss.IndexFlatIP(centroids.shape[1])
    index.add(centroids)
    gpu = gpu_of(device)
    return index if gpu is None else faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), gpu, index)


def search(index: Any, embeddings: Float32Array, n_neighbors: int) -> tuple[Float32Array, Int64Array]:
    """Return cosine similarities and ids of the nearest centroids, best first, each (n, m)."""
    similarities, ids = index.search(embeddings, n_neighbors)
    return similarities, ids
