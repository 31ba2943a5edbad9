"""Stage 3: what a score needs to know of the whole pool: how often each token occurs, and where the clusters lie."""

import json
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from euds.engine.models import embeddings_of
from euds.engine.prepare import Plan
from euds.engine.read import ragged, usable
from euds.engine.work import Work
from euds.files import write_atomic
from euds.measures.tokens import ModelTokenizer, TextEncoder
from euds.ops.cluster import default_n_clusters, fit_centroids
from euds.types import Float32Array, Int64Array

POINTS_PER_CENTROID = 256
"""Embeddings that the clustering looks at for each centroid; more change its result little."""


class ModelUnigram:
    """Token counts of the pool over a model's vocabulary."""

    def __init__(self, plan: Plan, work: Work, vocabulary_size: int) -> None:
        self.counts: Int64Array = np.zeros(vocabulary_size, np.int64)
        for shard in range(plan.n_shards):
            ids, _ = usable_tokens(work.read("tokens", shard))
            self.counts += np.bincount(ids, minlength=vocabulary_size)

    def shared_ids(self, table: pa.Table, ids: Int64Array) -> Int64Array:
        """Return ids that index `counts`."""
        return ids


class WordUnigram:
    """Word counts of the pool; a shard's own word ids are mapped to the pool's."""

    def __init__(self, plan: Plan, work: Work) -> None:
        counter: Counter[str] = Counter()
        for shard in range(plan.n_shards):
            table = work.read("tokens", shard)
            words = json.loads(table.schema.metadata[b"words"])
            ids, _ = usable_tokens(table)
            counts = np.bincount(ids, minlength=len(words))
            counter.update(dict(zip(words, counts.tolist(), strict=True)))
        self._ids = {word: at for at, word in enumerate(counter)}
        self.counts: Int64Array = np.array(list(counter.values()), np.int64)

    def shared_ids(self, table: pa.Table, ids: Int64Array) -> Int64Array:
        """Return ids that index `counts`."""
        words = json.loads(table.schema.metadata[b"words"])
        return np.array([self._ids[word] for word in words], np.int64)[ids]


Unigram = ModelUnigram | WordUnigram


def unigram(plan: Plan, work: Work, encoder: TextEncoder) -> Unigram:
    """Count the tokens of the pool."""
    if isinstance(encoder, ModelTokenizer):
        return ModelUnigram(plan, work, encoder.vocabulary_size)
    return WordUnigram(plan, work)


def usable_tokens(table: pa.Table) -> tuple[Int64Array, Int64Array]:
    """Return the ragged tokens of the rows that can be scored; the others' lists are empty anyway."""
    return ragged(table, "tokens")


@dataclass(frozen=True, eq=False)
class Clusters:
    """The meaning groups of the pool: unit-norm centroids, float32 (K, H)."""

    centroids: Float32Array

    @property
    def n_clusters(self) -> int:
        """Number K of clusters."""
        return len(self.centroids)


def clusters(plan: Plan, work: Work) -> Clusters | None:
    """Fit the centroids to a seeded sample of the pool's embeddings, or read those an interrupted run has fitted.

    Returns:
        None if no row of the pool has an embedding.
    """
    path = work.folder / "centroids.npy"
    if path.exists():
        return Clusters(np.load(path, allow_pickle=False))
    embedded = [
        (shard, at)
        for shard in range(plan.n_shards)
        for at, reason in enumerate(_embedding_reasons(work, shard))
        if reason is None
    ]
    if not embedded:
        return None
    n_clusters = min(plan.config.n_clusters or default_n_clusters(len(embedded)), len(embedded))
    sample_size = min(len(embedded), POINTS_PER_CENTROID * n_clusters)
    chosen = np.sort(np.random.default_rng(plan.config.seed).permutation(len(embedded))[:sample_size])
    by_shard: dict[int, list[int]] = {}
    for at in chosen:
        shard, line = embedded[int(at)]
        by_shard.setdefault(shard, []).append(line)
    sample = np.concatenate([embeddings_of(work.read("embeddings", shard))[lines] for shard, lines in by_shard.items()])
    centroids = fit_centroids(sample, n_clusters=n_clusters, seed=plan.config.seed)
    write_atomic(path, lambda handle: np.save(handle, centroids, allow_pickle=False))
    return Clusters(centroids)


def _embedding_reasons(work: Work, shard: int) -> list[str | None]:
    tokens = work.read("tokens", shard)
    reasons: list[str | None] = work.read("embeddings", shard).column("reason").to_pylist()
    able = set(usable(tokens))
    return [reasons[at] if at in able else "unusable" for at in range(tokens.num_rows)]
