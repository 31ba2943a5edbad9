"""CSV with a header line; quoted values may hold newlines, and every value is text."""

import csv
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from euds.corpus.raw import Marks, RawRow
from euds.corpus.streams import BUFFER_BYTES, READ_ERRORS, compression, in_utf16, open_stream, unreadable
from euds.errors import InputError

MAX_RECORD_BYTES = 1 << 26
"""A longer record is a bad row, as a longer line of JSON is; reading goes on with the line behind the limit."""

BLOCK_ROWS = 4096
"""Rows marked at a time."""

OTHER_SEPARATORS = (";", "\t", "|")
"""What some programs separate fields by."""

BOM = b"\xef\xbb\xbf"

UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class Source:
    """An open file behind its header."""

    def __init__(self, path: Path, columns: Sequence[str] | None, optional: Collection[str] = ()) -> None:
        """Open a file and read its header; the others are not needed, as a line is parsed whole, or not at all.

        A file that is empty but for blank lines has an empty header, and no rows.

        Raises:
            InputError: it cannot be opened, its header cannot be read, or it is UTF-16.
        """
        # Records are limited here; Python's own limit of 131,072 characters is too short for documents.
        csv.field_size_limit((1 << 31) - 1)
        self._path = path
        try:
            self._handle = open_stream(path)
        except READ_ERRORS as error:
            raise unreadable(path, "row 0", error) from error
        try:
            first = self._handle.read(len(BOM))
            if first.startswith(UTF16_MARKS):
                self.close()
                raise in_utf16(path)
            begin = len(BOM) if first == BOM else 0
            self._lines = _Lines(self._handle, begin)
            # Blank lines before it are no header, as those behind it are no rows.
            self.header = tuple(next(filter(None, csv.reader(self._lines)), ()))
        except (csv.Error, _TooLong) as error:
            self.close()
            raise InputError(f"{path}: not CSV: {error}") from error
        except READ_ERRORS as error:
            self.close()
            raise unreadable(path, "row 0", error) from error
        self._first = self._lines.at

    @property
    def in_quote(self) -> bool:
        """Whether the record read last came to the end of the file within a quote."""
        return self._lines.ended

    def rows(self, start: int = 0, position: int = 1) -> Iterator[RawRow]:
        """Yield the rows from the record whose first line is at byte `start` on."""
        for _, number, values, error in self.records(start, position):
            if error is not None:
                yield RawRow(number, None, error)
            elif not _is_text(values):
                yield RawRow(number, None, "not UTF-8")
            elif len(values) != len(self.header):
                yield RawRow(number, None, f"{len(values)} values, but the header has {len(self.header)}")
            else:
                yield RawRow(number, dict(zip(self.header, values, strict=True)), None)

    def records(self, start: int = 0, position: int = 1) -> Iterator[tuple[int, int, list[str], str | None]]:
        """Yield byte offset, number and values of every record, and why it has none that can be relied on, or None.

        Bytes that are no UTF-8 are surrogates for now.
        """
        number = position - 1
        try:
            if self._lines.at != max(start, self._first):
                self._lines = self._lines_from(start)
            records = csv.reader(self._lines)
            while True:
                begin = self._lines.begin()
                try:
                    values = next(records, None)
                except _TooLong as error:
                    records = csv.reader(self._lines)
                    number += 1
                    yield begin, number, [], str(error)
                    continue
                if values is None:
                    return
                if values:
                    number += 1
                    yield begin, number, values, "a quote is never closed" if self.in_quote else None
        except csv.Error as error:
            raise InputError(f"{self._path}: not CSV after row {number}: {error}") from error
        except READ_ERRORS as error:
            raise unreadable(self._path, f"row {number}", error) from error

    def close(self) -> None:
        """Close the file."""
        self._handle.close()

    def _lines_from(self, start: int) -> "_Lines":
        if start > self._first:
            self._handle.seek(start - 1)
            if self._handle.read(1) not in (b"\n", b"\r"):
                raise InputError(f"{self._path}: no line begins at byte {start}; the file has changed since it was cut")
        return _Lines(self._handle, max(start, self._first))


def marks(path: Path) -> Iterator[Marks]:
    """Yield byte offset and number of every row, bad ones included; the header is none."""
    source = Source(path, None)
    begins: list[int] = []
    number = 0
    try:
        for begin, number, *_ in source.records():
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


def field_names(path: Path, wanted: Collection[str] = ()) -> tuple[str, ...]:
    """Return the names in the header, whatever is `wanted`; none of an empty file."""
    source = Source(path, None)
    source.close()
    return source.header


def check(path: Path) -> None:
    """Read the header, if the file is not empty.

    Raises:
        InputError: the file is UTF-16, a quote in the header is never closed, or a name stands in it twice.
    """
    source = Source(path, None)
    source.close()
    header = source.header
    if header and source.in_quote:
        raise InputError(f"{path}: a quote in the header is never closed")
    if len(set(header)) < len(header):
        raise InputError(f"{path}: a name stands twice in the header: {', '.join(header)}")


def separator_hint(header: Sequence[str]) -> str:
    """Return what to say of a header that seems to be separated by something else than commas, or nothing."""
    other = next((mark for mark in OTHER_SEPARATORS if len(header) == 1 and mark in header[0]), None)
    return "" if other is None else f"; the header is one field with {other!r} in it: separate fields by commas"


def _is_text(values: Sequence[str]) -> bool:
    """Whether no value holds one of the surrogates that stand for bytes that are no UTF-8."""
    try:
        "".join(values).encode()
    except UnicodeEncodeError:
        return False
    return True


class _TooLong(Exception):
    """A record is longer than `MAX_RECORD_BYTES`."""


class _Lines:
    """The lines of a file from an offset on, ended by \\n, \\r or \\r\\n.

    Attributes:
        at: where the next one begins.
        ended: whether one was asked for behind the last one, which the CSV reader does only within a quote or at a
            record's beginning.
    """

    def __init__(self, handle: BinaryIO, at: int) -> None:
        handle.seek(at)
        self.at = at
        self.ended = False
        self._begin = at
        self._lines = _split(handle)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            line, size = next(self._lines)
        except StopIteration:
            self.ended = True
            raise
        self.at += size
        if self.at - self._begin > MAX_RECORD_BYTES:
            raise _TooLong(f"record is longer than {MAX_RECORD_BYTES} bytes")
        return line.decode("utf-8", "surrogateescape")

    def begin(self) -> int:
        """Begin a record with the next line, and return where that is."""
        self._begin = self.at
        return self.at


def _split(handle: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield lines and their sizes; of one longer than any record not all bytes are held, nor yielded."""
    pieces: list[bytes] = []
    size = 0
    after_return = False
    while chunk := handle.readline(BUFFER_BYTES):
        if after_return and chunk != b"\n":
            yield b"".join(pieces), size
            pieces, size = [], 0
        lines = chunk.splitlines(keepends=True)
        # Where the chunk was cut, its last line may go on, if only by the \n of a \r\n.
        rest = b"" if chunk.endswith(b"\n") else lines.pop()
        for line in lines:
            yield b"".join((*pieces, line)), size + len(line)
            pieces, size = [], 0
        if rest and size <= MAX_RECORD_BYTES:
            pieces.append(rest)
        size += len(rest)
        after_return = rest.endswith(b"\r")
    if size:
        yield b"".join(pieces), size
