"""CSV with a header line; quoted values may hold newlines, and every value is text."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from euds.corpus.raw import RawRow
from euds.errors import InputError

MAX_FIELD_CHARS = 1 << 26
"""Longest value read; Python's own limit of 131,072 characters is too short for documents."""


def rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[RawRow]:
    """Yield the rows of a file; `columns` is not needed, as a line is parsed whole."""
    for position, values, header in _records(path):
        if any("\udc80" <= char <= "\udcff" for value in values for char in value if not char.isascii()):
            yield RawRow(position, None, "not UTF-8")
        elif len(values) != len(header):
            yield RawRow(position, None, f"{len(values)} values, but the header has {len(header)}")
        else:
            yield RawRow(position, dict(zip(header, values, strict=True)), None)


def count(path: Path) -> int:
    """Count the rows of a file, bad ones included; the header is none."""
    return sum(1 for _ in _records(path))


def field_names(path: Path) -> tuple[str, ...]:
    """Return the names in the header."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as handle:
            return tuple(next(csv.reader(handle), ()))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


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


def _records(path: Path) -> Iterator[tuple[int, list[str], tuple[str, ...]]]:
    """Yield 1-based record number, values and header; bytes that are not UTF-8 become surrogates for the moment."""
    csv.field_size_limit(MAX_FIELD_CHARS)
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as handle:
            records = csv.reader(handle)
            header = tuple(next(records, ()))
            position = 0
            for values in records:
                if values:
                    position += 1
                    yield position, values, header
    except csv.Error as error:
        raise InputError(f"{path}: not CSV after row {position}: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
