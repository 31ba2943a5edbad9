"""Readers: every format, every kind of bad row, and files damaged at any byte."""

import csv
import errno
import gzip
import io
import json
import os
import re
import sys
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from euds.corpus import (
    Row,
    check_fields,
    check_inputs,
    columnar,
    columnar_files,
    count_rows,
    delimited,
    extract_scalar,
    extract_text,
    field_names,
    list_inputs,
    open_manifest,
    read_rows,
    take_rows,
)
from euds.errors import InputError

ROWS = [{"text": f'line {at}, with "quotes"\nand a second line — ü', "label": str(at % 2)} for at in range(2500)]


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".jsonl":
        path.write_text(lines)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines.encode()))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=700)
    else:
        table = pa.Table.from_pylist(rows)
        opener = pa.ipc.new_file if path.suffix == ".arrow" else pa.ipc.new_stream
        with opener(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=700)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.parquet", "a.arrow", "stream.feather"])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    files = list_inputs([write(tmp_path / name, ROWS)])
    check_inputs(files)
    assert [dict(row.fields or {}) for row in read_rows(files)] == ROWS
    assert [row.row_id for row in read_rows(files, start=1020, stop=1030)] == list(range(1020, 1030))
    assert next(read_rows(files, start=2499)).fields == ROWS[2499]
    assert count_rows(files) == len(ROWS)
    assert field_names(files) == ("text", "label")
    assert take_rows(files, [7, 2400, 3]) == [ROWS[7], ROWS[2400], ROWS[3]]


def test_many_files_are_one_corpus_with_running_ids(tmp_path: Path) -> None:
    write(tmp_path / "b.parquet", ROWS[:10])
    write(tmp_path / "a.jsonl", ROWS[10:15])
    write(tmp_path / "c.csv", ROWS[15:20])
    files = list_inputs([f"{tmp_path}/*"])
    assert [file.name for file in files] == ["a.jsonl", "b.parquet", "c.csv"]
    rows = list(read_rows(files))
    assert [row.row_id for row in rows] == list(range(20))
    assert [dict(row.fields or {}) for row in rows] == [*ROWS[10:15], *ROWS[:10], *ROWS[15:20]]
    assert [row.row_id for row in read_rows(files, start=14, stop=17)] == [14, 15, 16]
    assert [row.position for row in read_rows(files, start=14, stop=17)] == [10, 1, 2]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "no end', "not JSON"),
        (b'"just text"', "not a JSON object but str"),
        (b"[1]", "not a JSON object but list"),
        (b'{"text": "\xff\xfe"}', "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"text": ' + b"9" * 5000 + b"}", "not JSON that can be read"),
        (b"{}", "field 'text' is missing"),
        (b'{"text": null}', "field 'text' is null"),
        (b'{"text": 5}', "field 'text' is int, not text"),
        (b'{"text": ["a"]}', "field 'text' is list, not text"),
        (b'{"text": " \\t\\n "}', "field 'text' is empty"),
        (b'{"text": "a\\u0000b"}', "field 'text' holds NUL bytes"),
        (b'{"text": "\\ud800"}', "field 'text' holds lone surrogates"),
    ],
)
def test_a_bad_line_has_its_reason_and_spoils_no_other(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "first"}\n\n' + line + b'\n{"text": "last"}')
    texts = [extract_text(row, ["text"]) for row in read_rows([path])]
    assert [text for text, _ in texts] == ["first", None, "last"]
    assert reason in str(texts[1][1])
    assert [row.position for row in read_rows([path])] == [1, 3, 4]


def test_integers_that_are_too_long_have_one_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(b'{"text": ' + b"9" * digits + b"}\n" for digits in (5000, 6000)))
    first, second = read_rows([path])
    assert first.error == second.error


def test_pairs_are_joined_and_need_both_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"q": "why", "c": "because"}\n{"q": "why"}\n')
    found = [extract_text(row, ["q", "c"]) for row in read_rows([path])]
    assert found == [("why\nbecause", None), (None, "field 'c' is missing")]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    for name, content in (("a.jsonl", '{"text": "x"}\n'), ("a.csv", "text\nx\n")):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content.encode())
        assert [row.fields for row in read_rows([tmp_path / name])] == [{"text": "x"}]


def test_csv_rows_of_another_width_or_encoding_are_bad(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'text,label\ngood,1\nshort\n"a\xffb",2\n"long ' + b"x" * 200_000 + b'",3\n')
    rows = list(read_rows([path]))
    assert [row.error for row in rows] == [None, "1 values, but the header has 2", "not UTF-8", None]


def test_a_quote_that_is_never_closed_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"closed\nlater",1\nin"side,2\n"open,3\nfoo,4\nbar,5\n')
    rows = list(read_rows([path]))
    assert [row.error for row in rows] == [None, None, "a quote is never closed"]
    assert count_rows([path]) == 3


