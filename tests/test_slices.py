"""Slices: cut anywhere and read in any order, they are the corpus."""

import csv
import gzip
import io
import json
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slices import read_slices

from euds.corpus import (
    Row,
    Slice,
    SliceReader,
    columnar,
    columnar_files,
    count_rows,
    cut,
    delimited,
    jsonl,
    list_inputs,
    read_rows,
    splittable,
    streams,
)
from euds.errors import InputError

LINES = [
    b'{"text": "a"}',
    b'{"text": "\xc3\xbc and more", "label": 1}',
    b"",
    b"  \t",
    b"\x0b\r",
    b" {}",
    b'{"text": "\xff"}',
    b'{"text": "no end',
    b"\xef\xbb\xbf[1]",
    b"\0",
    b"\x1c",
    b" " * 70,
    b'{"text": "' + b"long " * 20 + b'"}',
]
FIELDS = [
    b"a",
    b"\xc3\xbc",
    b'"quoted, with comma"',
    b'"two\nlines"',
    b'"three\r\nlines\rhere"',
    b'"a ""quote"""',
    b'in"side',
    b'"open',
    b"\xff",
    b"",
    b"\0",
    b'" "',
    b"long " * 20,
]
BOMS = st.sampled_from([b"", b"\xef\xbb\xbf"])
TEXTS = st.lists(st.sampled_from(["a", "b and c", "", None, "ü" * 40]), max_size=30)

SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def jsonl_content(draw: st.DrawFn) -> bytes:
    lines = draw(st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from([b"\n", b"\r\n"])), max_size=25))
    last = draw(st.sampled_from([b"", b'{"text": "last"}', b" "]))
    return draw(BOMS) + b"".join(line + end for line, end in lines) + last


@st.composite
def csv_content(draw: st.DrawFn) -> bytes:
    records = draw(st.lists(st.lists(st.sampled_from(FIELDS), max_size=3), max_size=25))
    ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
    header = draw(st.sampled_from([b"text,label\n", b'"text",la"bel\r\n', b'"te\nxt"\r', b"\n", b""]))
    return (
        draw(BOMS)
        + header
        + b"".join(b",".join(record) + draw(ends) for record in records)
        + draw(st.sampled_from([b"", b"last"]))
    )


def compressed(content: bytes, suffix: str) -> bytes:
    if suffix == ".gz":
        # Two members, as `cat a.gz b.gz` makes them.
        half = len(content) // 2
        return gzip.compress(content[:half]) + gzip.compress(content[half:])
    if suffix == ".zst":
        return bytes(pa.compress(content, "zstd", asbytes=True))
    return content


def write_columns(path: Path, texts: Sequence[str | None], chunk: int) -> None:
    table = pa.table({"text": pa.array(texts, pa.string()), "row": pa.array(range(len(texts)), pa.int64())})
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=chunk)
        return
    opener = pa.ipc.new_file if path.suffix == ".arrow" else pa.ipc.new_stream
    with opener(str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table, max_chunksize=chunk)


@st.composite
def corpora(draw: st.DrawFn) -> list[tuple[str, bytes | list[str | None], int]]:
    """Draw files as (name, content or texts, rows of a batch)."""
    files: list[tuple[str, bytes | list[str | None], int]] = []
    for at in range(draw(st.integers(1, 4))):
        suffix = draw(st.sampled_from(["", ".gz", ".zst"]))
        kind = draw(st.sampled_from(["jsonl", "csv", "parquet", "arrow", "feather"]))
        if kind == "jsonl":
            files.append((f"{at}.jsonl{suffix}", compressed(draw(jsonl_content()), suffix), 0))
        elif kind == "csv":
            files.append((f"{at}.csv{suffix}", compressed(draw(csv_content()), suffix), 0))
        else:
            files.append((f"{at}.{kind}", draw(TEXTS), draw(st.integers(1, 12))))
    return files


