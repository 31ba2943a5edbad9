"""Columns of Parquet and Arrow files: what is not UTF-8 inside nested values, and dictionaries of many texts."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from euds.corpus import columnar, read_rows
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
