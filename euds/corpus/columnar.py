"""Parquet and Arrow IPC files and streams, read batch by batch and only the columns that are asked for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from euds.corpus.raw import RawRow
from euds.errors import InputError

BATCH_ROWS = 1024


def rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[RawRow]:
    """Yield the rows of a file with the given columns that it has, or all of them."""
    position = 0
    with _errors(path):
        for batch in _batches(path, columns):
            _validate(batch)
            for at in range(batch.num_rows):
                position += 1
                yield _row(position, batch, at)


def count(path: Path) -> int:
    """Count the rows of a file."""
    with _errors(path):
        if _is_parquet(path):
            with pq.ParquetFile(path) as file:
                return int(file.metadata.num_rows)
        return sum(batch.num_rows for batch in _batches(path, []))


def field_names(path: Path) -> tuple[str, ...]:
    """Return the names of the columns."""
    with _errors(path):
        if _is_parquet(path):
            with pq.ParquetFile(path) as file:
                return tuple(file.schema_arrow.names)
        with pa.memory_map(str(path)) as source:
            return tuple(_open_ipc(source).schema.names)


def check(path: Path) -> None:
    """Read the schema.

    Raises:
        InputError: the file is not what its suffix says, or is damaged.
    """
    field_names(path)


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        kind = "Parquet" if _is_parquet(path) else "Arrow"
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: not a readable {kind} file: {reason}") from error


def _batches(path: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    if _is_parquet(path):
        with pq.ParquetFile(path) as file:
            known = file.schema_arrow.names
            wanted = known if columns is None else [name for name in known if name in columns]
            # Threads would decode whole row groups ahead, which a bounded reader must not.
            yield from file.iter_batches(batch_size=BATCH_ROWS, columns=wanted, use_threads=False)
        return
    with pa.memory_map(str(path)) as source:
        opened = _open_ipc(source)
        if isinstance(opened, pa.ipc.RecordBatchFileReader):
            batches = (opened.get_batch(at) for at in range(opened.num_record_batches))
        else:
            batches = iter(opened)
        for batch in batches:
            if columns is not None:
                batch = batch.select([name for name in batch.schema.names if name in columns])
            yield batch


def _open_ipc(source: Any) -> Any:
    """Open the file format, or the stream format where the file's magic is missing."""
    try:
        return pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_stream(source)


def _validate(batch: pa.RecordBatch) -> None:
    """Check what Arrow takes on trust: a damaged offset would read memory that is not the file's."""
    for column in batch.columns:
        # As bytes, since a text that is not UTF-8 spoils its own row only.
        bytes_type = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}.get(column.type)
        (column if bytes_type is None else column.view(bytes_type)).validate(full=True)


def _row(position: int, batch: pa.RecordBatch, at: int) -> RawRow:
    fields: dict[str, object] = {}
    for name in batch.schema.names:
        try:
            fields[name] = batch.column(name)[at].as_py()
        except UnicodeDecodeError as error:
            return RawRow(position, None, f"not UTF-8: {error.reason}")
    return RawRow(position, fields, None)
