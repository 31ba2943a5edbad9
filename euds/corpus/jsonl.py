"""JSON lines: one object a line; blank lines are no rows."""

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from euds.corpus.raw import Marks, RawRow
from euds.corpus.streams import READ_ERRORS, compression, in_utf16, open_stream, unreadable
from euds.errors import InputError

MAX_LINE_BYTES = 1 << 26
"""A longer line is a bad row: no text is so long, and a file without newlines must not fill the memory."""

SAMPLE_ROWS = 1000
"""Good rows looked at to learn the field names."""

BLOCK_BYTES = 1 << 20
"""Bytes searched for newlines at a time."""

BOM = b"\xef\xbb\xbf"

UTF16_OBJECTS = tuple("\ufeff{".encode(order) for order in ("utf-16-le", "utf-16-be"))
"""How a file of objects in UTF-16 begins: more than its mark, which one damaged row may begin with, too."""

IS_SPACE = np.isin(np.arange(256), list(b" \t\n\r\x0b\x0c"))
"""By byte, whether `bytes.strip` removes it."""


class Source:
    """An open file."""

    def __init__(self, path: Path, columns: Sequence[str] | None, optional: Collection[str] = ()) -> None:
        """Open a file; the others are not needed, as a line is parsed whole, or not at all.

        Raises:
            InputError: it cannot be opened.
        """
        self._path = path
        try:
            self._handle = open_stream(path)
        except READ_ERRORS as error:
            raise unreadable(path, "line 0", error) from error

    def rows(self, start: int = 0, position: int = 1) -> Iterator[RawRow]:
        """Yield the rows from the line at byte `start` on."""
        number = position - 1
        try:
            self._seek(start)
            while line := self._handle.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    _skip_line(self._handle, line)
                    yield RawRow(number, None, f"line is longer than {MAX_LINE_BYTES} bytes")
                elif not line.isspace():
                    yield _parse(number, line)
        except READ_ERRORS as error:
            raise unreadable(self._path, f"line {number}", error) from error

    def close(self) -> None:
        """Close the file."""
        self._handle.close()

    def _seek(self, start: int) -> None:
        handle = self._handle
        if start == 0:
            handle.seek(0)
            _skip_bom(self._path, handle)
        elif handle.tell() != start:
            handle.seek(start - 1)
            if handle.read(1) != b"\n" and start != len(BOM):
                raise InputError(f"{self._path}: no line begins at byte {start}; the file has changed since it was cut")


def marks(path: Path) -> Iterator[Marks]:
    """Yield byte offset and line number of every row, bad ones included, without parsing any."""
    number = 0
    try:
        with open_stream(path) as handle:
            begin = _skip_bom(path, handle)
            # The line that is open at the end of a block: where it begins, and whether it is more than blank so far.
            filled = False
            base = begin
            while block := handle.read(BLOCK_BYTES):
                data = np.frombuffer(block, np.uint8)
                ends = np.flatnonzero(data == ord("\n"))
                begins = np.concatenate(([begin], base + ends + 1))
                row = _filled(block, data, ends)
                row[0] |= filled
                begin, filled = int(begins[-1]), bool(row[-1])
                rows = np.flatnonzero(row[:-1] | (np.diff(begins) > MAX_LINE_BYTES))
                yield begins[rows].tolist(), (number + 1 + rows).tolist()
                number += len(ends)
                base += len(block)
            if filled or base - begin > MAX_LINE_BYTES:
                yield [begin], [number + 1]
    except READ_ERRORS as error:
        raise unreadable(path, f"line {number}", error) from error


def splittable(path: Path) -> bool:
    """Whether a row can be reached without reading what is before it."""
    return compression(path) is None


def field_names(path: Path, wanted: Collection[str] = ()) -> tuple[str, ...]:
    """Return the fields of the first good rows, and the `wanted` ones of later rows, in order of first appearance."""
    names: dict[str, None] = {}
    missing = set(wanted)
    good = 0
    source = Source(path, None)
    try:
        for row in source.rows():
            if row.fields is not None:
                names.update(dict.fromkeys(row.fields if good < SAMPLE_ROWS else missing & row.fields.keys()))
                missing -= row.fields.keys()
                good += 1
            if good >= SAMPLE_ROWS and not missing:
                break
    finally:
        source.close()
    return tuple(names)


def check(path: Path) -> None:
    """Open the file and read its first lines.

    Raises:
        InputError: it cannot be opened or decompressed, or is UTF-16.
    """
    next(marks(path), None)


def _skip_bom(path: Path, handle: BinaryIO) -> int:
    """Go behind the byte order mark, if there is one, and return the offset there.

    Raises:
        InputError: the file is UTF-16.
    """
    first = handle.read(len(UTF16_OBJECTS[0]))
    if first in UTF16_OBJECTS:
        raise in_utf16(path)
    begin = len(BOM) if first.startswith(BOM) else 0
    handle.seek(begin)
    return begin


def _filled(block: bytes, data: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Tell for every line of a block, the pieces at its edges included, whether it is more than blank."""
    firsts = np.concatenate(([0], ends + 1))
    stops = np.concatenate((ends, [len(block)]))
    filled = firsts < stops
    filled[filled] = ~IS_SPACE[data[firsts[filled]]]
    # What begins with a space is rare, and mostly short.
    for at in np.flatnonzero(~filled & (firsts < stops)):
        filled[at] = not block[firsts[at] : stops[at]].isspace()
    return filled


def _skip_line(handle: BinaryIO, line: bytes) -> None:
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
        # An integer of thousands of digits; how many would make every reason another.
        return RawRow(number, None, f"not JSON that can be read: {str(error).partition(':')[0]}")
    if not isinstance(value, dict):
        return RawRow(number, None, f"not a JSON object but {type(value).__name__}")
    return RawRow(number, value, None)
