"""Stage 4: put a shard's scores together, write its part file and list its quarantined rows."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from euds.engine.models import embeddings_of, nullable
from euds.engine.pool import Clusters, Unigram
from euds.engine.prepare import Plan
from euds.engine.read import ragged
from euds.engine.work import Work
from euds.files import atomic_path
from euds.ops.cluster import entropy_to_centroids
from euds.ops.information import information_entropy, unigram_surprisal

STAGE = "finished"


def finish_shard(plan: Plan, work: Work, shard: int, counts: Unigram | None, groups: Clusters | None) -> None:
    """Write scores/part-NNNNN.parquet, then the shard's quarantine list, each atomically."""
    tokens = work.read("tokens", shard)
    reasons: list[list[str]] = [[] if reason is None else [reason] for reason in tokens.column("reason").to_pylist()]
    columns = _identity(plan, tokens)
    start = time.perf_counter()
    if counts is not None:
        columns |= _information(tokens, counts)
    if "generative" in plan.config.measures:
        generative = work.read("generative", shard)
        _add_reasons(reasons, generative)
        columns |= {name: generative.column(name) for name in generative.column_names if name != "reason"}
    if "semantic" in plan.config.measures:
        table = work.read("embeddings", shard)
        _add_reasons(reasons, table)
        columns |= _semantic(plan, table, groups)
    columns["truncated"] = pa.array(tokens.column("truncated").to_pylist(), pa.bool_(), mask=_bad(tokens))
    scores = pa.table(columns)
    with atomic_path(plan.part_path(shard)) as partial:
        pq.write_table(scores, partial, compression="zstd", store_schema=False)
    work.write(STAGE, shard, _accounts(tokens, reasons, scores), time.perf_counter() - start)


def _bad(tokens: pa.Table) -> np.ndarray:
    return np.array([reason is not None for reason in tokens.column("reason").to_pylist()])


def _identity(plan: Plan, tokens: pa.Table) -> dict[str, Any]:
    counted = "tokens" if plan.reads_tokens else "embedder_tokens"
    _, offsets = ragged(tokens, counted)
    bad = _bad(tokens)
    return {
        "row_id": tokens.column("row_id"),
        "label": tokens.column("label"),
        "source": tokens.column("source"),
        "n_bytes": tokens.column("n_bytes"),
        "n_tokens": pa.array(np.diff(offsets).astype(np.int32), mask=bad),
    }


def _information(tokens: pa.Table, counts: Unigram) -> dict[str, Any]:
    ids, offsets = ragged(tokens, "tokens")
    good = ~_bad(tokens)
    surprisal = unigram_surprisal(counts.shared_ids(tokens, ids), offsets, counts.counts)
    return {
        "information_entropy_nats": nullable(information_entropy(ids, offsets), good),
        "surprisal_nats": nullable(surprisal, good),
    }


def _semantic(plan: Plan, table: pa.Table, groups: Clusters | None) -> dict[str, Any]:
    embeddings = embeddings_of(table)
    if groups is None:
        empty = pa.nulls(len(embeddings))
        return {"semantic_entropy_nats": empty.cast(pa.float32()), "semantic_cluster": empty.cast(pa.int32())}
    entropy, nearest = entropy_to_centroids(
        embeddings,
        groups.centroids,
        n_neighbors=min(plan.config.n_neighbors, groups.n_clusters),
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


def _accounts(tokens: pa.Table, reasons: Sequence[Sequence[str]], scores: pa.Table) -> pa.Table:
    """One line a row: why it is quarantined, or null, and what the totals need."""
    return pa.table(
        {
            "row_id": tokens.column("row_id"),
            "file": tokens.column("file"),
            "row": tokens.column("position"),
            "reason": pa.array(["; ".join(found) or None for found in reasons], pa.string()),
            "truncated": scores.column("truncated"),
            "n_tokens": scores.column("n_tokens"),
        }
    )
