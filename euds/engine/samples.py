"""The stages of semantic entropy over generations: sample a shard's, then group and weigh them."""

import json
import shutil
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from euds.corpus import generations_path, meanings_path
from euds.engine.batches import TokenBudget
from euds.engine.generations import generate_shard, write_part
from euds.engine.meanings import Judges, meanings_shard
from euds.engine.meter import Advance
from euds.engine.prepare import Plan
from euds.engine.sample_cost import Cost
from euds.files import atomic_path
from euds.measures.device import Precision
from euds.measures.entailment import EntailmentModel
from euds.measures.generate import Sampler
from euds.measures.semantic import Embedder, embedder_limit
from euds.measures.tokens import ModelTokenizer


def load_judges(plan: Plan, embedder: Embedder | None, settled: Precision) -> Judges:
    """Load what tells meanings apart beside `embedder`, which is None where the settings use none."""
    settings = plan.config.samples
    assert settings is not None
    folder = plan.folders.get("embedder")
    tokenizer = None if embedder is None or folder is None else ModelTokenizer(folder, embedder_limit(folder))
    nli = None if settings.nli is None else EntailmentModel(settings.nli, settled)
    return Judges(embedder, tokenizer, nli)


def generation_stage(
    plan: Plan, shard: int, tokens: pa.Table, generator: Sampler | None, budget: TokenBudget, advance: Advance
) -> pa.Table:
    """Write a shard's generations, sampled or taken over from another run, and return what that cost."""
    settings = plan.config.samples
    assert settings is not None
    path = generations_path(plan.run_dir, shard)
    if generator is None:
        assert settings.generations_from is not None
        with atomic_path(path) as partial:
            shutil.copyfile(generations_path(Path(settings.generations_from), shard), partial)
        advance(tokens.num_rows, 0, 0)
        return _cost_table({})
    start = time.perf_counter()
    own_batches = settings.sampler == "vllm"
    table = generate_shard(tokens, generator, settings, plan.config.seed, None if own_batches else budget, advance)
    write_part(path, table)
    return _cost_table({"generation": {"seconds": time.perf_counter() - start, **_counts(table)}})


def meanings_stage(plan: Plan, shard: int, judges: Judges, budget: TokenBudget, advance: Advance) -> pa.Table:
    """Write the meanings of a shard's generations and return what they cost."""
    settings = plan.config.samples
    assert settings is not None
    generations = pq.read_table(generations_path(plan.run_dir, shard))
    table, cost = meanings_shard(generations, settings, judges, budget)
    write_part(meanings_path(plan.run_dir, shard), table)
    advance(table.num_rows, 0, 0)
    return _cost_table(cost)


def _cost_table(cost: Cost) -> pa.Table:
    return pa.table({"cost": [json.dumps(cost)]})


def _counts(generations: pa.Table) -> dict[str, int]:
    made = generations.filter(pc.is_valid(generations.column("text")))
    drawn = [count for counts in made.column("n_tokens").to_pylist() for count in counts]
    return {
        "prompt_tokens": sum(made.column("n_prompt_tokens").to_pylist()),
        "new_tokens": sum(drawn),
        "generations": len(drawn),
    }
