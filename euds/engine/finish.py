"""Put a measured shard's scores together and write its part file."""

import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from euds.corpus import meanings_path, read_parquet, write_parquet
from euds.corpus.run_files import COUNTS
from euds.engine.cache import cache_counts
from euds.engine.columns import embeddings_of, nullable, ragged
from euds.engine.pool import Pool, counts_of
from euds.engine.prepare import Plan
from euds.engine.records import Record
from euds.engine.shard_cost import generations_cost, stage_seconds, tokens_read
from euds.engine.work import Work
from euds.files import file_sha256
from euds.ops.cluster import CentroidIndex, entropy_to_centroids
from euds.ops.information import information_entropy, unigram_surprisal
from euds.types import Int64Array


def finish_shard(plan: Plan, work: Work, shard: int, pool: Pool) -> Record:
    """Write scores/part-NNNNN.parquet atomically and return what is to be recorded of it."""
    tokens = work.read("tokens", shard)
    reasons: list[list[str]] = [[] if reason is None else [reason] for reason in tokens.column("reason").to_pylist()]
    columns = _identity(plan, tokens)
    seconds = {"read": work.seconds("tokens", shard)}
    cost: dict[str, dict[str, Any]] = {}
    cache: dict[str, dict[str, int]] = {}
    files: dict[str, str] = {}
    start = time.perf_counter()

    def measured(stage: str, name: str) -> pa.Table:
        table = work.read(stage, shard)
        seconds[name] = work.seconds(stage, shard)
        cache.update(cache_counts(name, table))
        _add_reasons(reasons, table)
        return table

    if pool.counts is not None:
        columns |= _information(tokens, counts_of(work, shard, tokens, pool.counts), pool.mass)
    if "generative" in plan.config.measures:
        generative = measured("generative", "generative")
        columns |= {name: generative.column(name) for name in generative.column_names if name != "reason"}
    if plan.config.clusters:
        table = measured("embeddings", "embedding")
        pool_tokens = len(ragged(tokens, "embedder_tokens")[0])
        cached_tokens = pool_tokens - tokens_read(table, "embedded_tokens")["embedded_tokens"]
        cost["clusters"] = {"tokens": pool_tokens, "cached_tokens": cached_tokens}
        columns |= _semantic(plan, table, pool.centroids)
    if plan.config.samples is not None:
        meanings = read_parquet(meanings_path(plan.run_dir, shard))
        files = work.results(shard)
        spent = generations_cost(work, shard)
        seconds |= stage_seconds(spent)
        cost |= spent
        _add_reasons(reasons, meanings)
        columns |= {name: meanings.column(name) for name in meanings.column_names if name.startswith("semantic_")}
    if plan.config.label_words is not None:
        table = measured("label_words", "label_words")
        cost["label_words"] = tokens_read(table, "prompt_tokens", "word_tokens")
        columns |= {name: table.column(name) for name in table.column_names if name != "reason"}
    columns["truncated"] = pa.array(np.asarray(tokens.column("truncated")), pa.bool_(), mask=_bad(tokens))
    scores = pa.table(columns)
    write_parquet(plan.part_path(shard), scores)
    failed = np.flatnonzero([bool(found) for found in reasons])
    rows = tokens.select(["row_id", "file", "position"]).take(failed).to_pylist()
    quarantine = [
        {"row_id": row["row_id"], "file": row["file"], "row": row["position"], "reason": "; ".join(reasons[at])}
        for at, row in zip(failed, rows, strict=True)
    ]
    part = plan.part_path(shard)
    size, sha256 = part.stat().st_size, file_sha256(part)
    counts = _counts(scores, np.array([not found for found in reasons]))
    seconds["finish"] = time.perf_counter() - start
    return Record(shard, size, sha256, counts, quarantine, seconds, cost, time.time(), cache, files)


def _counts(scores: pa.Table, good: np.ndarray) -> dict[str, int]:
    """Count the rows of a part; those of scored rows only count as truncated or for their tokens."""
    scored = scores.filter(pa.array(good))
    values = (
        scores.num_rows,
        scored.num_rows,
        scores.num_rows - scored.num_rows,
        pc.sum(scored.column("truncated")).as_py() or 0,
        pc.sum(scored.column("n_tokens")).as_py() or 0,
    )
    return dict(zip(COUNTS, values, strict=True))


def _bad(tokens: pa.Table) -> np.ndarray:
    return np.asarray(pc.is_valid(tokens.column("reason")))


def _identity(plan: Plan, tokens: pa.Table) -> dict[str, Any]:
    counted = "tokens" if plan.reads_tokens else "embedder_tokens"
    lengths = np.asarray(pc.list_value_length(tokens.column(counted)))
    bad = _bad(tokens)
    own = {} if plan.config.id_field is None else {"id": tokens.column("id")}
    return {
        "row_id": tokens.column("row_id"),
        **own,
        "label": tokens.column("label"),
        "source": tokens.column("source"),
        "n_bytes": tokens.column("n_bytes"),
        "n_tokens": pa.array(lengths, pa.int32(), mask=bad),
    }


def _information(tokens: pa.Table, counts: Int64Array, mass: int) -> dict[str, Any]:
    ids, offsets = ragged(tokens, "tokens")
    good = ~_bad(tokens)
    surprisal = unigram_surprisal(ids, offsets, counts, mass=mass)
    return {
        "information_entropy_nats": nullable(information_entropy(ids, offsets), good),
        "surprisal_nats": nullable(surprisal, good),
    }


def _semantic(plan: Plan, table: pa.Table, centroids: CentroidIndex | None) -> dict[str, Any]:
    embeddings = embeddings_of(table)
    if centroids is None:
        empty = pa.nulls(len(embeddings))
        return {"semantic_entropy_nats": empty.cast(pa.float32()), "semantic_cluster": empty.cast(pa.int32())}
    entropy, nearest = entropy_to_centroids(
        embeddings,
        centroids,
        n_neighbors=min(plan.config.n_neighbors, len(centroids)),
        similarity_temperature=plan.config.similarity_temperature,
    )
    present = np.isfinite(entropy)
    return {
        "semantic_entropy_nats": nullable(entropy, present),
        "semantic_cluster": pa.array(nearest.astype(np.int32), mask=~present),
    }


def _add_reasons(reasons: list[list[str]], table: pa.Table) -> None:
    for found, reason in zip(reasons, table.column("reason").to_pylist(), strict=True):
        if reason is not None:
            found.append(reason)
