"""Columns of Parquet and Arrow files: what is not UTF-8 or that Python cannot hold, and dictionaries of many texts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import euds
from euds.corpus import columnar, read_rows, read_scores, take_rows
from euds.errors import InputError

TEXTS = pa.array([b"a", b"b", b"\xff", b"c", b"d", b"e"], pa.binary()).view(pa.string())
PAIRS = pa.array([0, 2, 4, 6], pa.int32())
WORDS = pa.DictionaryArray.from_arrays(pa.array(range(6), pa.int32()), TEXTS)
NESTED: dict[str, Any] = {
    "list": pa.ListArray.from_arrays(PAIRS, TEXTS),
    "large_list": pa.LargeListArray.from_arrays(PAIRS.cast(pa.int64()), TEXTS),
    "fixed_size_list": pa.FixedSizeListArray.from_arrays(TEXTS, 2),
    "list_view": pa.ListViewArray.from_arrays(PAIRS[:3], pa.array([2, 2, 2], pa.int32()), TEXTS),
    "struct": pa.StructArray.from_arrays([TEXTS.take(pa.array([0, 2, 4])), PAIRS[:3]], ["word", "at"]),
    "map": pa.MapArray.from_arrays(PAIRS, pa.array(list("klmnop")), TEXTS),
    "lists": pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), pa.ListArray.from_arrays(PAIRS, TEXTS)),
    "list_of_dictionary": pa.ListArray.from_arrays(PAIRS, WORDS),
}


def write(path: Path, table: pa.Table) -> Path:
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    return path


@pytest.mark.parametrize("kind", list(NESTED))
def test_a_nested_text_that_is_not_utf8_spoils_its_own_row(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "a.arrow", pa.table({"text": ["x", "y", "z"], "tags": NESTED[kind]}))
    first, second, third = read_rows([path])
    assert second.error == "field 'tags' is not UTF-8: invalid start byte"
    assert first.error is third.error is None
    assert first.fields is not None
    assert first.fields["tags"] == NESTED[kind][0].as_py()
    assert [row.error for row in read_rows([path], columns=["text"])] == [None, None, None]


def test_a_dictionary_is_checked_once_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = pa.array([f"film {at}" for at in range(500)])
    column = pa.DictionaryArray.from_arrays(pa.array(range(500), pa.int32()), words)
    path = write(tmp_path / "a.arrow", pa.table({"text": column, "plain": words}))
    checked: list[int] = []
    real = columnar._as_bytes

    def counted(array: pa.Array) -> pa.Array:
        checked.append(len(array))
        return real(array)

    monkeypatch.setattr(columnar, "_as_bytes", counted)
    assert [row.fields for row in read_rows([path])] == [{"text": word, "plain": word} for word in words.to_pylist()]
    assert checked == [500] + [64] * 7 + [52]


@pytest.mark.parametrize("index", [2, -1])
def test_an_index_that_a_dictionary_does_not_have_is_refused(tmp_path: Path, index: int) -> None:
    indices = pa.array([0] * 99 + [index], pa.int32())
    column = pa.DictionaryArray.from_arrays(indices, pa.array(["a", "b"]), safe=False)
    path = write(tmp_path / "a.arrow", pa.table({"text": column}))
    with pytest.raises(InputError, match=r"a.arrow: not a readable Arrow file: "):
        list(read_rows([path]))


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_carried_value_that_cannot_be_read_is_null_and_its_row_is_scored(tmp_path: Path, suffix: str) -> None:
    path, run_dir = tmp_path / f"a.{suffix}", tmp_path / "run"
    table = pa.table(
        {
            "text": pa.array([b"a film", b"a film too", b"\xff", b"one more"]).view(pa.string()),
            "label": pa.array([b"good", b"\xff", b"bad", b"bad"]).view(pa.string()),
            "source": pa.array([1, 2, 3, 4], pa.timestamp("us", tz="Nowhere/At_all")),
            "uid": pa.array([0, 2**62, 2**62, 1], pa.timestamp("us")),
        }
    )
    if suffix == "parquet":
        pq.write_table(table, path)
    else:
        write(path, table)
    euds.score(path, out=run_dir, measures=["information"], id_field="uid")
    scores = read_scores(run_dir)
    assert scores.column("label").to_pylist() == ["good", None, None, "bad"]
    assert scores.column("source").to_pylist() == [None] * 4
    assert scores.column("id").to_pylist() == ["1970-01-01 00:00:00", None, None, "1970-01-01 00:00:00.000001"]
    assert scores.column("information_entropy_nats").is_valid().to_pylist() == [True, True, False, True]
    (bad,) = map(json.loads, (run_dir / "quarantine.jsonl").read_text().splitlines())
    assert (bad["row_id"], bad["reason"]) == (2, "field 'text' is not UTF-8: invalid start byte")


def test_a_field_that_is_text_and_label_at_once_costs_its_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.arrow", pa.table({"text": pa.array([b"a film", b"\xff"]).view(pa.string())}))
    assert euds.score(path, out=tmp_path / "run", measures=["information"], label_field="text").n_quarantined == 1


@pytest.mark.parametrize("select", [euds.select, euds.select_streaming])
def test_who_copies_a_value_that_cannot_be_read_refuses_its_row(
    tmp_path: Path, make_texts: Callable[[int, int], list[str]], select: Callable[..., euds.Selection]
) -> None:
    labels = pa.array([b"good", b"\xff", *[b"bad"] * 28]).view(pa.string())
    path = write(tmp_path / "a.arrow", pa.table({"text": make_texts(30, 1), "label": labels}))
    euds.score(path, out=tmp_path / "run", measures=["information"])
    with pytest.raises(InputError, match=r"a.arrow, row 2: field 'label' is not UTF-8: .*; leave such a field out"):
        take_rows([path], [0, 1])
    with pytest.raises(InputError, match=r"a.arrow, row 2: field 'label' is not UTF-8: .*; leave such a field out"):
        select(tmp_path / "run", keep=1.0, rule="low", axes=["surprisal"], columns=["text", "label"])
    select(tmp_path / "run", keep=1.0, rule="low", axes=["surprisal"], columns=["text"])
    assert pq.read_table(tmp_path / "run" / "selected.parquet").num_rows == 30