def test_a_csv_record_beyond_the_limit_is_a_bad_row_and_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "MAX_RECORD_BYTES", 50)
    monkeypatch.setattr(delimited, "BUFFER_BYTES", 8)
    path = tmp_path / "a.csv"
    path.write_bytes(b"text\nfirst\n" + b"x" * 1000 + b'\nsecond\n"' + b"open line\n" * 6 + b"last\n")
    rows = list(read_rows([path]))
    long = "record is longer than 50 bytes"
    found = [row.error or (row.fields or {})["text"] for row in rows]
    assert found == ["first", long, "second", long, "open line", "last"]
    assert list(read_rows([path], start=3)) == rows[3:]


@pytest.mark.parametrize("limit", [1 << 20, 1 << 12])
def test_a_long_line_is_split_once_and_held_up_to_the_limit(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(delimited, "MAX_RECORD_BYTES", limit)
    monkeypatch.setattr(delimited, "BUFFER_BYTES", 100)
    content = b"x" * (1 << 18) + b"\r\nnext"
    (line, size), following = delimited._split(io.BytesIO(content))
    assert size == len(content) - 4
    assert len(line) <= min(size, limit + 200)
    assert following == (b"next", 4)


def test_a_parquet_text_that_is_not_utf8_is_a_bad_row(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"\xff\xfe", None], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    pq.write_table(pa.table({"text": text}), tmp_path / "a.parquet")
    found = [extract_text(row, ["text"]) for row in read_rows([tmp_path / "a.parquet"])]
    assert [text for text, _ in found] == ["good", None, None]
    assert "not UTF-8" in str(found[1][1])


def test_a_value_without_a_counterpart_in_python_is_a_bad_row(tmp_path: Path) -> None:
    far = pa.array([0, 2**62], pa.timestamp("us"))
    texts = pa.Array.from_buffers(pa.string(), 2, pa.array([b"good", b"\xff"], pa.binary()).buffers())
    words = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), texts)
    for column, reason in ((far, "that Python cannot hold"), (words, "not UTF-8")):
        pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
        first, second = read_rows([tmp_path / "a.parquet"])
        assert first.error is None
        assert reason in str(second.error)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("12345678901234567890.50"), "12345678901234567890.50"),
        (date(2020, 2, 29), "2020-02-29"),
        (datetime(2020, 2, 29, 1, 2, 3), "2020-02-29 01:02:03"),
        (time(1, 2, 3), "01:02:03"),
        (timedelta(days=1, seconds=1), "1 day, 0:00:01"),
        (b"caf\xc3\xa9", "caf\u00e9"),
        (b"caf\xe9", None),
        (7, "7"),
        (["nested"], None),
        (float("nan"), None),
        (float("inf"), "inf"),
        (None, None),
    ],
)
def test_an_id_of_a_column_of_any_type_is_text(tmp_path: Path, value: object, expected: str | None) -> None:
    pq.write_table(pa.table({"text": ["a"], "id": [value]}), tmp_path / "a.parquet")
    (row,) = read_rows([tmp_path / "a.parquet"])
    assert extract_scalar(row, "id") == expected


def test_a_uuid_is_text() -> None:
    assert extract_scalar(Row(0, "a", 1, {"id": UUID(int=7)}), "id") == "00000000-0000-0000-0000-000000000007"


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), path)
    with pytest.raises(InputError, match="two columns have the same name"):
        check_inputs([path])


def test_what_is_no_input_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS[:3])
    (tmp_path / "a.txt").write_text("x")
    for inputs, message in (
        ([tmp_path / "b.jsonl"], "no such file"),
        ([f"{tmp_path}/*.csv"], "matches no file"),
        ([tmp_path], "is a folder"),
        ([tmp_path / "a.txt"], "unknown format; known suffixes: .jsonl"),
        ([path, path], "named twice"),
        ([], "no input"),
    ):
        with pytest.raises(InputError, match=message):
            list_inputs(inputs)
    with pytest.raises(InputError, match=r"unknown field 'txt' \(did you mean 'text'\?\); fields: text, label"):
        check_fields([path], ["txt"])


@pytest.mark.parametrize(
    ("name", "reason"), [("x" * 300 + ".jsonl", "File name too long"), ("x" * 300 + "*", "too long")]
)
def test_a_name_that_the_system_refuses_is_named(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        list_inputs([tmp_path / name])


def test_what_may_not_be_looked_at_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.stat", refuse)
    for spec in (tmp_path / "a.jsonl", f"{tmp_path}/*.jsonl"):
        with pytest.raises(InputError, match=rf"^{re.escape(str(spec))}: Permission denied$"):
            list_inputs([spec])
    with pytest.raises(InputError, match=r"run/manifest\.json: Permission denied$"):
        open_manifest(tmp_path / "run")


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="`**` beside other signs is like `*` from Python 3.13 on")
def test_a_pattern_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\*\*\.jsonl: Invalid pattern"):
        list_inputs([tmp_path / "a**.jsonl"])


