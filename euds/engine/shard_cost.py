"""What the stages of semantic entropy have cost a shard: embeddings, generations, and label words."""

import json
from typing import Any

import pyarrow as pa

from euds.engine.work import Work

GENERATION_STAGES = ("generation", "meanings")

TOKENS_READ = b"cost"
"""Key in the metadata of a table of embeddings, or of label words' scores."""

Cost = dict[str, dict[str, Any]]
"""What a part of the estimate (generation, embedding, grouping, estimation) took: seconds, tokens, pairs."""


def generations_cost(work: Work, shard: int) -> Cost:
    """Return what the stages of generations have cost a shard."""
    cost: Cost = {}
    for stage in GENERATION_STAGES:
        (text,) = work.read(stage, shard).column("cost").to_pylist()
        cost |= json.loads(text)
    return cost


def stage_seconds(cost: Cost) -> dict[str, float]:
    """Return the seconds in a cost by the manifest's names of stages."""
    return {f"generation_{part}" if part == "embedding" else part: found["seconds"] for part, found in cost.items()}


def with_tokens_read(table: pa.Table, tokens: dict[str, int]) -> pa.Table:
    """Return a stage's table with the tokens that its model has read, by kind."""
    return table.replace_schema_metadata({TOKENS_READ: json.dumps(tokens).encode()})


def tokens_read(table: pa.Table, *kinds: str) -> dict[str, int]:
    """Return the tokens that a stage's model has read for a shard; none, where a cache knew every row of it."""
    found: dict[str, int] = json.loads((table.schema.metadata or {}).get(TOKENS_READ, b"{}"))
    return {kind: found.get(kind, 0) for kind in kinds}
