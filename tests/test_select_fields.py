"""Fields of the corpus in the kept rows: their types, and text where no type holds all values."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import euds
from euds.errors import InputError
from euds.selection.summary import summary

WriteJsonl = Callable[..., Path]
Texts = Callable[[int, int], list[str]]
Select = Callable[..., euds.Selection]
BOTH = pytest.mark.parametrize("select", [euds.select, euds.select_streaming])


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


@BOTH
@pytest.mark.parametrize("columns", [None, ["text"], ["text", "label", "sentiment"]])
def test_a_label_of_another_field_takes_no_fields_name(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts, select: Select, columns: list[str] | None
) -> None:
    corpus = [{"text": text, "label": "mine", "sentiment": "good", "source": "web"} for text in make_texts(5, 1)]
    euds.score(write_jsonl(corpus), out=tmp_path / "run", measures=["information"], label_field="sentiment")
    choose(select, tmp_path / "run", columns=columns)
    table = pq.read_table(tmp_path / "run" / "selected.parquet")
    assert table.column("euds_label").to_pylist() == ["good"] * 5
    found = {name: set(table.column(name).to_pylist()) for name in table.column_names if name in corpus[0]}
    copied = columns or (["text", "sentiment"] if select is euds.select_streaming else list(corpus[0]))
    # The scores' source is the field of that name.
    assert found == {name: {row[name] for row in corpus} for name in {*copied, "source"}}


@BOTH
def test_an_id_that_repeats_a_field_stands_there_once(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts, select: Select
) -> None:
    corpus = [{"text": text, "id": at, "uid": f"u{at}"} for at, text in enumerate(make_texts(5, 1))]
    for field, name in (("id", "id"), ("uid", "euds_id")):
        run_dir = tmp_path / field
        euds.score(write_jsonl(corpus), out=run_dir, measures=["information"], id_field=field)
        choose(select, run_dir, columns=["text", "id", "uid"])
        assert ("euds_id" in pq.read_schema(run_dir / "selected.parquet").names) == (field != "id")
        assert list(map(str, kept(run_dir, name))) == [str(row[field]) for row in corpus]


@BOTH
def test_a_field_whose_name_is_empty_is_one_like_others(tmp_path: Path, select: Select) -> None:
    # As pandas writes its index into CSV.
    (tmp_path / "corpus.csv").write_text(",text,label\n7,a b,x\n8,c d,y\n")
    for role in ("id", "label", "source"):
        run_dir = tmp_path / role
        named: dict[str, Any] = {f"{role}_field": ""}
        euds.score(tmp_path / "corpus.csv", out=run_dir, measures=["information"], **named)
        assert euds.read_scores(run_dir).column(role).to_pylist() == ["7", "8"]
        choose(select, run_dir)
        assert kept(run_dir, "") == ["7", "8"]
    (tmp_path / "corpus.csv").write_text("text,label\na b,x\n")
    with pytest.raises(InputError, match="unknown field ''"):
        euds.score(tmp_path / "corpus.csv", out=tmp_path / "run", measures=["information"], label_field="")


TYPED: dict[str, pa.Array] = {
    "uint64": pa.array([2**64 - 1, None, 1], pa.uint64()),
    "int8": pa.array([1, None, 2], pa.int8()),
    "float": pa.array([0.1, None, 2], pa.float32()),
    "decimal": pa.array([Decimal("1.50"), None, Decimal("2.00")], pa.decimal128(10, 2)),
    "map": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    "moment": pa.array([1, None, 2], pa.timestamp("s", "Europe/Berlin")),
    "category": pa.array(["a", None, "b"]).dictionary_encode(),
    "large": pa.array(["a", None, "b"], pa.large_string()),
    "objects": pa.array([[{"a": 1}], None, []], pa.list_(pa.struct([("a", pa.int16()), ("b", pa.float32())]))),
    "nothing": pa.nulls(3),
}


@BOTH
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_columns_keep_the_type_of_their_files(
    tmp_path: Path, make_texts: Texts, monkeypatch: pytest.MonkeyPatch, select: Select, suffix: str
) -> None:
    monkeypatch.setattr("euds.selection.rows.ROW_GROUP", 2)
    files = [tmp_path / f"{at}.{suffix}" for at in range(2)]
    for file in files:
        table = pa.table({"text": make_texts(3, 1), **TYPED})
        if suffix == "parquet":
            pq.write_table(table, file)
        else:
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
    euds.score(files, out=tmp_path / "run", measures=["information"])
    selection = choose(select, tmp_path / "run", columns=["text", *TYPED])
    assert selection.record["fields_as_text"] == {}
    found = pq.read_table(tmp_path / "run" / "selected.parquet")
    # The seconds of a timestamp are milliseconds to Parquet.
    expected = {name: column.type for name, column in TYPED.items()} | {"moment": pa.timestamp("ms", "Europe/Berlin")}
    assert {name: found.schema.field(name).type for name in TYPED} == expected
    assert found.select(list(TYPED)).to_pylist() == 2 * pa.table(TYPED).to_pylist()


@BOTH
def test_files_that_disagree_give_the_type_that_holds_their_values(
    tmp_path: Path, make_texts: Texts, select: Select
) -> None:
    files = [tmp_path / f"{at}.parquet" for at in range(2)]
    for file, kind in zip(files, (pa.int8(), pa.float32()), strict=True):
        pq.write_table(pa.table({"text": make_texts(3, 1), "n": pa.array([1, 2, 3], kind)}), file)
    euds.score(files, out=tmp_path / "run", measures=["information"])
    choose(select, tmp_path / "run", columns=["n"])
    assert kept(tmp_path / "run", "n") == 2 * [1.0, 2.0, 3.0]


@BOTH
@pytest.mark.parametrize("order", [1, -1])
def test_whole_numbers_of_64_bits_of_json_are_numbers(
    tmp_path: Path,
    write_jsonl: WriteJsonl,
    make_texts: Texts,
    monkeypatch: pytest.MonkeyPatch,
    select: Select,
    order: int,
) -> None:
    monkeypatch.setattr("euds.selection.rows.ROW_GROUP", 2)
    values = [1, 2, None, 2**64 - 1][::order]
    corpus = [{"text": text, "hash": value} for text, value in zip(make_texts(4, 1), values, strict=True)]
    euds.score(write_jsonl(corpus), out=tmp_path / "run", measures=["information"])
    choose(select, tmp_path / "run", columns=["text", "hash"])
    assert kept(tmp_path / "run", "hash") == values


@BOTH
@pytest.mark.parametrize("row_group", [64, 200, 8192])
def test_more_categories_than_one_files_type_counts(
    tmp_path: Path, make_texts: Texts, monkeypatch: pytest.MonkeyPatch, select: Select, row_group: int
) -> None:
    monkeypatch.setattr("euds.selection.rows.ROW_GROUP", row_group)
    files = [tmp_path / f"{at}.parquet" for at in range(2)]
    for at, file in enumerate(files):
        names = pa.DictionaryArray.from_arrays(pa.array(range(100), pa.int8()), [f"{at} {n}" for n in range(100)])
        nested = pa.StructArray.from_arrays([names], ["name"])
        pq.write_table(pa.table({"text": make_texts(100, 1), "name": names, "in": nested}), file)
    euds.score(files, out=tmp_path / "run", measures=["information"])
    choose(select, tmp_path / "run", columns=["name", "in"])
    assert kept(tmp_path / "run", "name") == [f"{at} {n}" for at in range(2) for n in range(100)]
    table = pq.read_table(tmp_path / "run" / "selected.parquet").combine_chunks()
    assert table.column("name").to_pylist() == [each["name"] for each in table.column("in").to_pylist()]
    assert len(set(table.column("name").to_pylist())) == 200


def test_a_field_whose_name_cannot_be_written_is_named(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts
) -> None:
    corpus: list[dict[str, object]] = [{"text": text} for text in make_texts(4, 1)]
    corpus[2]["\ud801k"] = 1
    euds.score(write_jsonl(corpus), out=tmp_path / "run", measures=["information"])
    with pytest.raises(InputError, match=r"corpus.jsonl, row 3: the name of field '\\ud801k' .* --columns") as raised:
        choose(euds.select, tmp_path / "run")
    str(raised.value).encode()
    assert not (tmp_path / "run" / "selected.parquet").exists()
    for select in (euds.select, euds.select_streaming):
        choose(select, tmp_path / "run", columns=["text"])
        for columns, message in ((["\ud801k"], r"field '\\ud801k': the name holds lone"), (["txt"], "unknown field")):
            with pytest.raises(InputError, match=message) as raised:
                choose(select, tmp_path / "run", columns=columns)
            str(raised.value).encode()


def test_a_type_that_parquet_lacks_is_json(tmp_path: Path, make_texts: Texts) -> None:
    spans = pa.array([pa.MonthDayNano([1, 2, 3])] * 3)
    table = pa.table({"text": make_texts(3, 1), "span": spans})
    with pa.ipc.new_file(tmp_path / "corpus.arrow", table.schema) as writer:
        writer.write_table(table)
    euds.score(tmp_path / "corpus.arrow", out=tmp_path / "run", measures=["information"])
    choose(euds.select, tmp_path / "run")
    assert [json.loads(str(span)) for span in kept(tmp_path / "run", "span")] == [[1, 2, 3]] * 3
