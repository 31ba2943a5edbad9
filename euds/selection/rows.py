"""Write the kept rows of a large corpus in one pass over it and its scores."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from euds.corpus import Row, check_fields, read_rows
from euds.errors import InputError
from euds.files import atomic_path
from euds.selection.axes import values_of
from euds.selection.describe import group_names
from euds.types import Int64Array

ROW_GROUP = 8192
"""Rows read, and at most written, at a time."""

Rates = dict[str, tuple[Counter[str], Counter[str]]]
"""Rows of the pool and kept ones, by name, for "label" and "source"; both empty where the column is."""


def write_rows(
    path: Path,
    files: Sequence[Path],
    parts: Sequence[Path],
    kept: Int64Array,
    columns: Sequence[str],
    axes: Sequence[str],
) -> Rates:
    """Write fields of the corpus and scores of the kept rows to a Parquet file, atomically, and count them by group.

    A column takes its type from the first rows; fields whose name a score has are left to the score.

    Args:
        path: file to write.
        files: the corpus.
        parts: part files of the scores, in order.
        kept: row ids, ascending.
        columns: fields of the corpus.
        axes: score columns that a row of the pool has.

    Raises:
        InputError: a field is not there or changes its type, or the file cannot be written.
    """
    check_fields(files, columns)
    rates: Rates = {name: (Counter(), Counter()) for name in ("label", "source")}
    rows = iter(read_rows(files, columns=columns))
    writer: pq.ParquetWriter | None = None
    try:
        with atomic_path(path) as partial:
            try:
                for scores in _scores(parts):
                    chunk = list(islice(rows, scores.num_rows))
                    row_ids = scores.column("row_id").to_numpy()
                    if not np.array_equal([row.row_id for row in chunk], row_ids):
                        raise InputError(
                            f"{parts[0].parent}: the scores from row {row_ids[0]} on are not those of the corpus' next "
                            "rows; a part is missing: score into a new directory"
                        )
                    chosen = np.isin(row_ids, kept, assume_unique=True)
                    _count(rates, scores, axes, chosen)
                    if not chosen.any():
                        continue
                    table = _joined(chunk, chosen, columns, scores, None if writer is None else writer.schema)
                    writer = writer or pq.ParquetWriter(partial, table.schema, compression="zstd")
                    writer.write_table(table)
            finally:
                if writer is not None:
                    writer.close()
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    return rates


def _scores(parts: Sequence[Path]) -> Iterator[pa.Table]:
    for part in parts:
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(batch_size=ROW_GROUP, use_threads=False):
                yield pa.Table.from_batches([batch])


def _joined(
    rows: Sequence[Row], chosen: np.ndarray, columns: Sequence[str], scores: pa.Table, schema: pa.Schema | None
) -> pa.Table:
    kept = [row for row, inside in zip(rows, chosen, strict=True) if inside]
    own = scores.filter(pa.array(chosen))
    fields: dict[str, pa.Array] = {}
    for name in columns:
        if name in own.column_names:
            continue
        values = [None if row.fields is None else row.fields.get(name) for row in kept]
        try:
            fields[name] = pa.array(values, None if schema is None else schema.field(name).type)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            raise InputError(
                f"{kept[0].file}: field {name!r} changes its type near row {kept[0].position}, or holds what Parquet "
                "cannot; leave it out by naming other columns"
            ) from None
    return pa.table({**fields, **{name: own.column(name) for name in own.column_names}})


def _count(rates: Rates, scores: pa.Table, axes: Sequence[str], chosen: np.ndarray) -> None:
    usable = np.all([np.isfinite(values_of(scores, axis)) for axis in axes], axis=0)
    for name, (pool, kept) in rates.items():
        if scores.column(name).null_count < scores.num_rows:
            names = np.array(group_names(scores, name))
            pool.update(names[usable].tolist())
            kept.update(names[chosen].tolist())