def write_corpus(folder: Path, files: Sequence[tuple[str, bytes | list[str | None], int]]) -> list[Path]:
    paths = []
    for name, content, chunk in files:
        path = folder / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            write_columns(path, content, chunk)
        paths.append(path)
    return paths


@pytest.fixture(params=["real sizes", "tiny sizes"])
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the readers' blocks so small that every row meets the edge of one."""
    if request.param == "tiny sizes":
        monkeypatch.setattr(jsonl, "BLOCK_BYTES", 7)
        monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 60)
        monkeypatch.setattr(delimited, "BUFFER_BYTES", 5)
        monkeypatch.setattr(delimited, "BLOCK_ROWS", 3)
        monkeypatch.setattr(streams, "BUFFER_BYTES", 9)
        monkeypatch.setattr(columnar_files, "BATCH_ROWS", 4)
        monkeypatch.setattr(columnar, "CONVERTED_ROWS", 3)


@given(corpus=corpora(), shard_rows=st.integers(1, 20), data=st.data())
@settings(SHARED, max_examples=150)
@pytest.mark.usefixtures("sizes")
def test_slices_in_any_order_are_the_corpus(
    tmp_path: Path,
    corpus: list[tuple[str, bytes | list[str | None], int]],
    shard_rows: int,
    data: st.DataObject,
) -> None:
    files = write_corpus(tmp_path, corpus)
    rows = list(read_rows(files))
    assert [row.row_id for row in rows] == list(range(len(rows)))
    assert count_rows(files) == len(rows)
    shards = list(cut(files, shard_rows))
    sizes = [sum(piece.n_rows for piece in shard) for shard in shards]
    assert sizes == [min(shard_rows, len(rows) - start) for start in range(0, len(rows), shard_rows)]
    firsts = dict(enumerate(accumulate(sizes, initial=0)))
    found: list[Row] = []
    with SliceReader() as reader:
        for at in data.draw(st.permutations(range(len(shards)))):
            found += reader.read(shards[at], first_row_id=firsts[at])
    assert sorted(found, key=lambda row: row.row_id) == rows
    for at, shard in enumerate(shards):
        sent = [Slice.from_json(json.loads(json.dumps(piece.to_json()))) for piece in shard]
        alone = list(read_slices(sent, first_row_id=firsts[at]))
        assert alone == rows[firsts[at] : firsts[at] + sizes[at]]
    start, stop = data.draw(st.integers(0, len(rows) + 2)), data.draw(st.integers(0, len(rows) + 2))
    assert list(read_rows(files, start=start, stop=stop)) == rows[start:stop]


