"""docs/files.md names every column and key of a run's files, and no others."""

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import euds
from euds.study.types import Spread, StudyRow, StudyTable

PAGE = (Path(__file__).parents[1] / "docs" / "files.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The page from one title to the next."""
    return PAGE.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def documented(title: str) -> Iterator[str]:
    """What the first column of the section's tables names."""
    for line in section(title).splitlines():
        if line.startswith("| `"):
            yield from re.findall(r"`([^`]+)`", line.split("|")[1])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_lm: Path, tiny_encoder: Path) -> Path:
    folder = tmp_path_factory.mktemp("documented")
    rows = [{"text": f"good bad {'film ' * (at % 7)}", "label": "ab"[at % 2], "key": str(at)} for at in range(40)]
    rows.append({"text": "", "label": "a", "key": "40"})
    corpus = folder / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    euds.score(
        corpus,
        out=folder / "run",
        id_field="key",
        lm=tiny_lm,
        embedder=tiny_encoder,
        semantic=["clusters", "samples", "label_words"],
        samples=euds.SampleSettings(n_generations=3, max_new_tokens=3, estimators=("discrete",)),
        label_words=euds.LabelWordSettings(labels=("good", "bad")),
        cache=folder / "cache",
    )
    euds.select(folder / "run", keep=0.5, rule="igse")
    return folder / "run"


def columns(path: Path) -> list[str]:
    names: list[str] = pq.read_schema(path).names
    return names


def test_every_column_of_the_scores_is_named(run: Path) -> None:
    found = [name.replace("samples_discrete", "samples_X") for name in columns(run / "scores" / "part-00000.parquet")]
    assert sorted(documented("`scores/part-*.parquet`")) == sorted(found)


@pytest.mark.parametrize("folder", ["generations", "meanings"])
def test_every_column_beside_the_scores_is_named(run: Path, folder: str) -> None:
    text = section("`scores/part-*.parquet`")
    for name in columns(run / folder / "part-00000.parquet"):
        assert f"`{name.replace('samples_discrete', 'samples_X')}`" in text


@pytest.mark.parametrize("file", ["quarantine.jsonl", "scores/_parts.jsonl"])
def test_every_key_of_a_line_is_named(run: Path, file: str) -> None:
    line: dict[str, Any] = json.loads((run / file).read_text().splitlines()[0])
    assert all(f"`{key}`" in section("`scores/part-*.parquet`") for key in line)


def test_every_key_of_the_manifest_is_named(run: Path) -> None:
    found = json.loads((run / "manifest.json").read_text())
    assert set(documented("`manifest.json`")) - {"versions_begun"} == set(found)


def test_every_key_of_a_selection_is_named(run: Path, tmp_path: Path) -> None:
    named = sorted(documented("`selected.parquet` and `selection.json`"))
    found = json.loads((run / "selection.json").read_text())
    assert [name for name in named if name != "rank_error"] == sorted(found)
    streamed = euds.select_streaming(run, keep=0.5, rule="igse", out=tmp_path / "kept.parquet")
    assert named == sorted(streamed.record)


def test_every_key_of_the_study_is_named() -> None:
    named = set(re.findall(r"`([a-z_0-9]+)`", section("`study/table.json`")))
    assert named == {field.name for kind in (StudyTable, StudyRow, Spread) for field in fields(kind)}
