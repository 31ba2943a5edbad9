"""Steps of a large corpus, and long searches, show how far they are; what is soon over shows nothing."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import euds
from euds import progress
from euds.corpus import identities

WriteJsonl = Callable[..., Path]
LINES = b"".join(json.dumps({"text": f"row {at} " * (at % 7)}).encode() + b"\n" for at in range(3000))


def write(path: Path) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": [f"row {at}" for at in range(3000)]}), path, row_group_size=700)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(LINES))
    else:
        path.write_bytes(LINES if path.suffix == ".jsonl" else b"text\n" + b"some words\n" * 3000)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.parquet"])
def test_the_bar_ends_with_the_bytes_of_all_files_read_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    files = [write(tmp_path / name), write(tmp_path / f"b{name}")]
    heard: list[euds.StepProgress | euds.Message] = []
    monkeypatch.setattr("euds.progress.WORTH_A_BAR", 0)
    monkeypatch.setattr("euds.progress.TELL_SECONDS", 0)
    with euds.listen(heard.append):
        found = identities(files)
        assert [entry["rows"] for entry in found] == [3000, 3000]
        done = [event.done for event in heard if isinstance(event, euds.StepProgress)]
        assert len(done) > 4
        assert done == sorted(done)
        assert done[-1] == pytest.approx(2 * sum(file.stat().st_size for file in files) / 1e6)
        heard.clear()
        # What is known is not read again.
        assert identities(files, found) == found
        assert not heard


def test_a_large_corpus_shows_what_is_done_before_scoring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], write_jsonl: WriteJsonl
) -> None:
    corpus = write_jsonl([{"text": "a b c"}] * 50)
    monkeypatch.setattr("euds.progress.WORTH_A_BAR", 1e9)
    euds.score(corpus, out=tmp_path / "small", measures=["information"])
    assert "hash and count" not in capsys.readouterr().err
    monkeypatch.setattr("euds.progress.WORTH_A_BAR", 0)
    euds.score(corpus, out=tmp_path / "large", measures=["information"])
    shown = capsys.readouterr().err
    assert "hash and count, MB" in shown
    assert "cut, rows" in shown
    assert "50/50" in shown


def test_a_step_has_a_bar_once_it_has_taken_a_while_and_then_the_right_eta(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1024.0
    monkeypatch.setattr(progress.console, "get_time", lambda: now)
    heard: list[euds.StepProgress] = []
    with euds.listen(heard.append), progress.slow_bar("read", 1000, "rows") as advance:  # type: ignore[arg-type]
        for at in range(1000):
            # Of numbers that binary has exactly.
            now += 1 / 128
            advance(1)
            assert bool(heard) == (at >= 255)
    assert [event.title for event in heard] == ["read, rows"] * len(heard)
    assert (heard[0].done, heard[-1].done, heard[-1].total) == (256, 1000, 1000)
    assert heard[-1].note == "128 rows/s"
    # Some ten a second of the six that were left, though every row moves it.
    assert 50 < len(heard) < 70
    assert heard[40].seconds_left == pytest.approx((1000 - heard[40].done) / 128, abs=1)


def test_a_slow_search_tells_its_share_and_can_be_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_jsonl: WriteJsonl
) -> None:
    rng = np.random.default_rng(0)
    rows = [{"text": " ".join(f"w{word}" for word in rng.integers(0, 400, rng.integers(5, 60)))} for _ in range(1500)]
    euds.score(write_jsonl(rows), out=tmp_path / "run", measures=["information"])
    monkeypatch.setattr("euds.progress.WORTH_A_BAR", 0)
    monkeypatch.setattr("euds.progress.TELL_SECONDS", 0)
    heard: list[euds.StepProgress] = []
    # Large enough to be told of, 20 times a second.
    box: dict[str, Any] = {"keep": 0.2, "rule": "box", "axes": ["information", "surprisal"], "bins": 1000}
    with euds.listen(heard.append):  # type: ignore[arg-type]
        euds.select_streaming(tmp_path / "run", **box)
        streamed = {event.title: event for event in heard}
        heard.clear()
        euds.select(tmp_path / "run", **box)
    assert [(title, event.done) for title, event in streamed.items()] == [
        ("count, rows", 3000),
        ("search, %", 100),
        ("trim, rows", 1500),
        ("write, rows", 1500),
    ]
    assert {event.title: event.done for event in heard}.items() >= {("search, %", 100)}

    def cancel(event: object) -> None:
        if isinstance(event, euds.StepProgress) and event.title.startswith("search"):
            raise KeyboardInterrupt

    with euds.listen(cancel), pytest.raises(KeyboardInterrupt):
        euds.select_streaming(tmp_path / "run", **box)
