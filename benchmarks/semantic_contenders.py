"""What semantic entropy is compared with: the formulas of other projects, row by row, and plain Python loops.

Other projects are loaded from where they are installed, single files without the packages around them, which want much
more; what is not installed is left out with the reason.
"""

import importlib.util
import math
import sys
import types
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from kernel_contenders import NotHere

from euds.types import Float32Array, Float64Array, Int64Array

ClusterFunction = Callable[[Float32Array, int, int, float], tuple[Float32Array, Int64Array]]
"""(embeddings (n, H), K, m, temperature) -> entropies (n,), nats, and nearest centroids (n,)."""


def members_by_group(groups: list[int]) -> list[list[int]]:
    """Positions of each group's members, as the projects below want them."""
    members: dict[int, list[int]] = {}
    for at, group in enumerate(groups):
        members.setdefault(group, []).append(at)
    return list(members.values())


def loop_discrete(groups: Int64Array, offsets: Int64Array, logprobs: Float64Array) -> Float64Array:
    """Discrete semantic entropy in plain Python."""
    result = []
    for start, stop in pairwise(offsets.tolist()):
        counts = [len(members) for members in members_by_group(groups[start:stop].tolist())]
        result.append(-sum(count / (stop - start) * math.log(count / (stop - start)) for count in counts))
    return np.array(result)


def uqlm_entropy(discrete: bool) -> Callable[[Int64Array, Int64Array, Float64Array], Float64Array]:
    """uqlm's semantic entropy from cluster probabilities, discrete or by token probabilities (nli/entropy_utils.py)."""
    module = peer_file("uqlm", "nli/entropy_utils.py")

    def run(groups: Int64Array, offsets: Int64Array, logprobs: Float64Array) -> Float64Array:
        result = []
        for start, stop in pairwise(offsets.tolist()):
            n = stop - start
            shares = [1 / n] * n if discrete else np.exp(logprobs[start:stop]).tolist()
            members = members_by_group(groups[start:stop].tolist())
            result.append(module.compute_semantic_entropy(module.compute_cluster_probabilities(shares, members)))
        return np.array(result)

    return run


def polygraph_discrete() -> Callable[[Int64Array, Int64Array, Float64Array], Float64Array]:
    """lm-polygraph's SemanticEntropy over frequencies; its form over probabilities has another definition."""
    estimator = _polygraph("semantic_entropy").SemanticEntropy(class_probability_estimation="frequency")

    def run(groups: Int64Array, offsets: Int64Array, logprobs: Float64Array) -> Float64Array:
        rows = [groups[start:stop].tolist() for start, stop in pairwise(offsets.tolist())]
        members = [members_by_group(row) for row in rows]
        numbers = [{at: number for number, own in enumerate(row) for at in own} for row in members]
        classes = {"class_to_sample": members, "sample_to_class": numbers}
        found: Float64Array = estimator({"sample_texts": rows, "semantic_classes_entail": classes})
        return found

    return run


def loop_neighbor_entropy(embeddings: Float32Array, offsets: Int64Array) -> Float64Array:
    """SNNE by NumPy, row by row."""
    result = []
    for start, stop in pairwise(offsets.tolist()):
        unit = embeddings[start:stop] / np.linalg.norm(embeddings[start:stop], axis=1, keepdims=True)
        result.append(-np.log(np.exp(unit @ unit.T).sum(1)).mean())
    return np.array(result)


def polygraph_kernel_entropy() -> Callable[[Float32Array, Int64Array], Float64Array]:
    """lm-polygraph's kernel language entropy, its heat kernel and von Neumann entropy, on positive cosines."""
    module = _polygraph("kernel_language_entropy")

    def run(embeddings: Float32Array, offsets: Int64Array) -> Float64Array:
        result = []
        for start, stop in pairwise(offsets.tolist()):
            unit = embeddings[start:stop] / np.linalg.norm(embeddings[start:stop], axis=1, keepdims=True)
            kernel = module.heat_kernel(module.laplacian_matrix(np.maximum(unit @ unit.T, 0)), 0.3)
            result.append(module.vn_entropy(kernel, normalize=True, scale=False, jitter=0))
        return np.array(result)

    return run


def loop_representatives(embeddings: Float32Array, offsets: Int64Array, min_similarity: float) -> Int64Array:
    """Each generation against the first member of each group, a dot product of NumPy at a time."""
    groups = []
    for start, stop in pairwise(offsets.tolist()):
        rows = embeddings[start:stop]
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        first_members: list[int] = []
        for i in range(len(unit)):
            for group, j in enumerate(first_members):
                if np.dot(unit[i], unit[j]) >= min_similarity:
                    groups.append(group)
                    break
            else:
                groups.append(len(first_members))
                first_members.append(i)
    return np.array(groups)


def scipy_components(embeddings: Float32Array, offsets: Int64Array, min_similarity: float) -> Int64Array:
    """Connected components by SciPy, a sample at a time."""
    from scipy.sparse.csgraph import connected_components

    groups = []
    for start, stop in pairwise(offsets.tolist()):
        rows = embeddings[start:stop]
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        groups.append(connected_components(unit @ unit.T >= min_similarity, directed=False)[1])
    return np.concatenate(groups)


def mini_batch_cluster_entropy(
    embeddings: Float32Array, n_clusters: int, m: int, temperature: float
) -> tuple[Float32Array, Int64Array]:
    """scikit-learn's MiniBatchKMeans, then NumPy over the m nearest centroids, in blocks; and the nearest."""
    from sklearn.cluster import MiniBatchKMeans

    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    centroids = MiniBatchKMeans(n_clusters, random_state=0, n_init=1).fit(unit).cluster_centers_
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    entropies, nearest = [], []
    for start in range(0, len(unit), 16_384):
        similarities = unit[start : start + 16_384] @ centroids.T
        nearest.append(similarities.argmax(1))
        largest = np.partition(similarities, -m, axis=1)[:, -m:] / temperature
        weights = np.exp(largest - largest.max(1, keepdims=True))
        shares = weights / weights.sum(1, keepdims=True)
        entropies.append(-(shares * np.log(np.maximum(shares, 1e-30))).sum(1))
    return np.concatenate(entropies), np.concatenate(nearest)


def peer_file(package: str, file: str) -> Any:
    """Load one file of an installed package without importing the package."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise NotHere(f"{package} is not installed")
    path = Path(next(iter(found.submodule_search_locations))) / file
    # A parent of its own, so that relative imports find what was put there.
    spec = importlib.util.spec_from_file_location(f"peer_of_{package}.{path.stem}", path)
    if spec is None or spec.loader is None:
        raise NotHere(f"{package} has no {file}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _polygraph(name: str) -> Any:
    parent, stub = "peer_of_lm_polygraph", types.ModuleType("peer_of_lm_polygraph.estimator")
    sys.modules.setdefault(parent, types.ModuleType(parent))

    class Estimator:
        """Stands for the base class, whose module wants the whole package."""

        def __init__(self, *dependencies: object) -> None:
            pass

    stub.__dict__["Estimator"] = Estimator
    sys.modules[stub.__name__] = stub
    return peer_file("lm_polygraph", f"estimators/{name}.py")
