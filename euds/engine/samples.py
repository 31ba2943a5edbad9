"""The stages of semantic entropy over generations: sample them, then group and weigh them, shard by shard."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from euds.corpus import generations_path, meanings_path
from euds.engine.batches import TokenBudget
from euds.engine.generations import generate_shard, write_part
from euds.engine.meanings import Judges, meanings_shard
from euds.engine.meter import Meter
from euds.engine.prepare import Plan
from euds.engine.work import Work
from euds.files import atomic_path
from euds.measures.device import Precision
from euds.measures.entailment import EntailmentModel
from euds.measures.generate import Generator
from euds.measures.semantic import Embedder, embedder_limit
from euds.measures.tokens import ModelTokenizer
from euds.progress import bar

GENERATION_BUDGET = {"cpu": 8192, "cuda": 1 << 18}
"""Tokens that the LM remembers in a batch of generations, by kind of device."""

STAGES = ("generation", "meanings")


def run_samples(plan: Plan, work: Work, settled: Precision, embedding_budget: TokenBudget) -> float:
    """Bring the generations and the meanings of every shard into being, and return the seconds of loading models."""
    return _generate(plan, work, settled) + _find_meanings(plan, work, settled, embedding_budget)


def stage_seconds(plan: Plan, work: Work) -> dict[str, float]:
    """Return the seconds that generation, embedding, grouping and estimation took, earlier runs' included."""
    cost = total_cost(plan, work)
    return {f"generation_{part}" if part == "embedding" else part: found["seconds"] for part, found in cost.items()}


def total_cost(plan: Plan, work: Work) -> dict[str, dict[str, Any]]:
    """Return what the parts of the estimate took over all shards: seconds, tokens, pairs."""
    total: dict[str, dict[str, Any]] = {}
    for shard in range(plan.n_shards):
        for stage in STAGES:
            (cost,) = work.read(stage, shard).column("cost").to_pylist() if work.done(stage, shard) else ["{}"]
            for part, found in json.loads(cost).items():
                sums = total.setdefault(part, {})
                for name, value in found.items():
                    sums[name] = sums.get(name, 0) + value
    return total


def _generate(plan: Plan, work: Work, settled: Precision) -> float:
    settings = plan.config.samples
    assert settings is not None
    if settings.generations_from is not None:
        _take_over(plan, Path(settings.generations_from))
        return 0.0
    todo = [shard for shard in range(plan.n_shards) if not work.done("generation", shard)]
    if not todo:
        return 0.0
    start = time.perf_counter()
    generator = Generator(plan.folders["lm"], settled, settings.warping, stop_at_newline=settings.stops_at_newline)
    loading = time.perf_counter() - start
    budget = TokenBudget(plan.config.token_budget or GENERATION_BUDGET[settled.torch_device.type])
    with bar("generate", plan.n_rows, done=_rows_before(plan, len(todo))) as progress:
        meter = Meter(progress)
        for shard in todo:
            start = time.perf_counter()
            table = generate_shard(work.read("tokens", shard), generator, settings, plan.config.seed, budget, meter)
            write_part(generations_path(plan.run_dir, shard), table)
            _write_cost(work, "generation", shard, {"generation": _counts(table)}, time.perf_counter() - start)
    return loading


def _take_over(plan: Plan, other: Path) -> None:
    for shard in range(plan.n_shards):
        if not generations_path(plan.run_dir, shard).exists():
            with atomic_path(generations_path(plan.run_dir, shard)) as partial:
                shutil.copyfile(generations_path(other, shard), partial)


def _find_meanings(plan: Plan, work: Work, settled: Precision, budget: TokenBudget) -> float:
    settings = plan.config.samples
    assert settings is not None
    todo = [shard for shard in range(plan.n_shards) if not work.done("meanings", shard)]
    if not todo:
        return 0.0
    start = time.perf_counter()
    judges = _judges(plan, settled)
    loading = time.perf_counter() - start
    with bar("meanings", plan.n_rows, done=_rows_before(plan, len(todo))) as progress:
        for shard in todo:
            start = time.perf_counter()
            generations = pq.read_table(generations_path(plan.run_dir, shard))
            table, cost = meanings_shard(generations, settings, judges, budget)
            write_part(meanings_path(plan.run_dir, shard), table)
            _write_cost(work, "meanings", shard, cost, time.perf_counter() - start)
            progress.advance(table.num_rows)
    return loading


def _write_cost(work: Work, stage: str, shard: int, cost: Mapping[str, Any], seconds: float) -> None:
    """Keep what a shard cost until the manifest is written; its file says, too, that the shard is done."""
    if "generation" in cost:
        cost = {"generation": {"seconds": seconds, **cost["generation"]}}
    work.write(stage, shard, pa.table({"cost": [json.dumps(cost)]}), seconds)


def _counts(generations: pa.Table) -> dict[str, int]:
    made = generations.filter(pc.is_valid(generations.column("text")))
    drawn = [count for counts in made.column("n_tokens").to_pylist() for count in counts]
    return {
        "prompt_tokens": sum(made.column("n_prompt_tokens").to_pylist()),
        "new_tokens": sum(drawn),
        "generations": len(drawn),
    }


def _judges(plan: Plan, settled: Precision) -> Judges:
    settings = plan.config.samples
    assert settings is not None
    embedder = tokenizer = None
    if settings.needs_embeddings:
        folder = plan.folders["embedder"]
        embedder, tokenizer = Embedder(folder, settled), ModelTokenizer(folder, embedder_limit(folder))
    nli = None if settings.nli is None else EntailmentModel(settings.nli, settled)
    return Judges(embedder, tokenizer, nli)


def _rows_before(plan: Plan, n_todo: int) -> int:
    return min((plan.n_shards - n_todo) * plan.config.shard_rows, plan.n_rows)