@given(content=jsonl_content(), suffix=st.sampled_from(["", ".gz", ".zst"]))
@settings(SHARED, max_examples=150)
@pytest.mark.usefixtures("sizes")
def test_json_lines_are_those_between_newlines(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(compressed(content, suffix))
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    expected = [at for at, line in enumerate(lines, 1) if line.strip() or len(line) > jsonl.MAX_LINE_BYTES]
    rows = list(read_rows([path]))
    assert [row.position for row in rows] == expected
    for row in rows:
        if row.fields is not None:
            assert row.fields == json.loads(lines[row.position - 1])
        elif len(lines[row.position - 1]) <= jsonl.MAX_LINE_BYTES:
            with pytest.raises((ValueError, AttributeError)):
                json.loads(lines[row.position - 1].decode()).keys()


@given(content=csv_content(), suffix=st.sampled_from(["", ".gz", ".zst"]))
@settings(SHARED, max_examples=150)
@pytest.mark.usefixtures("sizes")
def test_csv_records_are_those_of_pythons_reader(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(compressed(content, suffix))
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", errors="surrogateescape", newline="")
    header, *records = [values for values in csv.reader(text) if values] or [[]]
    rows = list(read_rows([path]))
    assert [row.position for row in rows] == list(range(1, len(rows) + 1))
    for row, values in zip(rows, records, strict=True):
        if row.fields is not None:
            assert row.fields == dict(zip(header, values, strict=True))
        elif row.error == "a quote is never closed":
            assert row is rows[-1]
            assert b'"' in content
        elif row.error == "not UTF-8":
            assert any("\udc80" <= char <= "\udcff" for char in "".join(values))
        else:
            assert len(values) != len(header)


@given(content=csv_content(), suffix=st.sampled_from(["", ".gz"]))
@settings(SHARED, max_examples=80)
@pytest.mark.usefixtures("sizes")
def test_slices_of_csv_with_records_beyond_the_limit_are_the_corpus(
    tmp_path: Path, content: bytes, suffix: str
) -> None:
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(compressed(b"text,label\n" + content, suffix))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(delimited, "MAX_RECORD_BYTES", 40)
        rows = list(read_rows([path]))
        assert count_rows([path]) == len(rows)
        alone = [list(read_slices(shard, first_row_id=at)) for at, shard in enumerate(cut([path], 1))]
        assert alone == [[row] for row in rows]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_row_as_long_as_the_limit_is_none_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: bytes
) -> None:
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 60)
    monkeypatch.setattr(jsonl, "BLOCK_BYTES", 7)
    monkeypatch.setattr(delimited, "MAX_RECORD_BYTES", 60)
    for name, head, byte, fits in (("a.jsonl", b"", b" ", []), ("a.csv", b"text\n", b"x", [None])):
        path = tmp_path / name
        for size, errors in (
            (60, fits),
            (61, [f"{'line' if name == 'a.jsonl' else 'record'} is longer than 60 bytes"]),
        ):
            path.write_bytes(head + byte * (size - len(end)) + end)
            assert [row.error for row in read_rows([path])] == errors
            assert count_rows([path]) == len(errors)


def numbers(path: Path, n: int) -> Path:
    """Write `n` rows of varying length."""
    texts = [f"row {at} " * (at % 7 + 1) for at in range(n)]
    lines = b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)
    if ".jsonl" in path.name:
        path.write_bytes(compressed(lines, path.suffix))
    elif ".csv" in path.name:
        path.write_bytes(compressed("\n".join(["text", *texts, ""]).encode(), path.suffix))
    else:
        write_columns(path, texts, 100)
    return path


