"""Files that begin in an unusual way: empty, with blank lines, in UTF-16 or with a long zstd window."""

from pathlib import Path

import pyarrow as pa
import pytest
from slices import read_slices

from euds.corpus import check_fields, check_inputs, cut, field_names, read_rows
from euds.errors import InputError


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_zstd_window_that_is_too_long_to_be_read_is_no_damage(tmp_path: Path, kind: str) -> None:
    content = b'{"text": "a"}\n' if kind == "jsonl" else b"text\na\n"
    # A frame with a window of 2 GiB, as of `zstd --long=31`, and one raw block, the last.
    block = (len(content) << 3 | 1).to_bytes(3, "little") + content
    path = tmp_path / f"a.{kind}.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd\x00" + bytes([31 - 10 << 3]) + block)
    with pytest.raises(InputError, match=rf"a.{kind}.zst: a zstd file with a window .* 128 MiB .* zstd -d --long=31"):
        check_inputs([path])
    path.write_bytes(b"\x28\xb5\x2f\xfd\x00" + bytes([27 - 10 << 3]) + block)
    check_inputs([path])


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n\r\n"])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.zst", "a.jsonl"])
def test_a_file_without_rows_is_passed_over(tmp_path: Path, name: str, content: bytes) -> None:
    empty, rows = tmp_path / name, tmp_path / "rows.csv"
    kind = {"gz": "gzip", "zst": "zstd"}.get(name.rpartition(".")[2])
    empty.write_bytes(pa.compress(content, kind, asbytes=True) if kind and content else content)
    rows.write_text("text,label\na,1\nb,2\n")
    with pytest.raises(InputError, match=rf"{name}: the corpus is empty"):
        check_inputs([empty])
    files = [empty, rows, empty]
    check_inputs(files)
    check_fields(files, ["text", "label"])
    assert field_names(files) == ("text", "label")
    assert [row.fields for row in read_rows(files)] == [{"text": "a", "label": "1"}, {"text": "b", "label": "2"}]
    assert [[piece.file for piece in shard] for shard in cut(files, 1)] == [[str(rows)]] * 2


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("blank", [b"\n", b"\r\n\r\n", b"\n\r\n\n"])
def test_blank_lines_before_a_header_are_skipped(tmp_path: Path, mark: bytes, blank: bytes) -> None:
    path = tmp_path / "a.csv"
    records = [b"text,label\n", b"a,1\n", b'"b\nb",2\n', b"c,3\n"]
    path.write_bytes(mark + blank + b"".join(records))
    check_inputs([path])
    rows = list(read_rows([path]))
    assert [row.fields for row in rows] == [
        {"text": text, "label": label} for text, label in (("a", "1"), ("b\nb", "2"), ("c", "3"))
    ]
    assert [row.position for row in rows] == [1, 2, 3]
    shards = [shard for (shard,) in cut([path], 1)]
    head = len(mark + blank)
    assert [shard.start for shard in shards] == [head + len(b"".join(records[:at])) for at in (1, 2, 3)]
    assert [list(read_slices([shard], first_row_id=at)) for at, shard in enumerate(shards)] == [[row] for row in rows]
    assert list(read_rows([path], start=1)) == rows[1:]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.jsonl.gz"])
def test_utf16_is_told_to_be_converted(tmp_path: Path, name: str, encoding: str) -> None:
    content = ("\ufefftext,label\na,1\n" if "csv" in name else '\ufeff{"text": "a"}\n').encode(encoding)
    (tmp_path / name).write_bytes(pa.compress(content, "gzip", asbytes=True) if name.endswith(".gz") else content)
    with pytest.raises(InputError, match=rf"{name}: is UTF-16; convert it to UTF-8, such as by iconv"):
        check_inputs([tmp_path / name])


def test_a_first_row_that_begins_like_utf16_is_one_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xff\xfe{"text": "a"}\n{"text": "b"}\n')
    check_inputs([path])
    assert [row.error for row in read_rows([path])] == ["not UTF-8: invalid start byte", None]
