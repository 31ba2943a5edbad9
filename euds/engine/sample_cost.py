"""What the stages of sampled generations have cost a shard."""

import json
from typing import Any

from euds.engine.work import Work

STAGES = ("generation", "meanings")

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
