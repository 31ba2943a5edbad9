"""Parquet and Arrow IPC files and streams, read batch by batch and only the columns that are asked for."""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from euds.corpus.arrow_types import retyped
from euds.corpus.columnar_files import ArrowFile, ArrowStream, ParquetFile
from euds.corpus.location import file_name, is_url
from euds.corpus.nanoseconds import python_value, python_values
from euds.corpus.raw import Marks, RawRow
from euds.corpus.streams import open_remote
from euds.errors import InputError, reason_of
from euds.files import storage_failure

CONVERTED_ROWS = 64
"""Rows turned into Python values at a time."""

ARROW_MAGIC = b"ARROW1"

BYTES_TYPES = {
    pa.string(): pa.binary(),
    pa.large_string(): pa.large_binary(),
    pa.string_view(): pa.binary_view(),
}
"""Types of bytes in place of texts, of the same layout."""

VALUE_ERRORS = (ValueError, OverflowError, NotImplementedError)
"""What turning a value into Python's raises, for instance a date beyond the year 9999."""


class Source:
    """An open file."""

    def __init__(self, path: Path, columns: Sequence[str] | None, optional: Collection[str] = ()) -> None:
        """Open a file, to read the given columns that it has, or all of them.

        Args:
            path: of the file.
            columns: to read; None: all.
            optional: those in which a value without a counterpart in Python is null; of others it costs the row.

        Raises:
            InputError: it is not what its suffix says, or is damaged.
        """
        self._path = path
        self._optional = optional
        with _errors(path):
            self._file = _open(path, columns)
        self._batches: Iterator[pa.RecordBatch] = iter(())
        # The current batch and its first row; before the first one nothing has been read.
        self._batch: pa.RecordBatch | None = None
        self._begin = 0

    def rows(self, start: int = 0, position: int = 1) -> Iterator[RawRow]:
        """Yield the rows from row `start` on, counted from 0."""
        with _errors(self._path):
            self._enter(start)
            row = start
            while self._batch is not None:
                for at in range(row - self._begin, self._batch.num_rows, CONVERTED_ROWS):
                    some = self._batch.slice(at, CONVERTED_ROWS)
                    _validate(some)
                    for fields, error in _converted(some, self._optional):
                        row += 1
                        yield RawRow(row - start + position - 1, fields, error)
                self._next_batch()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _enter(self, start: int) -> None:
        """Make the batch that holds a row the current one, going on from the current one if that is no detour."""
        entry = bisect_right(self._file.entries, start) - 1
        behind = self._begin + (0 if self._batch is None else self._batch.num_rows)
        if self._batch is None or start < self._begin or behind < self._file.entries[entry]:
            self._batches = self._file.batches(entry)
            self._begin, self._batch = self._file.entries[entry], self._fetch()
        while self._batch is not None and self._begin + self._batch.num_rows <= start:
            self._next_batch()

    def _next_batch(self) -> None:
        if self._batch is not None:
            self._begin += self._batch.num_rows
        self._batch = self._fetch()

    def _fetch(self) -> pa.RecordBatch | None:
        """Return the next batch, its dictionaries checked: any rows of it may use any of their values."""
        batch = next(self._batches, None)
        for column in () if batch is None else batch.columns:
            if isinstance(column, pa.DictionaryArray):
                _as_bytes(column.dictionary).validate(full=True)
        return batch


def marks(path: Path) -> Iterator[Marks]:
    """Yield 0-based and 1-based number of every row, from the row counts that the file itself keeps."""
    with _errors(path), closing(_open(path, None)) as file:
        row = 0
        for n_rows in file.row_counts():
            yield range(row, row + n_rows), range(row + 1, row + n_rows + 1)
            row += n_rows


def splittable(path: Path) -> bool:
    """Whether a row can be reached without reading what is before it; in an Arrow stream none can.

    Raises:
        InputError: the file cannot be opened.
    """
    with _errors(path), closing(_open(path, None)) as file:
        return not isinstance(file, ArrowStream)


def field_names(path: Path, wanted: Collection[str] = ()) -> tuple[str, ...]:
    """Return the names of the columns, whatever is `wanted`."""
    with _errors(path), closing(_open(path, None)) as file:
        return file.names


def field_types(path: Path) -> dict[str, pa.DataType]:
    """Return the types of the columns by name."""
    with _errors(path), closing(_open(path, None)) as file:
        return {field.name: field.type for field in file.schema}


def check(path: Path) -> None:
    """Read the schema.

    Raises:
        InputError: the file is not what its suffix says or is damaged, or two columns have the same name.
    """
    names = field_names(path)
    if len(set(names)) < len(names):
        raise InputError(f"{path}: two columns have the same name: {', '.join(names)}")


def _is_parquet(path: Path) -> bool:
    return file_name(path).endswith(".parquet")


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        kind = "Parquet" if _is_parquet(path) else "Arrow"
        reason = reason_of(error)
        raise storage_failure(path, error) or InputError(f"{path}: not a readable {kind} file: {reason}") from error


def _open(path: Path, columns: Sequence[str] | None) -> ParquetFile | ArrowFile | ArrowStream:
    # Not mapped into memory: a file that another process cuts short would end this one.
    source: Any = open_remote(path) if is_url(path) else pa.OSFile(str(path))
    try:
        if _is_parquet(path):
            return ParquetFile(source, columns)
        is_file = source.read(len(ARROW_MAGIC)) == ARROW_MAGIC
        source.seek(0)
        return ArrowFile(source, columns) if is_file else ArrowStream(source, columns)
    except BaseException:
        source.close()
        raise


def _validate(batch: pa.RecordBatch) -> None:
    """Check what Arrow takes on trust: a damaged offset would read memory that is not the file's."""
    for column in batch.columns:
        if isinstance(column, pa.DictionaryArray):
            column.indices.validate(full=True)
            # Refuses an index that its dictionary does not have.
            pa.DictionaryArray.from_arrays(column.indices, column.dictionary)
        else:
            _as_bytes(column).validate(full=True)


def _as_bytes(column: pa.Array) -> pa.Array:
    """View texts as bytes, nested ones too, since a text that is not UTF-8 spoils its own row only."""
    bytes_type = retyped(column.type, lambda kind: BYTES_TYPES.get(kind, kind))
    return column if bytes_type == column.type else column.view(bytes_type)


def _converted(
    batch: pa.RecordBatch, optional: Collection[str]
) -> Iterator[tuple[dict[str, object] | None, str | None]]:
    """Yield every row's values, or why one of them has no counterpart in Python, which may be null if optional."""
    columns: dict[str, list[object]] = {}
    errors: list[str | None] = [None] * batch.num_rows
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            columns[name] = python_values(column)
        except VALUE_ERRORS:
            found = [_converted_alone(name, value) for value in column]
            columns[name] = [value for value, _ in found]
            if name not in optional:
                errors = [before or error for before, (_, error) in zip(errors, found, strict=True)]
    for at, error in enumerate(errors):
        yield ({name: values[at] for name, values in columns.items()} if error is None else None), error


def _converted_alone(name: str, value: pa.Scalar) -> tuple[object, str | None]:
    try:
        return python_value(value), None
    except UnicodeDecodeError as error:
        return None, f"field {name!r} is not UTF-8: {error.reason}"
    except VALUE_ERRORS:
        return None, f"field {name!r} is a {value.type} that Python cannot hold"
