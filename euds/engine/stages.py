"""Run the stages of a scoring run in order, shard by shard, skipping what an interrupted run has finished."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

import pyarrow as pa

from euds.corpus import read_rows
from euds.engine.batches import TokenBudget
from euds.engine.facts import device_facts, model_facts, pool_facts
from euds.engine.finish import finish_shard
from euds.engine.meter import Meter
from euds.engine.models import Advance, embedding_shard, generative_shard
from euds.engine.pool import Clusters, Unigram, clusters, unigram
from euds.engine.prepare import Plan
from euds.engine.read import Encoders, read_shard
from euds.engine.samples import run_samples, stage_seconds
from euds.engine.work import Work
from euds.measures.device import Precision, precision
from euds.measures.generative import GenerativeScorer
from euds.measures.semantic import Embedder
from euds.measures.tokens import ModelTokenizer
from euds.progress import bar

Model = TypeVar("Model")
Seconds = dict[str, float]

TOKEN_BUDGET = {"cpu": 512, "cuda": 65536}
"""Tokens of a batch by kind of device; on a CPU larger batches only add padding."""


def run_stages(plan: Plan, work: Work) -> dict[str, Any]:
    """Bring every part file into being.

    Returns:
        Facts for the manifest: "models", "pool", "device" and the "seconds" of work that belongs to no single shard.
    """
    seconds: Seconds = {}
    settled = precision(plan.config.device, plan.config.dtype)
    with _timed(seconds, "loading"):
        encoders = Encoders.of(plan)
    _read_all(plan, work, encoders)
    if "generative" in plan.config.measures:
        _generative(plan, work, seconds, settled, encoders)
    if plan.config.clusters:
        _embeddings(plan, work, seconds, settled)
    if plan.config.samples is not None:
        seconds["loading"] += run_samples(plan, work, settled, _budget(plan, settled))
        seconds |= stage_seconds(plan, work)
    counts: Unigram | None = None
    groups: Clusters | None = None
    if "information" in plan.config.measures and encoders.tokens is not None:
        with _timed(seconds, "information"):
            counts = unigram(plan, work, encoders.tokens)
    if plan.config.clusters:
        with _timed(seconds, "clustering"):
            groups = clusters(plan, work)
    for shard in range(plan.n_shards):
        if not (work.done("finished", shard) and plan.part_path(shard).exists()):
            finish_shard(plan, work, shard, counts, groups)
    return {
        "seconds": seconds,
        "models": model_facts(plan, encoders, settled),
        "device": device_facts(settled),
        "pool": pool_facts(plan, counts, groups),
    }


@contextmanager
def _timed(seconds: Seconds, stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start


def _read_all(plan: Plan, work: Work, encoders: Encoders) -> None:
    first = next((shard for shard in range(plan.n_shards) if not work.done("tokens", shard)), plan.n_shards)
    size = plan.config.shard_rows
    rows = iter(read_rows(plan.files, columns=plan.columns, start=first * size))
    with bar("tokenise", plan.n_rows, done=min(first * size, plan.n_rows)) as progress:
        for shard in range(first, plan.n_shards):
            start = time.perf_counter()
            table = read_shard(plan, list(islice(rows, size)), encoders)
            work.write("tokens", shard, table, time.perf_counter() - start)
            progress.advance(table.num_rows)


def _generative(plan: Plan, work: Work, seconds: Seconds, settled: Precision, encoders: Encoders) -> None:
    assert isinstance(encoders.tokens, ModelTokenizer)
    bos_id = encoders.tokens.bos_id
    _each_shard(
        plan,
        work,
        seconds,
        stage="generative",
        title="generative",
        budget=_budget(plan, settled),
        load=lambda: GenerativeScorer(plan.folders["lm"], bos_id, settled),
        compute=generative_shard,
    )


def _embeddings(plan: Plan, work: Work, seconds: Seconds, settled: Precision) -> None:
    _each_shard(
        plan,
        work,
        seconds,
        stage="embeddings",
        title="embeddings",
        budget=_budget(plan, settled),
        load=lambda: Embedder(plan.folders["embedder"], settled),
        compute=embedding_shard,
    )


def _each_shard(
    plan: Plan,
    work: Work,
    seconds: Seconds,
    *,
    stage: str,
    title: str,
    budget: TokenBudget,
    load: Callable[[], Model],
    compute: Callable[[pa.Table, Model, TokenBudget, Advance], pa.Table],
) -> None:
    """Run a model over the shards that a stage has not finished; with none left the model is not even loaded."""
    todo = [shard for shard in range(plan.n_shards) if not work.done(stage, shard)]
    if not todo:
        return
    with _timed(seconds, "loading"):
        model = load()
    rows_done = min((plan.n_shards - len(todo)) * plan.config.shard_rows, plan.n_rows)
    with bar(title, plan.n_rows, done=rows_done) as progress:
        meter = Meter(progress)
        for shard in todo:
            start = time.perf_counter()
            table = compute(work.read("tokens", shard), model, budget, meter)
            work.write(stage, shard, table, time.perf_counter() - start)


def _budget(plan: Plan, settled: Precision) -> TokenBudget:
    return TokenBudget(plan.config.token_budget or TOKEN_BUDGET[settled.torch_device.type])
