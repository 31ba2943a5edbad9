"""CSV with a header line; quoted values may hold newlines, and every value is text."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from euds.corpus.raw import Marks, RawRow
from euds.corpus.streams import BUFFER_BYTES, READ_ERRORS, compression, open_stream, unreadable
from euds.errors import InputError

MAX_FIELD_CHARS = 1 << 26
"""Longest value read; Python's own limit of 131,072 characters is too short for documents."""

BLOCK_ROWS = 4096
"""Rows marked at a time."""

BOM = b"\xef\xbb\xbf"


class Source:
    """An open file behind its header."""

    def __init__(self, path: Path, columns: Sequence[str] | None) -> None:
        """Open a file and read its header; `columns` is not needed, as a line is parsed whole.

        Raises:
            InputError: it cannot be opened, or its header cannot be read.
        """
        csv.field_size_limit(MAX_FIELD_CHARS)
        self._path = path
        try:
            self._handle = open_stream(path)
        except READ_ERRORS as error:
            raise unreadable(path, "row 0", error) from error
        try:
            begin = len(BOM) if self._handle.read(len(BOM)) == BOM else 0
            self._lines = _Lines(self._handle, begin)
            self.header = tuple(next(csv.reader(self._lines), ()))
        except csv.Error as error:
            self.close()
            raise InputError(f"{path}: not CSV: {error}") from error
        except READ_ERRORS as error:
            self.close()
            raise unreadable(path, "row 0", error) from error
        self._first = self._lines.at

    def rows(self, start: int = 0, position: int = 1) -> Iterator[RawRow]:
        """Yield the rows from the record whose first line is at byte `start` on."""
        for _, number, values in self.records(start, position):
            if not _is_text(values):
                yield RawRow(number, None, "not UTF-8")
            elif len(values) != len(self.header):
                yield RawRow(number, None, f"{len(values)} values, but the header has {len(self.header)}")
            else:
                yield RawRow(number, dict(zip(self.header, values, strict=True)), None)

    def records(self, start: int = 0, position: int = 1) -> Iterator[tuple[int, int, list[str]]]:
        """Yield byte offset, number and values of every record; bytes that are no UTF-8 are surrogates for now."""
        number = position - 1
        try:
            if self._lines.at != max(start, self._first):
                self._lines = _Lines(self._handle, max(start, self._first))
            begin = self._lines.at
            for values in csv.reader(self._lines):
                if values:
                    number += 1
                    yield begin, number, values
                begin = self._lines.at
        except csv.Error as error:
            raise InputError(f"{self._path}: not CSV after row {number}: {error}") from error
        except READ_ERRORS as error:
            raise unreadable(self._path, f"row {number}", error) from error

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


def marks(path: Path) -> Iterator[Marks]:
    """Yield byte offset and number of every row, bad ones included; the header is none."""
    source = Source(path, None)
    begins: list[int] = []
    number = 0
    try:
        for begin, number, _ in source.records():
            begins.append(begin)
            if len(begins) == BLOCK_ROWS:
                yield begins, range(number - len(begins) + 1, number + 1)
                begins = []
    finally:
        source.close()
    yield begins, range(number - len(begins) + 1, number + 1)


def splittable(path: Path) -> bool:
    """Whether a row can be reached without reading what is before it."""
    return compression(path) is None


def field_names(path: Path) -> tuple[str, ...]:
    """Return the names in the header."""
    source = Source(path, None)
    source.close()
    return source.header


def check(path: Path) -> None:
    """Read the header.

    Raises:
        InputError: there is none, or a name stands in it twice.
    """
    header = field_names(path)
    if not header:
        raise InputError(f"{path}: no header line")
    if len(set(header)) < len(header):
        raise InputError(f"{path}: a name stands twice in the header: {', '.join(header)}")


def _is_text(values: Sequence[str]) -> bool:
    """Whether no value holds one of the surrogates that stand for bytes that are no UTF-8."""
    try:
        "".join(values).encode()
    except UnicodeEncodeError:
        return False
    return True


class _Lines:
    """The lines of a file from an offset on, ended by \\n, \\r or \\r\\n; `at` is where the next one begins."""

    def __init__(self, handle: BinaryIO, at: int) -> None:
        handle.seek(at)
        self.at = at
        self._lines = _split(handle)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.at += len(line)
        return line.decode("utf-8", "surrogateescape")


def _split(handle: BinaryIO) -> Iterator[bytes]:
    rest = b""
    while chunk := handle.readline(BUFFER_BYTES):
        lines = (rest + chunk).splitlines(keepends=True)
        # Where the chunk was cut, its last line may go on, if only by the \n of a \r\n.
        rest = b"" if chunk.endswith(b"\n") else lines.pop()
        yield from lines
    if rest:
        yield rest
