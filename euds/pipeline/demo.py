"""`euds demo`: the sentiment recipe on fetched models and data, from nothing to a report."""

from collections.abc import Sequence
from typing import Any

from euds.assets import fetch
from euds.pipeline.run import RunResult, run

ASSETS = ("movie-snippets", "smollm2-135m", "all-minilm-l6-v2")

SENTIMENT: dict[str, Any] = {
    "task": "classification",
    "out": "runs/sentiment",
    "seeds": 2,
    "data": {
        "train": "movie-snippets/train.jsonl",
        "test": "movie-snippets/test.jsonl",
        "limit": 1400,
        "test_limit": 800,
    },
    "score": {"lm": "smollm2-135m", "embedder": "all-minilm-l6-v2"},
    "select": {"keep": 0.16},
    "train": {"model": "all-minilm-l6-v2", "epochs": 3.0, "by_length": True},
}
"""The content of examples/sentiment.yaml, which an installed package does not have; a test keeps them equal."""


def demo(overrides: Sequence[str] = ()) -> RunResult | None:
    """Fetch what the recipe needs and run it; the second time it only reads what the first has found.

    Raises:
        InvalidArgument: an override is wrong.
        InputError: an asset cannot be fetched, or what an override names is wrong.
        MissingExtra, RunStopped: as of `run`.
    """
    for name in ASSETS:
        fetch(name)
    return run(SENTIMENT, overrides)
