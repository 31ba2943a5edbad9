"""Fields of the corpus as columns of the kept rows, in a type that holds all of their values."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from euds.corpus import field_types
from euds.corpus.nanoseconds import arrow_array
from euds.corpus.row import SCALARS

VALUE_ERRORS = (pa.ArrowException, ValueError, TypeError, OverflowError)
"""What values that do not go together raise."""

TEXT, JSON = "text", "JSON"


Fields = Mapping[str, pa.DataType | None]
"""Fields of the corpus by name, with the type that all of its files have; None where there is none."""


def fields_of(names: Sequence[str], files: Sequence[Path]) -> Fields:
    """Return fields of a corpus with their types, as far as values of them can be built and written to Parquet."""
    types = field_types(files)
    return {name: kind if (kind := types.get(name)) is not None and _is_writable(kind) else None for name in names}


@cache
def _is_writable(kind: pa.DataType) -> bool:
    """Whether Parquet has a place for a type, which it has not for objects without a field."""
    try:
        pq.write_table(pa.table({"values": pa.array([None], kind)}), pa.BufferOutputStream())
    except VALUE_ERRORS:
        return False
    return True


def corpus_columns(
    rows: Sequence[Mapping[str, object]], fields: Fields, carried: Mapping[str, pa.ChunkedArray]
) -> tuple[dict[str, pa.Array], dict[str, str]]:
    """Return fields of the kept rows as columns, and how each is written that had to become text: "text" or "JSON".

    Args:
        rows: fields of the kept rows.
        fields: those wanted.
        carried: by field, its values as the scores have them: text, null for what was no id, label or source.
    """
    columns, as_text = {}, {}
    for name, kind in fields.items():
        values = [row.get(name) for row in rows]
        try:
            columns[name] = column_of(values, kind)
        except VALUE_ERRORS:
            # Rows of one corpus may disagree on a field's type.
            columns[name], as_text[name] = _as_text(values, carried.get(name))
    return columns, as_text


def column_of(values: Sequence[object], kind: pa.DataType | None) -> pa.Array:
    """Return values in their field's type, or in that which holds them.

    Raises:
        ValueError, TypeError, OverflowError, pa.ArrowException: there is none, or Parquet has no place for it.
    """
    if kind is not None:
        # More categories than one file's type can count need another one.
        with suppress(*VALUE_ERRORS):
            return arrow_array(values, kind)
    try:
        column = arrow_array(values)
    except OverflowError:
        # Fractions would be cut.
        if any(type(value) is not int for value in values if value is not None):
            raise
        return pa.array(values, pa.uint64())
    if not _is_writable(column.type):
        raise ValueError(f"Parquet has no place for {column.type}")
    return column


def _as_text(values: Sequence[Any], carried: pa.ChunkedArray | None) -> tuple[pa.Array, str]:
    """Return values as the scores have them, or as themselves if scalars; else as JSON, which loses nothing."""
    if carried is not None:
        texts = carried.to_pylist()
        if all(value is None or text is not None for value, text in zip(values, texts, strict=True)):
            return pa.array(texts, pa.string()), TEXT
    if all(value is None or isinstance(value, SCALARS) for value in values):
        try:
            return pa.array([None if value is None else _scalar_text(value) for value in values], pa.string()), TEXT
        except UnicodeEncodeError:
            # Half a surrogate pair, which only JSON can write.
            pass
    return pa.array([None if value is None else json.dumps(value, default=str) for value in values], pa.string()), JSON


def _scalar_text(value: object) -> str:
    """Return text as it is, and true, false and numbers as JSON writes them."""
    return json.dumps(value) if isinstance(value, bool | int | float) else str(value)