def test_a_glob_matches_hidden_names_only_where_it_has_a_dot(tmp_path: Path) -> None:
    for name in ("a.jsonl", ".b.jsonl", ".checkpoints/a.jsonl", "in/.checkpoints/c.jsonl", "in/d.jsonl"):
        (tmp_path / ".home" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ".home" / name).write_text("{}\n")

    def found(pattern: str) -> list[str]:
        return [str(path.relative_to(tmp_path / ".home")) for path in list_inputs([f"{tmp_path}/.home/{pattern}"])]

    assert found("**/*.jsonl") == ["a.jsonl", "in/d.jsonl"]
    assert found(".*.jsonl") == [".b.jsonl"]
    assert found(".check*/*.jsonl") == [".checkpoints/a.jsonl"]


def test_a_glob_enters_no_link_and_a_glob_of_its_own_does(tmp_path: Path) -> None:
    for name in ("tree/a", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
        write(tmp_path / name / "1.jsonl", ROWS[:1])
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "elsewhere")
    inside = tmp_path / "tree" / "a" / "1.jsonl"
    assert list_inputs([f"{tmp_path}/tree/**/*.jsonl"]) == (inside,)
    linked = tmp_path / "tree" / "link" / "1.jsonl"
    assert list_inputs([f"{tmp_path}/tree/**/*.jsonl", f"{tmp_path}/tree/link/*.jsonl"]) == (inside, linked)


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jsonl"))
    path.write_text('{"text": "a"}\n')
    for spec in (path, f"{tmp_path}/*.jsonl"):
        with pytest.raises(InputError, match=r"caf\\udce9\.jsonl: the file's name is not UTF-8; rename it"):
            list_inputs([spec])


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.parquet"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith(".gz") else b"")
    with pytest.raises(InputError, match=name):
        check_inputs(list_inputs([tmp_path / name]))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.parquet", "a.arrow"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path: Path, name: str, share: float) -> None:
    path = write(tmp_path / name, ROWS)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=name):
        list(read_rows([path]))


def test_a_stream_that_is_cut_between_batches_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "stream.arrow"
    content = io.BytesIO()
    table = pa.Table.from_pylist(ROWS[:20])
    with pa.ipc.new_stream(content, table.schema) as writer:
        ends = []
        for at in (0, 10):
            writer.write_table(table.slice(at, 10))
            ends.append(content.tell())
    whole = content.getvalue()
    path.write_bytes(whole)
    assert len(list(read_rows([path]))) == count_rows([path]) == 20
    for end in (*ends, *range(ends[-1] + 1, len(whole))):
        path.write_bytes(whole[:end])
        for read in (lambda: list(read_rows([path])), lambda: count_rows([path])):
            with pytest.raises(InputError, match=r"stream\.arrow: not a readable Arrow file"):
                read()


def test_batches_of_parquet_are_cut_by_bytes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columnar_files, "BATCH_BYTES", 62_000)
    path = tmp_path / "a.parquet"
    rows = [{"text": f"{at}" + "x" * 990, "other": {"text": f"{at}" + "y" * 5000}} for at in range(100)]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=50, use_dictionary=False)
    for columns in (["text"], None, ["none"]):
        source = columnar.Source(path, columns)
        assert max(batch.num_rows for batch in source._file.batches(0)) == 10
        source.close()
    assert [row.fields for row in read_rows([path])] == rows


def outcome(path: Path) -> list[Row] | str:
    """Return a file's rows, or the one error that reading it may raise."""
    try:
        return list(read_rows([path]))
    except InputError as error:
        return str(error)


@given(content=st.binary(max_size=300))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "a.arrow", "a.jsonl.gz"])
def test_any_bytes_give_rows_or_one_clear_error(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    found = outcome(path)
    if isinstance(found, str):
        assert name in found
        return
    assert len(found) == count_rows([path])
    for row in found:
        text, reason = extract_text(row, ["text"])
        assert (text is None) != (reason is None)


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl.gz"])
def test_flipped_bytes_give_rows_or_one_clear_error(tmp_path: Path, name: str, data: st.DataObject) -> None:
    path = write(tmp_path / name, ROWS[:40])
    content = bytearray(path.read_bytes())
    for _ in range(3):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    found = outcome(path)
    if isinstance(found, str):
        assert name in found
    else:
        for row in found:
            text, reason = extract_text(row, ["text"])
            assert (text is None) != (reason is None)


def test_rows_that_are_gone_are_named(write_jsonl: Callable[..., Path]) -> None:
    path = write_jsonl([{"text": "a"}])
    with pytest.raises(InputError, match="row 5 is not in"):
        take_rows([path], [0, 5])
