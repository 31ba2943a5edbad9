"""What the stages of prompted models have cost a shard: sampled generations, and label words."""

import json
from typing import Any

import pyarrow as pa

from euds.engine.work import Work

STAGES = ("generation", "meanings")

TOKENS_READ = b"cost"
"""Key in the metadata of a table of label words' scores."""

Cost = dict[str, dict[str, Any]]
"""What a part of the estimate (generation, embedding, grouping, estimation) took: seconds, tokens, pairs."""


def sample_cost(work: Work, shard: int) -> Cost:
    """Return what the stages of a shard have cost."""
    cost: Cost = {}
    for stage in STAGES:
        (text,) = work.read(stage, shard).column("cost").to_pylist()
        cost |= json.loads(text)
    return cost


def stage_seconds(cost: Cost) -> dict[str, float]:
    """Return the seconds in a cost by the manifest's names of stages."""
    return {f"generation_{part}" if part == "embedding" else part: found["seconds"] for part, found in cost.items()}


def label_words_cost(table: pa.Table) -> dict[str, int]:
    """Return the tokens read for a shard's label words; none, where a cache knew every row of it."""
    nothing = b'{"prompt_tokens": 0, "word_tokens": 0}'
    found: dict[str, int] = json.loads((table.schema.metadata or {}).get(TOKENS_READ, nothing))
    return found
