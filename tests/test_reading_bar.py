"""Reading a large corpus before it is scored shows how far it is; a small one shows nothing."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import euds
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
    moved: list[float] = []
    monkeypatch.setattr("euds.progress.WORTH_A_BAR", 1)
    monkeypatch.setattr("euds.progress.Bar.advance", lambda self, steps, note: moved.append(steps))
    found = identities(files)
    assert [entry["rows"] for entry in found] == [3000, 3000]
    assert min(moved) >= 0
    assert sum(moved) == pytest.approx(2 * sum(file.stat().st_size for file in files) / 1e6)
    moved.clear()
    # What is known is not read again.
    assert identities(files, found) == found
    assert sum(moved) == 0


def test_a_large_corpus_shows_what_is_done_before_scoring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], write_jsonl: WriteJsonl
) -> None:
    corpus = write_jsonl([{"text": "a b c"}] * 50)
    euds.score(corpus, out=tmp_path / "small", measures=["information"])
    assert "hash and count" not in capsys.readouterr().err
    monkeypatch.setattr("euds.progress.WORTH_A_BAR", 1)
    euds.score(corpus, out=tmp_path / "large", measures=["information"])
    shown = capsys.readouterr().err
    assert "hash and count, MB" in shown
    assert "cut, rows" in shown
    assert "50/50" in shown
