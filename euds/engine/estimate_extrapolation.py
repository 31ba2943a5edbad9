"""From what a sample took to what its corpus would take."""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy.special import stdtrit

from euds.corpus import read_parquet
from euds.engine.columns import ragged, usable
from euds.engine.cost import semantic_cost
from euds.engine.estimate_result import Estimate
from euds.engine.estimate_sample import ScoredSample
from euds.measures.device import Precision
from euds.types import Float64Array

TIMED_BY_TOKENS = {
    "generative": ("generative", "tokens"),
    "embedding": ("embeddings", "embedder_tokens"),
    "label_words": ("label_words", "label_prompt_tokens"),
}
"""By name of its seconds: a model stage, and the tokens that it reads."""

SIMULATED_ROWS = 16384
"""Rows that shards are drawn of to see how much padding they would hold."""


def extrapolate(
    scored: ScoredSample,
    *,
    n_rows: int,
    n_bytes: int,
    planning_seconds: float,
    shard_rows: int,
    largest_task: int,
    workers: int,
    price_per_hour: float | None,
) -> Estimate:
    """Return the estimate for a corpus of `n_rows` rows.

    Args:
        scored: a simple random sample of them.
        n_rows: of the corpus.
        n_bytes: of its files.
        planning_seconds: as the estimate has them.
        shard_rows: of the run.
        largest_task: rows of its largest task.
        workers: of the run.
        price_per_hour: of a worker.
    """
    worker = scored.worker
    n_sampled = scored.tokens.num_rows
    times = n_rows / n_sampled
    n_parts = math.ceil(n_rows / shard_rows)
    shard_rows = min(n_rows, shard_rows)
    seconds = {}
    for name, value in scored.seconds.items():
        fixed = scored.fixed_seconds.get(name, 0.0)
        growth = _token_times(scored, *TIMED_BY_TOKENS[name], n_rows, shard_rows) if name in TIMED_BY_TOKENS else times
        seconds[name] = fixed * (n_parts if name == "finish" else 1) + (value - fixed) * growth
    n_tokens, half_width = _total(_tokens_per_row(scored), n_rows)
    # Without a need of the pool, a shard's files go as soon as its part is written.
    working_rows = n_rows if worker.plan.needs_pool else min(n_rows, 2 * workers * shard_rows)
    return Estimate(
        n_rows=n_rows,
        n_bytes=n_bytes,
        n_sampled=n_sampled,
        n_tokens=round(n_tokens),
        tokens_low=max(0, round(n_tokens - half_width)),
        tokens_high=round(n_tokens + half_width),
        quarantine=_reason_shares(scored),
        loading_seconds=worker.models.seconds,
        planning_seconds=planning_seconds,
        seconds=seconds,
        workers=workers,
        largest_task=largest_task / n_rows,
        device=_device_name(worker.precision),
        peak_bytes=scored.peak_bytes,
        part_bytes=sum(_part_bytes(path, times, n_parts) for path in scored.kept),
        work_bytes=round(scored.work_bytes / n_sampled * working_rows),
        price_per_hour=price_per_hour,
        semantic=_semantic(scored, seconds, times),
    )


def _token_times(scored: ScoredSample, stage: str, column: str, n_rows: int, shard_rows: int) -> float:
    """Return how many times the sample's tokens, padding included, a stage would read of the whole corpus.

    Batches are formed within a shard: the more rows it has, the more alike are the lengths in a batch. Shards are
    therefore simulated, with lengths drawn from the sample.
    """
    _, offsets = ragged(scored.tokens, column)
    lengths = np.diff(offsets)[usable(scored.tokens)]
    if not len(lengths):
        return 0.0
    able = len(lengths) / scored.tokens.num_rows
    able_rows = max(1, round(shard_rows * able))
    n_shards = math.ceil(SIMULATED_ROWS / shard_rows)
    rng = np.random.default_rng(scored.worker.plan.config.seed)
    drawn = rng.choice(lengths, (n_shards, able_rows)).tolist()
    simulated = sum(scored.worker.tokens_read(stage, shard) for shard in drawn)
    read = scored.worker.tokens_read(stage, lengths.tolist())
    return float(simulated / (n_shards * able_rows) * able * n_rows / read)


def _tokens_per_row(scored: ScoredSample) -> Float64Array:
    """Return the tokens of each row of the sample, 0 for one that is quarantined."""
    tokens: Float64Array = read_parquet(scored.part).column("n_tokens").fill_null(0).to_numpy().astype(np.float64)
    tokens[[entry["row_id"] for entry in scored.record.quarantine]] = 0
    return tokens


def _total(values: Float64Array, n_rows: int) -> tuple[float, float]:
    """Return the sum over a corpus by a simple random sample, and half the width of its 95 % interval."""
    n = len(values)
    spread = float(values.std(ddof=1)) if n > 1 else 0.0
    # By Student's t, as few rows tell little of their spread; a sample that is the corpus leaves nothing open.
    quantile = float(stdtrit(max(1, n - 1), 0.975))
    return float(values.mean()) * n_rows, quantile * n_rows * spread * math.sqrt((1 - n / n_rows) / n)


def _reason_shares(scored: ScoredSample) -> dict[str, float]:
    reasons = Counter(entry["reason"] for entry in scored.record.quarantine)
    return {reason: n / scored.tokens.num_rows for reason, n in reasons.most_common()}


def _semantic(scored: ScoredSample, seconds: Mapping[str, float], times: float) -> dict[str, Any]:
    """Return what the parts of semantic entropy would take, as the manifest of a run tells it."""
    plan = scored.worker.plan
    if not plan.config.semantic:
        return {}
    spent = {
        part: {name: value * times if name == "seconds" else round(value * times) for name, value in found.items()}
        for part, found in scored.record.cost.items()
    }
    return semantic_cost(plan, spent, seconds)


def _part_bytes(path: Path, times: float, n_parts: int) -> int:
    """Return the size of a sample's file in the corpus' parts; a part's frame does not grow with its rows."""
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
    columns = sum(int(group.column(at).total_compressed_size) for group in groups for at in range(group.num_columns))
    return round(columns * times + (path.stat().st_size - columns) * n_parts)


def _device_name(settled: Precision) -> str:
    if settled.kind != "cuda":
        return settled.kind
    import torch

    return str(torch.cuda.get_device_name(settled.torch_device))
