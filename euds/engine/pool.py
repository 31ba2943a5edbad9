"""What a score needs to know of the whole pool: how often each token occurs, and where the clusters lie."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from euds.engine.columns import embeddings_of, ragged
from euds.engine.prepare import Plan
from euds.engine.work import POOL_FILE, Work
from euds.files import read_json, write_array, write_json
from euds.measures.tokens import ModelTokenizer, TextEncoder, WordIds
from euds.ops.cluster import (
    CentroidIndex,
    default_n_clusters,
    fit_centroids,
    index_centroids,
    sample_rows,
    trained_rows,
)
from euds.types import Int64Array


@dataclass(frozen=True, eq=False)
class Unigram:
    """How often each token or word occurs in the pool.

    Attributes:
        counts: int64, by id.
        ids: id of each word; None where the ids are a model's.
    """

    counts: Int64Array
    ids: dict[str, int] | None

    def shared_ids(self, table: pa.Table, ids: Int64Array) -> Int64Array:
        """Return ids that index `counts`; a shard's word ids are its own."""
        if self.ids is None:
            return ids
        words = json.loads(table.schema.metadata[b"words"])
        return np.fromiter(map(self.ids.__getitem__, words), np.int64, len(words))[ids]


@dataclass(frozen=True, eq=False)
class Pool:
    """What `fit_pool` has found.

    Attributes:
        unigram: token counts; None unless information entropy is measured.
        centroids: meaning groups, ready to be searched; None without semantic entropy or a single embedding.
    """

    unigram: Unigram | None
    centroids: CentroidIndex | None

    @classmethod
    def load(cls, work: Work, device: str) -> "Pool":
        """Read what `fit_pool` has left in `work`; nothing, for a run that does not need the pool.

        Args:
            work: of the run.
            device: where the centroids are searched if FAISS can.
        """
        unigram = None
        if _counts_path(work).exists():
            counts: Int64Array = np.load(_counts_path(work), allow_pickle=False)
            words = read_json(_words_path(work)) if _words_path(work).exists() else None
            unigram = Unigram(counts, None if words is None else {word: at for at, word in enumerate(words)})
        centroids = None
        if _centroids_path(work).exists():
            centroids = index_centroids(np.load(_centroids_path(work), allow_pickle=False), device)
        return cls(unigram, centroids)


def is_fitted(work: Work) -> bool:
    """Tell whether the pool's facts are all there."""
    return _seconds_path(work).exists()


def fit_pool(plan: Plan, work: Work, encoder: TextEncoder | None) -> None:
    """Count the tokens and fit the clusters of a pool whose shards are all measured."""
    seconds: dict[str, float] = {}
    if "information" in plan.config.measures and encoder is not None:
        start = time.perf_counter()
        if isinstance(encoder, ModelTokenizer):
            _count_tokens(plan, work, encoder.vocabulary_size)
        else:
            _count_words(plan, work)
        seconds["information"] = time.perf_counter() - start
    if plan.config.clusters:
        start = time.perf_counter()
        _fit_clusters(plan, work)
        seconds["clustering"] = time.perf_counter() - start
    write_json(_seconds_path(work), seconds)


def pool_seconds(work: Work) -> dict[str, float]:
    """Return the seconds that `fit_pool` took, by stage."""
    return dict(read_json(_seconds_path(work))) if is_fitted(work) else {}


def _count_tokens(plan: Plan, work: Work, vocabulary_size: int) -> None:
    counts: Int64Array = np.zeros(vocabulary_size, np.int64)
    for shard in range(plan.n_shards):
        ids, _ = ragged(work.read("tokens", shard), "tokens")
        counts += np.bincount(ids, minlength=vocabulary_size)
    write_array(_counts_path(work), counts)


def _count_words(plan: Plan, work: Work) -> None:
    shared = WordIds()
    counts: Int64Array = np.zeros(0, np.int64)
    for shard in range(plan.n_shards):
        table = work.read("tokens", shard)
        words = json.loads(table.schema.metadata[b"words"])
        ids, _ = ragged(table, "tokens")
        at = np.fromiter(map(shared.__getitem__, words), np.int64, len(words))
        if len(shared) > len(counts):
            counts = np.pad(counts, (0, len(shared)))
        counts[at] += np.bincount(ids, minlength=len(words))
    write_json(_words_path(work), list(shared))
    write_array(_counts_path(work), counts[: len(shared)])


def _fit_clusters(plan: Plan, work: Work) -> None:
    """Fit the centroids to a seeded sample of the pool's embeddings."""
    able = [_embedded(work, shard) for shard in range(plan.n_shards)]
    ends = np.cumsum([len(lines) for lines in able])
    n_embedded = int(ends[-1])
    if n_embedded == 0:
        return
    n_clusters = min(plan.config.n_clusters or default_n_clusters(n_embedded), n_embedded)
    chosen = sample_rows(n_embedded, trained_rows(n_clusters), plan.config.seed)
    sample = np.concatenate(
        [
            embeddings_of(work.read("embeddings", shard))[able[shard][lines]]
            for shard, lines in enumerate(_by_shard(chosen, ends))
            if len(lines)
        ]
    )
    config = plan.config
    centroids = fit_centroids(sample, n_clusters=n_clusters, seed=config.seed, device=config.device)
    write_array(_centroids_path(work), centroids)


def _by_shard(chosen: Int64Array, ends: Int64Array) -> list[Int64Array]:
    """Split sorted positions over the pool into positions within each shard."""
    cuts = np.searchsorted(chosen, ends)
    starts = np.concatenate(([0], ends[:-1]))
    return [part - start for part, start in zip(np.split(chosen, cuts[:-1]), starts, strict=True)]


def _embedded(work: Work, shard: int) -> Int64Array:
    """Return the lines of a shard that have an embedding, ascending; int32, as millions of them are kept."""
    usable = pc.is_null(work.read("tokens", shard, ["reason"]).column("reason"))
    present = pc.and_(usable, pc.is_null(work.read("embeddings", shard, ["reason"]).column("reason")))
    return np.flatnonzero(np.asarray(present)).astype(np.int32)


def _counts_path(work: Work) -> Path:
    return work.folder / "counts.npy"


def _words_path(work: Work) -> Path:
    return work.folder / "words.json"


def _centroids_path(work: Work) -> Path:
    return work.folder / "centroids.npy"


def _seconds_path(work: Work) -> Path:
    return work.folder / POOL_FILE
