"""Columns of nanoseconds: the same ids, labels and kept rows with pandas as without, and no digit lost."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import euds
from euds.corpus import read_scores
from euds.corpus.nanoseconds import arrow_array, python_values

Select = Callable[..., euds.Selection]
BOTH = pytest.mark.parametrize("select", [euds.select, euds.select_streaming])

VALUES = [-1, None, 0, 1, 999, 1000, 1_000_007, 1_000_000_000, 86_399_999_999_999, -86_400_000_000_001, 2**62]


def of_a_day(value: int | None) -> int | None:
    return None if value is None else value % 86_400_000_000_000


COLUMNS: dict[str, pa.Array] = {
    "moment": pa.array(VALUES, pa.timestamp("ns")),
    "zoned": pa.array(VALUES, pa.timestamp("ns", "Europe/Berlin")),
    "span": pa.array(VALUES, pa.duration("ns")),
    "clock": pa.array(map(of_a_day, VALUES), pa.time64("ns")),
}
NESTED: dict[str, pa.Array] = {
    "list": pa.array([[value, 1] for value in VALUES], pa.list_(pa.timestamp("ns"))),
    "pair": pa.array([[value, 1] for value in VALUES], pa.list_(pa.duration("ns"), 2)),
    "object": pa.array([{"at": value} for value in VALUES], pa.struct([("at", pa.timestamp("ns", "UTC"))])),
    "map": pa.array([[("a", value)] for value in VALUES], pa.map_(pa.string(), pa.timestamp("ns"))),
}


def table(**more: pa.Array) -> pa.Table:
    return pa.table({"text": [f"a film of {at}" for at in range(len(VALUES))], **COLUMNS, **more})


def test_texts_have_every_digit() -> None:
    texts = {name: [str(value) for value in python_values(column)] for name, column in COLUMNS.items()}
    assert texts["moment"][:8] == [
        "1969-12-31 23:59:59.999999999",
        "None",
        "1970-01-01 00:00:00",
        "1970-01-01 00:00:00.000000001",
        "1970-01-01 00:00:00.000000999",
        "1970-01-01 00:00:00.000001",
        "1970-01-01 00:00:00.001000007",
        "1970-01-01 00:00:01",
    ]
    assert texts["zoned"][0] == "1970-01-01 00:59:59.999999999+01:00"
    assert texts["zoned"][5] == "1970-01-01 01:00:00.000001+01:00"
    assert texts["span"][:4] == ["-1 day, 23:59:59.999999999", "None", "0:00:00", "0:00:00.000000001"]
    assert texts["clock"][0] == "23:59:59.999999999"
    assert texts["clock"][5:7] == ["00:00:00.000001", "00:00:00.001000007"]


def test_arrow_says_the_same_moments_and_times() -> None:
    for name in ("moment", "clock"):
        # Arrow always writes nine digits.
        expected = COLUMNS[name].cast(pa.string()).to_pylist()
        for text, other in zip(map(str, python_values(COLUMNS[name])), expected, strict=True):
            assert text == str(other) or f"{text}{'' if '.' in text else '.'}".ljust(len(other), "0") == other


def test_whole_microseconds_are_pythons_own_times() -> None:
    found = {name: [type(python_values(column)[at]) for at in (2, 5, 7)] for name, column in COLUMNS.items()}
    kinds = {"moment": datetime, "zoned": datetime, "span": timedelta, "clock": time}
    assert found == {name: [kind] * 3 for name, kind in kinds.items()}
    assert python_values(NESTED["object"])[5] == {"at": datetime(1970, 1, 1, 0, 0, 0, 1, UTC)}


@pytest.mark.parametrize("name", [*COLUMNS, *NESTED])
def test_values_come_back_as_they_were(name: str) -> None:
    column = {**COLUMNS, **NESTED}[name]
    assert arrow_array(python_values(column), column.type).equals(column)
    if name in ("moment", "clock"):
        words = column.dictionary_encode()
        assert arrow_array(python_values(words), column.type).equals(column)


@BOTH
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_ids_labels_and_kept_rows_are_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, select: Select, suffix: str
) -> None:
    monkeypatch.setattr("euds.selection.rows.ROW_GROUP", 4)
    corpus, run_dir, lines = table(**NESTED), tmp_path / "run", tmp_path / "kept.jsonl"
    if suffix == "parquet":
        pq.write_table(corpus, tmp_path / "a.parquet")
    else:
        with pa.ipc.new_file(str(tmp_path / "a.arrow"), corpus.schema) as writer:
            writer.write_table(corpus)
    fields: dict[str, Any] = {"id_field": "moment", "label_field": "span", "source_field": "clock"}
    euds.score(tmp_path / f"a.{suffix}", out=run_dir, measures=["information"], **fields)
    scores = read_scores(run_dir)
    for name, field in (("id", "moment"), ("label", "span"), ("source", "clock")):
        texts = [None if value is None else str(value) for value in python_values(COLUMNS[field])]
        assert scores.column(name).to_pylist() == texts
    arguments: dict[str, Any] = {"keep": 1.0, "rule": "low", "axes": ["information"], "columns": corpus.column_names}
    selection = select(run_dir, **arguments)
    assert selection.record["fields_as_text"] == {}
    kept = pq.read_table(run_dir / "selected.parquet").select(corpus.column_names)
    assert all(kept.column(name).combine_chunks().equals(corpus.column(name).combine_chunks()) for name in NESTED)
    assert kept.cast(corpus.schema).equals(corpus)
    select(run_dir, **arguments, out=lines)
    found = [json.loads(line)["moment"] for line in lines.read_text().splitlines()]
    assert found == scores.column("id").to_pylist()


@BOTH
def test_files_that_disagree_lose_no_digit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, select: Select) -> None:
    monkeypatch.setattr("euds.selection.rows.ROW_GROUP", 2)
    for at, (unit, value) in enumerate((("us", 5), ("ns", 1_000_007))):
        column = pa.array([value] * 4, pa.timestamp(unit))
        pq.write_table(pa.table({"text": ["a film"] * 4, "when": column}), tmp_path / f"{at}.parquet")
    euds.score([tmp_path / "0.parquet", tmp_path / "1.parquet"], out=tmp_path / "run", measures=["information"])
    select(tmp_path / "run", keep=1.0, rule="low", axes=["information"], columns=["when"])
    column = pq.read_table(tmp_path / "run" / "selected.parquet").column("when")
    assert column.cast(pa.string()).to_pylist()[4:] == ["1970-01-01 00:00:00.001000007"] * 4


SCORE_AND_SELECT = """
import sys
import euds
euds.score(sys.argv[1], out=sys.argv[2], measures=["information"], id_field="moment", label_field="span")
euds.select(sys.argv[2], keep=1.0, rule="low", axes=["information"])
"""


def test_pandas_makes_no_difference(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    hiding = tmp_path / "hiding"
    (hiding / "pandas").mkdir(parents=True)
    (hiding / "pandas" / "__init__.py").write_text('raise ImportError("hidden")')
    path, run_dir, other = tmp_path / "a.parquet", tmp_path / "run", tmp_path / "other"
    pq.write_table(table(), path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(hiding), *filter(None, sys.path)])}
    subprocess.run([sys.executable, "-c", SCORE_AND_SELECT, str(path), str(other)], check=True, env=environment)
    euds.score(path, out=run_dir, measures=["information"], id_field="moment", label_field="span")
    euds.select(run_dir, keep=1.0, rule="low", axes=["information"])
    for name in ("scores/part-00000.parquet", "selected.parquet"):
        assert (run_dir / name).read_bytes() == (other / name).read_bytes()
