"""What the tests of sampled generations share."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

if TYPE_CHECKING:
    # Every test loads this file, and few need torch.
    from euds.measures.generate import Generations, Generator

MOST_TOKENS = 60
"""Tokens of prompts that fit together into the memory of `limit_memory`."""

SMALL = {"n_generations": 5, "max_new_tokens": 4}

Sample = Callable[..., list[dict[str, Any]]]
"""(name, settings, **arguments) -> scores of the corpus, scored into tmp_path/name."""


def table(run_dir: Path, folder: str) -> list[dict[str, Any]]:
    """Return the lines of a run's folder of part files."""
    parts = sorted((run_dir / folder).glob("part-*.parquet"))
    rows: list[dict[str, Any]] = pa.concat_tables([pq.read_table(part) for part in parts]).to_pylist()
    return rows


def limit_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let generators run out of memory on prompts of more than `MOST_TOKENS` tokens together."""
    import torch

    from euds.measures.generate import Generator

    real = Generator.generate

    def generate(self: "Generator", prompts: list[list[int]], *arguments: Any, **named: Any) -> "Generations":
        if sum(map(len, prompts)) > MOST_TOKENS:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, prompts, *arguments, **named)

    monkeypatch.setattr(Generator, "generate", generate)