NAMES = ["a.jsonl", "a.csv", "a.parquet", "a.arrow", "a.feather", "a.jsonl.gz", "a.jsonl.zst", "a.csv.gz", "a.csv.zst"]


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_goes_on_where_the_last_slice_ended(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = numbers(tmp_path / name, 5000)
    shards = list(cut([path], 50))
    # So small that a step back is hardly ever within what is held.
    monkeypatch.setattr(streams, "BUFFER_BYTES", 16)
    opened = count_opens(monkeypatch)
    with SliceReader() as reader:
        rows = [row for at, shard in enumerate(shards) for row in reader.read(shard, first_row_id=at * 50)]
    assert rows == list(read_rows([path]))
    assert sum(opened) <= 2


def count_opens(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets an entry whenever a compressed file or an Arrow stream is begun from its beginning."""
    opened: list[int] = []
    restart, stream = streams._Decompressed._restart, columnar_files.ArrowStream.batches

    def counted_restart(self: streams._Decompressed) -> None:
        opened.append(1)
        restart(self)

    def counted_stream(self: columnar_files.ArrowStream, entry: int) -> Iterator[pa.RecordBatch]:
        opened.append(1)
        return stream(self, entry)

    monkeypatch.setattr(streams._Decompressed, "_restart", counted_restart)
    monkeypatch.setattr(columnar_files.ArrowStream, "batches", counted_stream)
    return opened


def test_what_can_be_entered_in_the_middle_is_told(tmp_path: Path) -> None:
    told = {name: splittable(numbers(tmp_path / name, 200)) for name in NAMES}
    assert [name for name in NAMES if told[name]] == ["a.jsonl", "a.csv", "a.parquet", "a.arrow"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_changed_since_it_was_cut_is_named(tmp_path: Path, name: str) -> None:
    path = numbers(tmp_path / name, 5000)
    last = list(cut([path], 50))[-1]
    numbers(path, 4000)
    with pytest.raises(InputError, match=rf"{name}: .* when it was cut"):
        list(read_slices(last, first_row_id=0))
    path.unlink()
    with pytest.raises(InputError, match=rf"{name}: cannot be read"):
        list(read_slices(last, first_row_id=0))


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_file_of_the_same_size_but_fewer_rows_is_named(tmp_path: Path, name: str) -> None:
    path = numbers(tmp_path / name, 500)
    shards = list(cut([path], 50))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\n", b" ").replace(b" ", b"\n", 1))
    for shard in shards[1:]:
        with pytest.raises(InputError, match=rf"{name}: .* cut"):
            list(read_slices(shard, first_row_id=0))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_compressed_file_damaged_in_the_middle_is_named(tmp_path: Path, kind: str, suffix: str) -> None:
    path = numbers(tmp_path / f"a.{kind}{suffix}", 5000)
    shards = list(cut([path], 100))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(bytes(content))
    for read in (lambda: list(cut([path], 100)), lambda: list(read_slices(shards[-1], first_row_id=0))):
        with pytest.raises(InputError, match=rf"a.{kind}{suffix}: damaged (gzip|zstd) file"):
            read()
    path.write_bytes(bytes(content[: len(content) // 2]))
    with pytest.raises(InputError, match=rf"a.{kind}{suffix}: damaged (gzip|zstd) file after"):
        list(read_rows([path]))


def test_only_the_wanted_columns_are_read(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.arrow", "a.feather"):
        [shard] = cut([numbers(tmp_path / name, 3)], 10)
        assert [set(row.fields or {}) for row in read_slices(shard, first_row_id=0, columns=["row"])] == [{"row"}] * 3
    (tmp_path / "a.jsonl").write_text('{"row": 1, "html": "<p>"}\n' * 3)
    (tmp_path / "a.csv").write_text("row,html\n" + "1,<p>\n" * 3)
    for name in ("a.jsonl", "a.csv"):
        [shard] = cut([tmp_path / name], 10)
        assert [set(row.fields or {}) for row in read_slices(shard, first_row_id=0, columns=["row"])] == [{"row"}] * 3


@pytest.mark.parametrize("name", NAMES)
def test_remote_files_are_read_like_local_ones(tmp_path: Path, name: str) -> None:
    from upath import UPath

    local = numbers(tmp_path / name, 300)
    UPath(f"memory://slices/{name}").write_bytes(local.read_bytes())
    for spec in (f"memory://slices/{name}", f"memory://slices/*{name[1:]}", f"memory://sl*/**/{name}"):
        files = list_inputs([spec])
        assert [str(file) for file in files] == [f"memory://slices/{name}"]
    assert list_inputs([f"file://{local}"]) == list_inputs([f"file://{tmp_path}/*"]) == (local,)
    rows = [row for at, shard in enumerate(cut(files, 70)) for row in read_slices(shard, first_row_id=at * 70)]
    assert [row.fields for row in rows] == [row.fields for row in read_rows([local])]
    assert rows == list(read_rows(files))
    with pytest.raises(InputError, match="named twice"):
        list_inputs([*files, str(files[0])])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("memory://nowhere/a.jsonl", "no such file"),
        ("memory://nowhere/*.jsonl", "the pattern matches no file"),
        ("nonsense://a/b.jsonl", "unknown protocol nonsense://"),
        ("s4://a/b.jsonl", "unknown protocol s4://"),
        ("file:///nowhere/a.jsonl", "no such file"),
    ],
)
def test_what_is_no_remote_file_is_named(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list_inputs([spec])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(InputError, match=r"s3://a/b.jsonl: s3:// needs .*\.\[s3\]"):
        list_inputs(["s3://a/b.jsonl"])
