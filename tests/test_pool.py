"""What is fitted to the whole pool holds no more of it than it needs."""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import euds
from euds.engine import pool
from euds.engine.work import Work

WriteJsonl = Callable[..., Path]
Texts = Callable[[int, int], list[str]]


def test_which_rows_have_an_embedding_is_held_of_one_shard_at_a_time(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_jsonl([{"text": text} for text in make_texts(40, 6)])
    held: list[weakref.ref[np.ndarray]] = []
    looked: list[int] = []
    most = 0
    embedded = pool._embedded

    def watched(work: Work, shard: int) -> np.ndarray:
        nonlocal most
        found = embedded(work, shard)
        held.append(weakref.ref(found))
        looked.append(shard)
        most = max(most, sum(lines() is not None for lines in held))
        return found

    monkeypatch.setattr(pool, "_embedded", watched)
    monkeypatch.setattr(pool, "trained_rows", lambda n_clusters: 2)
    monkeypatch.setattr(pool, "sample_rows", lambda n, size, seed: np.array([9, 33]))
    settings: dict[str, Any] = {"measures": "semantic", "embedder": tiny_encoder, "n_clusters": 2, "shard_rows": 8}
    euds.score(corpus, out=tmp_path / "run", **settings)
    assert most <= 2
    # All are counted, and only those that a row is drawn from looked at again.
    assert looked == [0, 1, 2, 3, 4, 1, 4]
