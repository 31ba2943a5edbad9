"""The bar of a run: how many rows it is for, and how many of them are quarantined."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sampled_runs import limit_memory

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

    for runner in ("local_runner", "process_runner", "estimate_sample"):
        monkeypatch.setattr(f"euds.engine.{runner}.bar", recorded)
    return ended


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What stands behind the bars, one note after another."""
    found: list[str] = []
    real = Bar.advance

    def advance(self: Bar, steps: int = 1, note: str | None = None) -> None:
        found.extend([] if note is None else [note])
        real(self, steps, note)

    monkeypatch.setattr(Bar, "advance", advance)
    return found


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


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize("cached", [False, True])
def test_rows_that_cannot_be_read_are_counted_once(
    write_jsonl: WriteJsonl,
    make_texts: Texts,
    tmp_path: Path,
    tiny_lm: Path,
    tiny_encoder: Path,
    notes: list[str],
    workers: int | None,
    *,
    cached: bool,
) -> None:
    rows: list[object] = [{"text": text} for text in make_texts(20, 3)]
    # The middle shard has none that can be read; a single token without BOS is refused by generative entropy.
    rows[3:3] = [{"text": None}, "no object", {"text": " "}]
    rows[10:10] = [{"text": None}] * 20 + [{"text": "the"}]
    settings: dict[str, Any] = {"lm": tiny_lm, "embedder": tiny_encoder, "n_clusters": 2, "shard_rows": 10}
    settings |= {"workers": workers, "cache": tmp_path / "cache" if cached else None}
    euds.score(write_jsonl(rows), out=tmp_path / "run", **settings)
    assert notes[-1].endswith(" tokens/s, 24 quarantined")


def test_rows_that_got_no_generations_are_counted_once(
    write_jsonl: WriteJsonl, tmp_path: Path, tiny_lm: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_memory(monkeypatch)
    words = {"grouping": "labels", "labels": ("sad", "funny"), "estimators": ("discrete",)}
    samples = euds.SampleSettings(n_generations=2, max_new_tokens=2, **words)  # type: ignore[arg-type]
    corpus = write_jsonl([{"text": "the film"}, {"text": None}, {"text": "the film was sad " * 20}])
    settings: dict[str, Any] = {"measures": ["semantic"], "semantic": "samples", "samples": samples, "lm": tiny_lm}
    assert euds.score(corpus, out=tmp_path / "run", **settings).n_quarantined == 2
    assert notes[-1] == "0 tokens/s, 2 quarantined"


@pytest.mark.parametrize("measures", ["information", "generative"])
def test_the_bar_of_an_estimate_leaves_the_warm_up_out(
    write_jsonl: WriteJsonl, make_texts: Texts, tiny_lm: Path, shown: Shown, measures: str
) -> None:
    corpus = write_jsonl([{"text": text} for text in make_texts(60, 3)])
    lm = None if measures == "information" else tiny_lm
    euds.estimate(corpus, measures=measures, lm=lm, sample_rows=40)
    assert shown == [("sample", 40, 0, 40)]
