"""Fields of the corpus in the kept rows: their types, and text where no type holds all values."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import euds
from euds.selection.summary import summary

WriteJsonl = Callable[..., Path]
Texts = Callable[[int, int], list[str]]
Select = Callable[..., euds.Selection]


def choose(select: Select, run_dir: Path, **arguments: Any) -> euds.Selection:
    """Select every row."""
    return select(run_dir, **{"keep": 1.0, "rule": "low", "axes": ["information"], **arguments})


def kept(run_dir: Path, column: str) -> list[object]:
    """Return a column of the kept rows."""
    values: list[object] = pq.read_table(run_dir / "selected.parquet").column(column).to_pylist()
    return values


LABELS = [0, 1, "unknown", "1", None, True, 2**70]


@pytest.mark.parametrize("field", ["label", "class"])
def test_labels_of_several_types_are_as_they_were_scored(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts, field: str
) -> None:
    corpus = [{"text": text, field: label} for text, label in zip(make_texts(len(LABELS), 1), LABELS, strict=True)]
    euds.score(write_jsonl(corpus), out=tmp_path / "run", measures=["information"], label_field=field)
    selection = choose(euds.select, tmp_path / "run")
    assert kept(tmp_path / "run", field) == ["0", "1", "unknown", "1", None, "True", str(2**70)]
    assert f"  written as text, as no type holds all their values: {field}" in summary(selection).splitlines()


def test_a_label_that_was_none_to_the_scores_is_not_lost(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts
) -> None:
    corpus = [{"text": text, "label": ["a"] if at else "b"} for at, text in enumerate(make_texts(3, 1))]
    euds.score(write_jsonl(corpus), out=tmp_path / "run", measures=["information"], label_field="label")
    choose(euds.select, tmp_path / "run")
    assert [json.loads(str(text)) for text in kept(tmp_path / "run", "label")] == ["b", ["a"], ["a"]]


def test_scalars_of_several_types_are_themselves(tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts) -> None:
    values = ["unknown", 1, 1.5, True, None, '"quoted"']
    corpus = [{"text": text, "mixed": value} for text, value in zip(make_texts(6, 1), values, strict=True)]
    euds.score(write_jsonl(corpus), out=tmp_path / "run", measures=["information"])
    selection = choose(euds.select, tmp_path / "run")
    assert kept(tmp_path / "run", "mixed") == ["unknown", "1", "1.5", "true", None, '"quoted"']
    assert selection.record["fields_as_text"] == {"mixed": "text"}
    assert choose(euds.select, tmp_path / "run", columns=["text"]).record["fields_as_text"] == {}
