"""What a score needs to know of the whole pool: how often each token occurs, and where the clusters lie."""

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from euds.engine.columns import WORDS_SCHEMA, embeddings_of, ragged, words_of
from euds.engine.prepare import Plan
from euds.engine.work import POOL_FILE, Work, opens
from euds.errors import InputError
from euds.files import atomic_path, read_json, write_array, write_json
from euds.measures.tokens import ModelTokenizer, TextEncoder
from euds.measures.words import WordIds
from euds.ops.cluster import (
    CentroidIndex,
    default_n_clusters,
    fit_centroids,
    index_centroids,
    sample_rows,
    trained_rows,
)
from euds.ops.information import smoothed_mass
from euds.types import Int64Array

WORD_IDS = "word_ids"
"""Name of the file of a shard that tells which id in the pool each of its words has."""

WORDS_AT_ONCE = 1 << 18
"""Words of shards, or as many as the pool has if those are more, that are looked up together: each time all words of
the pool are hashed."""


@dataclass(frozen=True, eq=False)
class Pool:
    """What `fit_pool` has found.

    Attributes:
        counts: how often each token or word occurs, int64, by id; None unless information entropy is measured.
        centroids: meaning groups, ready to be searched; None without semantic entropy or a single embedding.
    """

    counts: Int64Array | None
    centroids: CentroidIndex | None

    @cached_property
    def mass(self) -> int:
        """What the unigram divides the counts by."""
        assert self.counts is not None
        return smoothed_mass(self.counts)

    @classmethod
    def load(cls, work: Work, device: str) -> "Pool":
        """Read what `fit_pool` has left in `work`; nothing, for a run that does not need the pool.

        Args:
            work: of the run.
            device: where the centroids are searched if FAISS can.
        """
        counts = np.load(_counts_path(work), allow_pickle=False) if _counts_path(work).exists() else None
        centroids = None
        if _centroids_path(work).exists():
            centroids = index_centroids(np.load(_centroids_path(work), allow_pickle=False), device)
        return cls(counts, centroids)


def is_fitted(work: Work) -> bool:
    """Tell whether the pool's facts are all there; where one is damaged, all must be fitted anew."""
    try:
        seconds = read_json(_seconds_path(work))
        for path in (_counts_path(work), _centroids_path(work)):
            if path.exists():
                # Not read into memory: the header tells whether the file is as long as it was.
                np.load(path, mmap_mode="r", allow_pickle=False)
    except (InputError, FileNotFoundError, EOFError, ValueError):
        return False
    counted = isinstance(seconds, dict) and ("information" not in seconds or _counts_path(work).exists())
    return counted and (opens(_words_path(work)) or not _words_path(work).exists())


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
    """Count the words, and keep for each shard, whose word ids are its own, which ids they have in the pool."""
    numbers = WordIds()
    counts: Int64Array = np.zeros(0, np.int64)
    found: list[tuple[pa.LargeStringArray, Int64Array]] = []
    for shard in range(plan.n_shards):
        table = work.read("tokens", shard)
        words = words_of(table)
        assert words is not None
        found.append((words, np.bincount(ragged(table, "tokens")[0], minlength=len(words))))
        enough = max(WORDS_AT_ONCE, len(numbers.words))
        if shard + 1 < plan.n_shards and sum(len(words) for words, _ in found) < enough:
            continue
        ids = numbers.ids_of(pa.concat_arrays([words for words, _ in found]))
        counts = np.pad(counts, (0, len(numbers.words) - len(counts)))
        np.add.at(counts, ids, np.concatenate([shard_counts for _, shard_counts in found]))
        ends = np.cumsum([len(words) for words, _ in found])
        for at, own in enumerate(np.split(ids, ends[:-1]), start=shard + 1 - len(found)):
            work.write(WORD_IDS, at, pa.table({"id": own}), 0.0)
        found = []
    with (
        atomic_path(_words_path(work), durable=False) as partial,
        pa.ipc.new_file(str(partial), WORDS_SCHEMA) as writer,
    ):
        writer.write(pa.record_batch([numbers.words], WORDS_SCHEMA))
    write_array(_counts_path(work), counts)


def _fit_clusters(plan: Plan, work: Work) -> None:
    """Fit the centroids to a seeded sample of the pool's embeddings."""
    # Which lines they are is looked up again where some are drawn: kept, they would take 4 bytes for each row.
    ends = np.cumsum([len(_embedded(work, shard)) for shard in range(plan.n_shards)])
    n_embedded = int(ends[-1])
    if n_embedded == 0:
        return
    n_clusters = min(plan.config.n_clusters or default_n_clusters(n_embedded), n_embedded)
    chosen = sample_rows(n_embedded, trained_rows(n_clusters), plan.config.seed)
    sample = np.concatenate(
        [
            embeddings_of(work.read("embeddings", shard))[_embedded(work, shard)[drawn]]
            for shard, drawn in enumerate(_by_shard(chosen, ends))
            if len(drawn)
        ]
    )
    config = plan.config
    centroids = fit_centroids(sample, n_clusters=n_clusters, seed=config.seed, device=config.device)
    write_array(_centroids_path(work), centroids)


def counts_of(work: Work, shard: int, tokens: pa.Table, counts: Int64Array) -> Int64Array:
    """Return how often each id in a shard's tokens occurs in the pool, whose counts are given.

    Of words, these are the few that the shard has: work on all of them would grow with the corpus, for every shard.
    """
    words = words_of(tokens)
    if words is None:
        return counts
    if work.done(WORD_IDS, shard):
        ids = work.read(WORD_IDS, shard)["id"]
    else:
        # Its part was finished, and then damaged or lost.
        with pa.OSFile(str(_words_path(work))) as source:
            ids = pc.index_in(words, pa.ipc.open_file(source).read_all()["word"].combine_chunks())
    found: Int64Array = counts[np.asarray(ids)]
    return found


def _by_shard(chosen: Int64Array, ends: Int64Array) -> list[Int64Array]:
    """Split sorted positions over the pool into positions within each shard."""
    cuts = np.searchsorted(chosen, ends)
    starts = np.concatenate(([0], ends[:-1]))
    return [part - start for part, start in zip(np.split(chosen, cuts[:-1]), starts, strict=True)]


def _embedded(work: Work, shard: int) -> Int64Array:
    """Return the lines of a shard that have an embedding, ascending."""
    usable = pc.is_null(work.read("tokens", shard, ["reason"]).column("reason"))
    present = pc.and_(usable, pc.is_null(work.read("embeddings", shard, ["reason"]).column("reason")))
    return np.flatnonzero(np.asarray(present))


def _counts_path(work: Work) -> Path:
    return work.folder / "counts.npy"


def _words_path(work: Work) -> Path:
    return work.folder / "words.arrow"


def _centroids_path(work: Work) -> Path:
    return work.folder / "centroids.npy"


def _seconds_path(work: Work) -> Path:
    return work.folder / POOL_FILE
