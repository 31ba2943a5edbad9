"""The stages of semantic entropy over generations: those of a shard are sampled, then grouped and weighed."""

import json
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from euds.corpus import generations_path, meanings_path, read_parquet, write_parquet
from euds.engine.batches import TokenBudget
from euds.engine.columns import n_with_reason
from euds.engine.generations import SCHEMA, generate_shard
from euds.engine.meanings import Judges, meanings_shard
from euds.engine.meter import Advance
from euds.engine.prepare import Plan
from euds.engine.shard_cost import Cost
from euds.errors import InputError, reason_of
from euds.files import storage_failure
from euds.measures.device import Precision
from euds.measures.entailment import DEFAULT_TOKEN_BUDGET, EntailmentModel
from euds.measures.generate import Sampler
from euds.measures.semantic import Embedder, embedder_limit
from euds.measures.tokens import ModelTokenizer

LISTS = ("text", "n_tokens", "mean_logprob", "sum_logprob")
"""Columns of generations that have an entry for each generation of a row."""

NOT_GENERATED = "the run that generations are taken over from could not use this row"


def load_judges(plan: Plan, embedder: Embedder | None, settled: Precision) -> Judges:
    """Load what tells meanings apart beside `embedder`, which is None where the settings use none."""
    settings = plan.config.samples
    assert settings is not None
    folder = plan.folders.get("embedder")
    tokenizer = None if embedder is None or folder is None else ModelTokenizer(folder, embedder_limit(folder))
    budget = plan.config.token_budget or DEFAULT_TOKEN_BUDGET
    nli = None if settings.nli is None else EntailmentModel(plan.folders["nli"], settled, budget)
    return Judges(embedder, tokenizer, nli)


def generation_stage(
    plan: Plan, shard: int, tokens: pa.Table, generator: Sampler | None, budget: TokenBudget, advance: Advance
) -> pa.Table:
    """Write a shard's generations, sampled or taken over from another run, and return what that cost.

    Raises:
        InputError: those of the other run are gone, damaged or of other rows.
        RunStopped: the disk or file server failed.
    """
    settings = plan.config.samples
    assert settings is not None
    path = generations_path(plan.run_dir, shard)
    if generator is None:
        assert settings.generations_from is not None
        other = generations_path(Path(settings.generations_from), shard)
        try:
            generations = read_parquet(other, SCHEMA.names).select(SCHEMA.names).cast(SCHEMA)
        except (pa.ArrowException, OSError) as error:
            raise storage_failure(other, error) or InputError(
                f"{other}: is unreadable; score without generations_from: {reason_of(error)}"
            ) from error
        if not _fits(generations, tokens, settings.n_generations):
            raise InputError(f"{other}: does not fit the rows of this run; score without generations_from")
        write_parquet(path, _usable_here(generations, tokens))
        advance(tokens.num_rows, 0, 0)
        return _cost_table({})
    start = time.perf_counter()
    own_batches = settings.sampler == "vllm"
    table = generate_shard(tokens, generator, settings, plan.config.seed, None if own_batches else budget, advance)
    write_parquet(path, table)
    return _cost_table({"generation": {"seconds": time.perf_counter() - start, **_counts(table)}})


def meanings_stage(plan: Plan, shard: int, judges: Judges, budget: TokenBudget, advance: Advance) -> pa.Table:
    """Write the meanings of a shard's generations and return what they cost."""
    settings = plan.config.samples
    assert settings is not None
    generations = read_parquet(generations_path(plan.run_dir, shard))
    table, cost = meanings_shard(generations, settings, judges, budget)
    write_parquet(meanings_path(plan.run_dir, shard), table)
    advance(table.num_rows, 0, n_with_reason(table))
    return _cost_table(cost)


def _fits(generations: pa.Table, tokens: pa.Table, n_generations: int) -> bool:
    """Whether generations are of these rows, each with as many entries in all its lists as there should be, or none."""
    made = pc.is_valid(generations.column("text"))
    lengths = pc.if_else(made, pa.scalar(n_generations, pa.int32()), pa.scalar(None, pa.int32()))
    return generations.column("row_id").equals(tokens.column("row_id")) and all(
        pc.list_value_length(column).equals(lengths) and not pc.list_flatten(column).null_count
        for column in map(generations.column, LISTS)
    )


def _usable_here(generations: pa.Table, tokens: pa.Table) -> pa.Table:
    """Leave out the generations of rows that this run cannot use, and tell why rows have none that only it can use."""
    able = pc.is_null(tokens.column("reason")).combine_chunks()
    lacking = pc.and_(pc.is_null(generations.column("text")), pc.is_null(generations.column("reason")))
    reasons = pc.if_else(lacking, pa.scalar(NOT_GENERATED), generations.column("reason"))
    generations = generations.set_column(generations.column_names.index("reason"), "reason", reasons)
    rows = pa.array(np.arange(generations.num_rows), mask=~np.asarray(able))
    for name in (*LISTS, "reason"):
        column = generations.column(name).take(rows)
        generations = generations.set_column(generations.column_names.index(name), name, column)
    return generations


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
