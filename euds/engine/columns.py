"""Arrow columns of a shard as NumPy arrays, and back."""

import numpy as np
import pyarrow as pa

from euds.types import Float32Array, Int32Array, Int64Array

WORDS = b"words"
WORDS_SCHEMA = pa.schema([("word", pa.large_string())])


def ragged(table: pa.Table, column: str) -> tuple[Int64Array, Int64Array]:
    """Return a list column as flat values and offsets, both int64; row i has values[offsets[i]:offsets[i+1]]."""
    lists = table.column(column).combine_chunks()
    offsets = np.asarray(lists.offsets, dtype=np.int64)
    values = np.asarray(lists.values, dtype=np.int64)
    return values[offsets[0] : offsets[-1]], offsets - offsets[0]


def lists_of(values: Int32Array, offsets: Int64Array) -> pa.ListArray:
    """Return the list column of which `ragged` gives these values and offsets."""
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values))


def with_words(table: pa.Table, words: pa.LargeStringArray) -> pa.Table:
    """Return a tokens table that says which words its ids are."""
    return table.replace_schema_metadata({WORDS: pa.record_batch([words], WORDS_SCHEMA).serialize().to_pybytes()})


def words_of(table: pa.Table) -> pa.LargeStringArray | None:
    """Return the word of each id in a table that `with_words` has made; None: its ids are a model's."""
    if WORDS not in (table.schema.metadata or {}):
        return None
    return pa.ipc.read_record_batch(pa.py_buffer(table.schema.metadata[WORDS]), WORDS_SCHEMA).column(0)


def usable(table: pa.Table) -> list[int]:
    """Return the lines of a tokens table whose text can be scored."""
    return [at for at, reason in enumerate(table.column("reason").to_pylist()) if reason is None]


def n_with_reason(table: pa.Table) -> int:
    """Count the lines that have a reason for being without a score."""
    n: int = table.num_rows - table.column("reason").null_count
    return n


def embeddings_of(table: pa.Table) -> Float32Array:
    """Return the embeddings of a shard, (n, H) float32."""
    column = table.column("embedding").combine_chunks()
    flat: Float32Array = np.asarray(column.values)
    return flat.reshape(-1, column.type.list_size)


def nullable(values: np.ndarray, present: np.ndarray) -> pa.Array:
    """A float32 column that is null where `present` is false or the value is not finite."""
    return pa.array(values.astype(np.float32), mask=~(present & np.isfinite(values)))
