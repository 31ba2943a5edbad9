"""The file of the kept rows by its suffix, and the record of a selection in it and beside it."""

import gzip
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_score_resume import digests

import euds
from euds.errors import InputError, InvalidArgument
from euds.files import read_json
from euds.report import write_report
from euds.selection.kept_file import MOST_METADATA, metadata_of
from euds.study.examples import read_examples
from euds.study.types import task_of

Texts = Callable[[int, int], list[str]]
Select = Callable[..., euds.Selection]
BOTH = pytest.mark.parametrize("select", [euds.select, euds.select_streaming])
RULE: dict[str, Any] = {"keep": 5, "rule": "low", "axes": ["surprisal"]}


@pytest.fixture
def dated(tmp_path: Path, make_texts: Texts) -> Path:
    """A run over 30 rows with labels, dates and numbers of which the first is none."""
    rows = {"text": make_texts(30, 1), "label": [at % 2 for at in range(30)], "at": [date(2024, 1, 2)] * 30}
    pq.write_table(pa.table({**rows, "n": [float("nan"), *range(29)]}), tmp_path / "corpus.parquet")
    euds.score(tmp_path / "corpus.parquet", out=tmp_path / "run", measures=["information"], label_field="label")
    return tmp_path / "run"


@BOTH
@pytest.mark.parametrize("suffix", [".jsonl", ".JSONL", ".jsonl.gz"])
def test_json_lines_hold_what_parquet_holds(dated: Path, select: Select, suffix: str) -> None:
    columns = ["text", "label", "at"]
    path, table = dated.parent / f"kept{suffix}", dated.parent / "kept.parquet"
    selection = select(dated, out=path, columns=columns, **RULE)
    select(dated, out=table, columns=columns, **RULE)
    content = path.read_bytes()
    lines = (gzip.decompress(content) if suffix == ".jsonl.gz" else content).decode().splitlines()
    expected = [{**row, "at": "2024-01-02"} for row in pq.read_table(table).to_pylist()]
    assert [json.loads(line) for line in lines] == expected
    assert [row["row_id"] for row in expected] == selection.row_ids.tolist()
    select(dated, out=path, columns=columns, **RULE)
    assert path.read_bytes() == content
    # Fine-tuning and the report read either.
    task = task_of("classification")
    assert read_examples(path, task)[1] == read_examples(table, task)[1]
    page = write_report(dated).read_text().split("Dropped")[0]
    assert all(f"<small>row {at} " in page for at in selection.row_ids)


@BOTH
def test_a_value_without_a_place_in_json_is_named_and_nothing_is_written(dated: Path, select: Select) -> None:
    select(dated, **RULE)
    before = digests(dated)
    with pytest.raises(InputError, match=r"kept.jsonl: kept row 1 has no place in JSON: .*; name a .parquet file"):
        select(dated, keep=1.0, rule="low", axes=["surprisal"], columns=["n"], out=dated / "kept.jsonl")
    assert digests(dated) == before


@BOTH
@pytest.mark.parametrize("name", ["kept.csv", "kept", "kept.jsonl.zst", "kept.arrow"])
def test_another_suffix_is_refused_before_any_work(
    dated: Path, select: Select, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("euds.selection.select.read_scores", lambda *_: pytest.fail("the scores were read"))
    monkeypatch.setattr("euds.selection.streaming.whole_parts", lambda *_: pytest.fail("the scores were read"))
    with pytest.raises(InvalidArgument, match=rf"out: .*{name}: kept rows are .* in .parquet, .jsonl, .jsonl.gz$"):
        select(dated, out=dated.parent / name, **RULE)


@BOTH
def test_each_selection_keeps_its_record(dated: Path, select: Select) -> None:
    usual, mine, other = dated / "selected.parquet", dated.parent / "mine.parquet", dated.parent / "other.jsonl"
    first = select(dated, **RULE).record
    assert [path.name for path in dated.glob("*.selection.json")] == []
    second = select(dated, out=mine, **{**RULE, "keep": 6}).record
    third = select(dated, out=other, **{**RULE, "keep": 7}).record
    assert [next(iter(record)) for record in (first, second, third)] == ["format"] * 3
    assert read_json(dated / "selection.json") == read_json(dated.parent / "other.jsonl.selection.json")
    assert read_json(dated / "selection.json") == json.loads(json.dumps(third))
    assert read_json(dated.parent / "mine.parquet.selection.json") == json.loads(json.dumps(second))
    for path, record in ((usual, first), (mine, second)):
        found = json.loads(pq.read_metadata(path).metadata[b"euds.selection"])
        later = {"seconds", "selected_file", "selected_sha256"}
        assert found == json.loads(json.dumps({name: value for name, value in record.items() if name not in later}))
    content = mine.read_bytes()
    select(dated, out=mine, **{**RULE, "keep": 6})
    assert mine.read_bytes() == content


def test_metadata_stay_small_and_the_same() -> None:
    record = {"rule": "low", "seconds": 1.5, "validated": {"seconds": 2.5, "luck": 0.1}, "keep_rate_by_source": None}
    (text,) = metadata_of(record).values()
    assert json.loads(text) == {"rule": "low", "validated": {"luck": 0.1}, "keep_rate_by_source": None}
    many = {f"source {at}": {"rows": 1, "kept": 1, "rate": 1.0} for at in range(MOST_METADATA // 40)}
    (text,) = metadata_of({"rule": "low", "keep_rate_by_source": many}).values()
    assert json.loads(text) == {"rule": "low"}
