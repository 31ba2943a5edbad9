"""JSON lines, plain or gzipped: one object a line; blank lines are no rows."""

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from euds.corpus.raw import RawRow
from euds.errors import InputError

MAX_LINE_BYTES = 1 << 26
"""A longer line is a bad row: no text is so long, and a file without newlines must not fill the memory."""

SAMPLE_ROWS = 1000
"""Good rows looked at to learn the field names."""

BOM = b"\xef\xbb\xbf"


def rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[RawRow]:
    """Yield the rows of a file; `columns` is not needed, as a line is parsed whole."""
    for number, line in _lines(path):
        if len(line) > MAX_LINE_BYTES:
            yield RawRow(number, None, f"line is longer than {MAX_LINE_BYTES} bytes")
        else:
            yield _parse(number, line)


def count(path: Path) -> int:
    """Count the rows of a file, bad ones included."""
    return sum(1 for _ in _lines(path))


def field_names(path: Path) -> tuple[str, ...]:
    """Return the fields of the first good rows, in order of first appearance."""
    names: dict[str, None] = {}
    good = 0
    for row in rows(path):
        if row.fields is not None:
            names.update(dict.fromkeys(row.fields))
            good += 1
        if good == SAMPLE_ROWS:
            break
    return tuple(names)


def check(path: Path) -> None:
    """Open the file and read its first line.

    Raises:
        InputError: it cannot be opened or decompressed.
    """
    next(_lines(path), None)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield numbered lines that are not blank; a line above the limit is yielded cut, one byte above it."""
    number = 0
    try:
        with _open(path) as handle:
            while line := handle.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    _skip_line(handle, line)
                if number == 1:
                    line = line.removeprefix(BOM)
                if line.strip():
                    yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: damaged gzip file after line {number}: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _open(path: Path) -> BinaryIO | gzip.GzipFile:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")


def _skip_line(handle: BinaryIO | gzip.GzipFile, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = handle.readline(MAX_LINE_BYTES)


def _parse(number: int, line: bytes) -> RawRow:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return RawRow(number, None, f"not UTF-8: {error.reason}")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return RawRow(number, None, f"not JSON: {error.msg}")
    except RecursionError:
        return RawRow(number, None, "not JSON that can be read: nested too deeply")
    except ValueError as error:
        # An integer of thousands of digits.
        return RawRow(number, None, f"not JSON that can be read: {str(error).partition(';')[0]}")
    if not isinstance(value, dict):
        return RawRow(number, None, f"not a JSON object but {type(value).__name__}")
    return RawRow(number, value, None)
