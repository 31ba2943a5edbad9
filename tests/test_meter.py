"""The bar of a run: how many rows it is for, and how many of them are quarantined."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import euds
from euds.progress import Bar, bar

WriteJsonl = Callable[..., Path]
Texts = Callable[[int, int], list[str]]
Shown = list[tuple[str, int | None, int, int]]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Each bar's title, total, beginning and end, as bars end."""
    ended: Shown = []

    @contextmanager
    def recorded(title: str, total: int | None, *, done: int = 0) -> Iterator[Bar]:
        with bar(title, total, done=done) as progress:
            yield progress
            ended.append((title, total, done, int(progress._progress.tasks[0].completed)))

    for runner in ("local_runner", "process_runner"):
        monkeypatch.setattr(f"euds.engine.{runner}.bar", recorded)
    return ended


@pytest.mark.parametrize("workers", [None, 2])
def test_the_bar_of_a_piece_is_for_what_is_done_and_its_own_rows(
    write_jsonl: WriteJsonl, make_texts: Texts, tmp_path: Path, shown: Shown, workers: int | None
) -> None:
    corpus = write_jsonl([{"text": text} for text in make_texts(64, 3)])
    settings: dict[str, Any] = {"measures": ["information"], "shard_rows": 10, "workers": workers}
    for piece in range(3):
        euds.score(corpus, out=tmp_path / "run", split=f"{piece}/3", **settings)
    # Shards 0, 3 and 6, then 1 and 4, then the others and the end of all.
    assert shown == [("score", 24, 0, 24), ("score", 44, 24, 44), ("score", 64, 44, 64), ("finish", 64, 0, 64)]
