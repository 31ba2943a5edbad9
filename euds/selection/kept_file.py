"""The file of the kept rows: Parquet, with the record of their choice in it, or JSON lines."""

import gzip
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as pq

from euds.corpus.location import file_name
from euds.corpus.nanoseconds import python_values
from euds.errors import InputError, InvalidArgument, reason_of
from euds.files import own_partials

LINES = (".jsonl", ".jsonl.gz")
SUFFIXES = (".parquet", *LINES)

METADATA_KEY = "euds.selection"

MOST_METADATA = 1 << 20
"""Bytes of a record in Parquet's footer, which readers hold whole; Arrow refuses one beyond 100 MB."""

SEARCH_KEYS = ("validated", "keep_auto")
BY_GROUP = ("groups", "keep_rate_by_label", "keep_rate_by_source", "source_shift")

BATCH_ROWS = 8192


def check_suffix(path: Path) -> None:
    """Refuse a file whose suffix names no format that kept rows are written in.

    Raises:
        InvalidArgument: it does not; the message lists those that do.
    """
    if not file_name(path).endswith(SUFFIXES):
        raise InvalidArgument(f"out: {path}: kept rows are written to files that end in {', '.join(SUFFIXES)}")


def metadata_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the record of a choice as Parquet's key-value metadata.

    Seconds are left out, so that the same rows are the same bytes; beyond 1 MiB, what is told by group, too.
    """
    lasting = _without_seconds(record)
    lasting |= {name: _without_seconds(record[name]) for name in SEARCH_KEYS if record.get(name)}
    text = json.dumps(lasting, ensure_ascii=False, allow_nan=False)
    if len(text.encode()) > MOST_METADATA:
        lasting = {name: value for name, value in lasting.items() if name not in BY_GROUP}
        text = json.dumps(lasting, ensure_ascii=False, allow_nan=False)
    return {METADATA_KEY: text}


def in_format_of(path: Path, partial: Path) -> None:
    """Turn a Parquet file of kept rows, in place, into the format that the name of `path` asks for.

    Raises:
        InputError: a value has no place in JSON.
    """
    if not is_lines(path):
        return
    lines = partial.with_name(f"{partial.stem}-lines.partial")
    try:
        with lines.open("wb") as handle:
            if file_name(path).endswith(".gz"):
                # Without name and time the same rows are the same bytes.
                with gzip.GzipFile("", "wb", fileobj=handle, mtime=0) as packed:
                    _write_lines(partial, packed, path)
            else:
                _write_lines(partial, handle, path)
        lines.replace(partial)
    finally:
        lines.unlink(missing_ok=True)


def is_lines(path: Path) -> bool:
    """Whether a file of kept rows is one of JSON lines by its name."""
    return file_name(path).endswith(LINES)


def record_beside(path: Path) -> Path:
    """Return where the record of the rows in a file of the user's own lies."""
    return path.with_name(f"{path.name}.selection.json")


def check_name(path: Path) -> None:
    """Refuse a file beside which its record has no place, as the record's name would be too long.

    Raises:
        InvalidArgument: it is; the message tells by how much.
    """
    folder = next(each for each in (path.parent, *path.parent.parents) if each.exists())
    # Before it is whole, the record has a still longer name, which `atomic_path` ends like this.
    longest = f"{own_partials(record_beside(path))}01234567.partial"
    excess = len(os.fsencode(longest)) - os.pathconf(folder, "PC_NAME_MAX")
    if excess > 0:
        raise InvalidArgument(
            f"out: {path}: the name leaves no room for that of its record, {record_beside(path).name}; shorten it by "
            f"{excess} bytes"
        )


def _without_seconds(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "seconds"}


def _write_lines(rows: Path, handle: IO[bytes] | gzip.GzipFile, path: Path) -> None:
    number = 0
    with pq.ParquetFile(rows) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
            try:
                for values in zip(*map(python_values, batch.columns), strict=True):
                    row = dict(zip(batch.schema.names, values, strict=True))
                    handle.write(
                        json.dumps(row, ensure_ascii=False, allow_nan=False, default=_as_text).encode() + b"\n"
                    )
                    number += 1
            except ValueError as error:
                raise InputError(
                    f"{path}: kept row {number + 1} has no place in JSON: {reason_of(error)}; name a .parquet file, or "
                    "other columns"
                ) from error


def _as_text(value: object) -> str:
    """Return what JSON lacks as text: bytes of UTF-8 as they are, dates and decimals as Python writes them."""
    return value.decode() if isinstance(value, bytes) else str(value)
