"""Parquet and Arrow IPC files and streams as batches of the wanted columns, from any batch that can be entered on.

Each class has the `schema` and the `names` of all columns, and these methods.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

BATCH_ROWS = 1024
"""Most rows of a Parquet file decoded at a time."""

BATCH_BYTES = 1 << 24
"""Bytes of all their columns, about, by the mean of the row group; a page, made by the file's writer, is held whole."""

BUFFER_BYTES = 1 << 20
"""Bytes of a Parquet column read at a time; without it a whole row group's column would be in memory."""


class ParquetFile:
    """A Parquet file; reading can begin at any row group."""

    def __init__(self, source: Any, columns: Sequence[str] | None) -> None:
        self._source = source
        # Buffered before it is asked for, all that was read would stay in memory until the file is closed.
        self._file = pq.ParquetFile(source, buffer_size=BUFFER_BYTES, pre_buffer=False)
        self.schema = self._file.schema_arrow
        self.names = tuple(self.schema.names)
        self._wanted = [name for name in self.names if columns is None or name in columns]

    @cached_property
    def entries(self) -> list[int]:
        """First row of each piece that reading can begin at, and where all are known the number of rows."""
        return list(accumulate(self.row_counts(), initial=0))

    def row_counts(self) -> list[int]:
        """Return the rows of each piece, in order."""
        metadata = self._file.metadata
        return [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)]

    def batches(self, entry: int) -> Iterator[pa.RecordBatch]:
        """Yield the batches from a piece on, with the wanted columns."""
        # Threads would decode whole row groups ahead, which a bounded reader must not.
        options = {"columns": self._wanted, "use_threads": False}
        for at in range(entry, self._file.metadata.num_row_groups):
            yield from self._file.iter_batches(self._batch_rows(at), row_groups=[at], **options)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._source.close()

    def _batch_rows(self, at: int) -> int:
        """Return how many rows of a row group are decoded at a time."""
        group = self._file.metadata.row_group(at)
        # Asked for the size of one column, pyarrow 26 aborts the process where the footer is damaged.
        rows_of_bytes = BATCH_BYTES * int(group.num_rows) // max(1, int(group.total_byte_size))
        return max(1, min(BATCH_ROWS, rows_of_bytes))


class ArrowFile:
    """An Arrow IPC file; reading can begin at any batch."""

    def __init__(self, source: Any, columns: Sequence[str] | None) -> None:
        self._source = source
        self.schema = pa.ipc.open_file(source).schema
        self.names = tuple(self.schema.names)
        self._wanted = [name for name in self.names if columns is None or name in columns]
        self._file = pa.ipc.open_file(source, options=_only(self.schema, self._wanted))

    @cached_property
    def entries(self) -> list[int]:
        """First row of each piece that reading can begin at, and where all are known the number of rows."""
        return list(accumulate(self.row_counts(), initial=0))

    def row_counts(self) -> Iterator[int]:
        """Return the rows of each piece, in order."""
        # A batch tells its length only when something of it is read: a column of numbers, if there is one.
        small = sorted(self.schema, key=lambda field: not pa.types.is_primitive(field.type))
        file = pa.ipc.open_file(self._source, options=_only(self.schema, [field.name for field in small[:1]]))
        return (file.get_batch(at).num_rows for at in range(file.num_record_batches))

    def batches(self, entry: int) -> Iterator[pa.RecordBatch]:
        """Yield the batches from a piece on, with the wanted columns."""
        for at in range(entry, self._file.num_record_batches):
            yield self._file.get_batch(at).select(self._wanted)

    def close(self) -> None:
        """Close the file."""
        self._source.close()


class ArrowStream:
    """An Arrow IPC stream; it is read from its beginning."""

    def __init__(self, source: Any, columns: Sequence[str] | None) -> None:
        self._source = source
        self.schema = pa.ipc.open_stream(source).schema
        self.names = tuple(self.schema.names)
        self._wanted = [name for name in self.names if columns is None or name in columns]
        self.entries = [0]

    def row_counts(self) -> Iterator[int]:
        """Return the rows of each piece, in order."""
        return (batch.num_rows for batch in self._each(self.names[:1]))

    def batches(self, entry: int) -> Iterator[pa.RecordBatch]:
        """Yield the batches from a piece on, with the wanted columns."""
        assert entry == 0
        return (batch.select(self._wanted) for batch in self._each(self._wanted))

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def _each(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        self._source.seek(0)
        stream = pa.ipc.open_stream(self._source, options=_only(self.schema, names))
        end = self._source.tell()
        for batch in stream:
            end = self._source.tell()
            yield batch
        # Arrow takes the end of the file for that of the stream, and would not miss batches that were cut off.
        if self._source.tell() == end:
            raise pa.ArrowInvalid("cut short: the stream's end marker is missing")


def _only(schema: pa.Schema, names: Sequence[str]) -> pa.ipc.IpcReadOptions:
    """Read the named columns, or the first one if there are none: without any, Arrow reads all."""
    fields = [at for at, name in enumerate(schema.names) if name in names] or [0][: len(schema)]
    return pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)
