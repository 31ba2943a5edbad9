"""Sample the generations of a shard."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from euds.engine.batches import OUT_OF_MEMORY, TokenBudget, run_batches
from euds.engine.columns import ragged, usable
from euds.engine.generations_config import SampleSettings
from euds.engine.meter import Advance
from euds.engine.models import LOGITS_NOT_FINITE
from euds.measures.device import is_out_of_memory
from euds.measures.generate import Generations, Sampler

ROWS_AT_ONCE = 256
"""Rows given to a generator that forms batches by itself: enough to keep it busy, few enough to see progress."""

SCHEMA = pa.schema(
    [
        ("row_id", pa.int64()),
        ("question", pa.string()),
        ("n_prompt_tokens", pa.int32()),
        ("text", pa.list_(pa.string())),
        ("n_tokens", pa.list_(pa.int32())),
        ("mean_logprob", pa.list_(pa.float32())),
        ("sum_logprob", pa.list_(pa.float32())),
        ("reason", pa.string()),
    ]
)
"""One line a row: N generations, or null and, for a usable row, the reason. Log-probabilities in nats."""


def generate_shard(
    tokens: pa.Table,
    generator: Sampler,
    settings: SampleSettings,
    seed: int,
    budget: TokenBudget | None,
    advance: Advance,
) -> pa.Table:
    """Sample the generations of one shard.

    Args:
        tokens: of the shard's rows, with their prompts.
        generator: what draws.
        settings: how.
        seed: of the draws.
        budget: of a batch, which counts the tokens that the model remembers at its end: N times the prompt with its
            longest continuation; None for a generator that forms batches by itself.
        advance: told of rows, drawn tokens and rows without generations.

    Returns:
        A table of `SCHEMA`, one line a row in order.
    """
    n = tokens.num_rows
    ids, offsets = ragged(tokens, "prompt_tokens")
    row_ids = tokens.column("row_id").to_numpy()
    able = usable(tokens)
    reasons: list[str | None] = [None] * n
    found: dict[str, list[list[Any] | None]] = {
        name: [None] * n for name in ("text", "n_tokens", "mean_logprob", "sum_logprob")
    }
    lengths = [settings.n_generations * (int(offsets[at + 1] - offsets[at]) + settings.max_new_tokens) for at in able]

    def step(batch: list[int]) -> Generations:
        rows = [able[at] for at in batch]
        return generator.generate(
            [ids[offsets[at] : offsets[at + 1]].tolist() for at in rows],
            [int(row_ids[at]) for at in rows],
            n=settings.n_generations,
            max_new_tokens=settings.max_new_tokens,
            seed=seed,
        )

    advance(n - len(able), 0, 0)
    for batch, made in _run(lengths, budget, step):
        rows = [able[at] for at in batch]
        if made is None:
            reasons[rows[0]] = OUT_OF_MEMORY
            advance(1, 0, 1)
            continue
        for at, finite, *values in zip(rows, made.finite.tolist(), *_columns(made), strict=True):
            if finite:
                for column, value in zip(found.values(), values, strict=True):
                    column[at] = value
            else:
                reasons[at] = LOGITS_NOT_FINITE
        advance(len(rows), int(made.n_tokens.sum()), int((~made.finite).sum()))
    return pa.table(
        {
            "row_id": tokens.column("row_id"),
            "question": tokens.column("question"),
            "n_prompt_tokens": np.diff(offsets),
            **found,
            "reason": reasons,
        },
        schema=SCHEMA,
    )


def _run(
    lengths: Sequence[int], budget: TokenBudget | None, step: Callable[[list[int]], Generations]
) -> Iterator[tuple[list[int], Generations | None]]:
    if budget is not None:
        return run_batches(lengths, budget, step, out_of_memory=is_out_of_memory)
    places = range(len(lengths))
    runs = (list(places[start : start + ROWS_AT_ONCE]) for start in places[::ROWS_AT_ONCE])
    return ((run, step(run)) for run in runs)


def _columns(made: Generations) -> tuple[list[Any], ...]:
    means = made.sum_logprob / made.n_tokens
    return made.texts, made.n_tokens.tolist(), means.tolist(), made.sum_logprob.tolist()
