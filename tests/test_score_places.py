"""What is somebody's own where a run would write, and by which paths a run knows its corpus again."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sampled_runs

import euds
from euds.corpus import open_manifest, read_scores
from euds.errors import InputError
from euds.types import ScoreResult

WriteJsonl = Callable[..., Path]
INFORMATION: dict[str, Any] = {"measures": ["information"], "shard_rows": 16}


@pytest.mark.parametrize("inputs", ["quarantine.jsonl", "*.jsonl", "../corpus.jsonl"])
def test_a_quarantine_of_somebodys_own_is_not_written_over(corpus: Path, tmp_path: Path, inputs: str) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    shutil.copy(corpus, out / "quarantine.jsonl")
    shutil.copy(corpus, out / "rows.jsonl")
    with pytest.raises(InputError, match=r"quarantine\.jsonl: is no run's, and would be written over; move it"):
        euds.score(out / inputs, out=out, **INFORMATION)
    assert (out / "quarantine.jsonl").read_bytes() == corpus.read_bytes()
    assert sorted(path.name for path in out.iterdir()) == ["quarantine.jsonl", "rows.jsonl"]


def test_generations_of_somebodys_own_are_not_written_over(sample: sampled_runs.Sample, tmp_path: Path) -> None:
    mine = tmp_path / "run" / "generations" / "part-00000.parquet"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(InputError, match=r"part-00000\.parquet: is no run's, and would be written over"):
        sample("run", {})
    assert mine.read_bytes() == b"mine"


def test_a_run_that_was_killed_while_it_was_forgotten_is_started_over(corpus: Path, whole: Path) -> None:
    (whole / "work").mkdir()
    (whole / "work" / "lock").touch()
    (whole / "manifest.json").unlink()
    shutil.rmtree(whole / "scores")
    assert euds.score(corpus, out=whole, **INFORMATION).n_rows == 152


def test_the_remedy_that_is_named_works(corpus: Path, whole: Path, tmp_path: Path) -> None:
    other = tmp_path / "app"
    other.mkdir()
    (other / "manifest.json").write_text(json.dumps({"name": "my web app"}))
    for use in (
        lambda: euds.score(corpus, out=other, **INFORMATION),
        lambda: euds.select(other, keep=3, rule="random"),
        lambda: euds.status(other),
    ):
        with pytest.raises(InputError, match=r"manifest\.json: is no run's manifest; score into a new directory"):
            use()
    shutil.copytree(whole / "scores", tmp_path / "tables" / "scores")
    (tmp_path / "tables" / "scores" / "_parts.jsonl").unlink()
    with pytest.raises(InputError, match=r"without a manifest\.json; choose another --out"):
        euds.score(corpus, out=tmp_path / "tables", **INFORMATION)


def test_an_unfinished_run_knows_its_corpus_by_another_path(
    corpus: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(corpus.parent)
    monkeypatch.setenv("HOME", str(corpus.parent))
    names: list[str | Path] = [tmp_path / "link" / corpus.name, f"~/{corpus.name}", f"~/{corpus.stem}*"]
    for at, name in enumerate(names):
        run_dir = tmp_path / f"run{at}"
        euds.score(corpus, out=run_dir, split="0/2", **INFORMATION)
        euds.score(name, out=run_dir, **INFORMATION)
        assert read_scores(run_dir).equals(read_scores(whole))
    copy = tmp_path / "copy" / corpus.name
    copy.parent.mkdir()
    shutil.copy(corpus, copy)
    euds.score(corpus, out=tmp_path / "run", split="0/2", **INFORMATION)
    with pytest.raises(InputError, match=r"inputs\[0\]\.path"):
        euds.score(copy, out=tmp_path / "run", **INFORMATION)


def test_an_archive_is_known_by_another_path(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.write(corpus, "in/rows.jsonl")
    monkeypatch.chdir(tmp_path)
    euds.score("zip://in/*.jsonl::archive.zip", out="run", split="0/2", **INFORMATION)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    result: ScoreResult = euds.score("zip://in/*.jsonl::../archive.zip", out="../run", **INFORMATION)
    assert result.n_rows == 152
    (entry,) = open_manifest(tmp_path / "run")["inputs"]
    assert entry["path"] == f"zip://in/rows.jsonl::{tmp_path}/archive.zip"
    with pytest.raises(InputError, match=r"name its files, such as zip://in/\*\.jsonl::\.\./archive\.zip$"):
        euds.score("zip://in::../archive.zip", out="other", **INFORMATION)


def test_a_pattern_that_ends_in_two_stars_finds_files(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    for folder in ("data", "data/deep"):
        shutil.copy(corpus, tmp_path / folder / "rows.jsonl")
    assert euds.score(tmp_path / "data" / "**", out=tmp_path / "run", **INFORMATION).n_rows == 304


def test_generations_are_taken_over_by_whatever_path(
    sample: sampled_runs.Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample("first", {})
    expected = sample("second", {"generations_from": str(tmp_path / "first")})
    monkeypatch.chdir(tmp_path)
    assert sample("second", {"generations_from": "./first"}) == expected
