"""Write the kept rows of a large corpus in one pass over it and its scores."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from euds.corpus import Row, field_names, read_rows, readable_scores, unreadable_row
from euds.corpus.arrow_types import many_categories
from euds.corpus.location import leads_to, local_output
from euds.corpus.nanoseconds import arrow_array, python_values
from euds.engine.forget import is_of_run
from euds.errors import InputError, InvalidArgument
from euds.files import check_place, permitted
from euds.selection.axes import values_of
from euds.selection.describe import NO_GROUP
from euds.selection.fields import VALUE_ERRORS, Fields, column_of
from euds.selection.kept_file import check_name, check_suffix, metadata_of
from euds.types import Int64Array

SELECTED = "selected.parquet"
"""Where a run directory has the rows of its selection."""

ROW_GROUP = 8192
"""Rows read, and at most written, at a time."""

GROUPED = ("label", "source")
REPEATED = ("id", *GROUPED)
"""Columns of the scores that repeat a field of the corpus, which may have another name there."""

Rates = dict[str, tuple[Counter[str], Counter[str]]]
"""Rows of the pool and kept ones, by name, for "label" and "source"; both empty where no row of the pool has one."""

Counts = dict[str, tuple[Counter[str | None], Counter[str | None]]]
"""The same while rows are counted; None is of those without a name."""


def output_path(folder: Path, out: str | Path | None, files: Sequence[Path], *, dry_run: bool = False) -> Path:
    """Return the file of the kept rows of a run; `folder`/selected.parquet if `out` is None.

    Args:
        folder: run directory.
        out: the file.
        files: the corpus.
        dry_run: nothing will be written, so that the folder of the file need not be one that may be written to.

    Raises:
        InvalidArgument: it is a folder, a file of the corpus or the run, which would be lost, of no known suffix, of a
            name too long for its record beside it, or no local path in UTF-8.
        InputError: its folder may not be written to.
    """
    path = folder / SELECTED if out is None else local_output(out, "a file for the kept rows")
    with permitted(path):
        if any(leads_to(path, file) for file in files):
            raise InvalidArgument(f"out: {path} is a file of the scored corpus; name another for the kept rows")
        if path.is_dir():
            raise InvalidArgument(
                f"out: {path} is a folder; name a file for the kept rows, such as {path / 'kept.parquet'}"
            )
    if _is_of_run(path, folder):
        raise InvalidArgument(f"out: {path} is a file of the run; name another for the kept rows")
    check_suffix(path)
    if not dry_run:
        check_place(path.parent)
        check_name(path)
    return path


def _is_of_run(path: Path, folder: Path) -> bool:
    """Whether a path leads to what a run keeps, but for the kept rows of an earlier selection."""
    target = Path(os.path.realpath(path))
    if str(target) == os.path.realpath(folder / SELECTED):
        return False
    # Where `euds run` keeps the rows that it tests on.
    return is_of_run(path, folder) or target.is_relative_to(os.path.realpath(folder / "data"))


def own_name(name: str, columns: Container[str]) -> str:
    """Return what a score is called beside fields of the corpus; rows of an earlier selection have such names, too."""
    while name in columns:
        name = f"euds_{name}"
    return name


def score_names(
    scores: Iterable[str], config: Mapping[str, Any], fields: Collection[str], files: Sequence[Path]
) -> dict[str, str]:
    """Return what each column of the scores is called beside fields of the corpus; what only repeats one is left out.

    Args:
        scores: columns of the scores.
        config: of the run.
        fields: of the corpus, as far as they are copied.
        files: the corpus.
    """
    corpus = set(field_names(files))
    called = {}
    for name in scores:
        field = config[f"{name}_field"] if name in REPEATED else name
        if field == name:
            if name in REPEATED and name in fields:
                continue
            called[name] = own_name(name, fields)
        elif name not in corpus and name not in fields:
            called[name] = name
        elif field is not None:
            # Even where it is not copied, the corpus' own field of that name is another one.
            called[name] = own_name(name, {*corpus, *fields})
    return called


def with_scores(columns: Mapping[str, pa.Array], kept: pa.Table, called: Mapping[str, str]) -> pa.Table:
    """Return fields of the corpus with the scores of the same rows behind them, called as `score_names` says."""
    return pa.table({**columns, **{own: kept.column(name) for name, own in called.items()}})


def write_rows(
    writer: "RowWriter",
    files: Sequence[Path],
    parts: Sequence[Path],
    kept: Int64Array,
    columns: Fields,
    called: Mapping[str, str],
    axes: Sequence[str],
    advance: Callable[[float], None],
) -> Rates:
    """Write fields of the corpus and scores of the kept rows, and count them by group.

    A field gets the type that holds all of its values, and keeps its name before a score's, as in `euds.select`.

    Args:
        writer: takes them.
        files: the corpus.
        parts: part files of the scores, in order.
        kept: row ids, ascending.
        columns: fields that the corpus has.
        called: columns of the scores, as `score_names` gives them.
        axes: score columns that a row of the pool has.
        advance: told the rows as they are read.

    Returns:
        The counts.

    Raises:
        InputError: a field cannot be read, or its rows have types that none holds.
    """
    counts: Counts = {name: (Counter(), Counter()) for name in GROUPED}
    # What the rows to come hold is not known, and nothing but the index type bounds how many categories.
    columns = {name: None if kind is None else many_categories(kind) for name, kind in columns.items()}
    rows = iter(read_rows(files, columns=list(columns)))
    for scores in _scores(parts):
        chunk = list(islice(rows, scores.num_rows))
        row_ids = scores.column("row_id").to_numpy()
        if not np.array_equal([row.row_id for row in chunk], row_ids):
            raise InputError(
                f"{parts[0].parent}: the scores from row {row_ids[0]} on are not those of the corpus' next "
                "rows; a part is missing: score into a new directory"
            )
        advance(len(row_ids))
        chosen = np.zeros(len(row_ids), np.bool_)
        begin, end = np.searchsorted(kept, (row_ids[0], row_ids[-1] + 1))
        chosen[kept[begin:end] - row_ids[0]] = True
        _count(counts, scores, axes, chosen)
        if not chosen.any():
            continue
        writer.write(_joined(chunk, chosen, columns, scores, called, writer.schema))
    return {name: _rates(*counted) for name, counted in counts.items()}


def _scores(parts: Sequence[Path]) -> Iterator[pa.Table]:
    for part in parts:
        with readable_scores(part.parent.parent), pq.ParquetFile(part) as file:
            for batch in file.iter_batches(batch_size=ROW_GROUP, use_threads=False):
                yield pa.Table.from_batches([batch])


def _joined(
    rows: Sequence[Row],
    chosen: np.ndarray,
    columns: Fields,
    scores: pa.Table,
    called: Mapping[str, str],
    schema: pa.Schema | None,
) -> pa.Table:
    kept = [row for row, inside in zip(rows, chosen, strict=True) if inside]
    for row in kept:
        if row.fields is None:
            raise unreadable_row(row)
    own = scores.filter(pa.array(chosen))
    fields: dict[str, pa.Array] = {}
    for name, kind in columns.items():
        values = [None if row.fields is None else row.fields.get(name) for row in kept]
        try:
            fields[name] = _column(values, kind, None if schema is None else schema.field(name))
        except VALUE_ERRORS:
            row = kept[_first_unlike(values, kind, None if schema is None else schema.field(name))]
            raise InputError(
                f"{row.file}: field {name!r} changes its type at row {row.position}, or holds what Parquet cannot; "
                "leave it out by naming other columns"
            ) from None
    return with_scores(fields, own, called)


def _first_unlike(values: list[object], kind: pa.DataType | None, before: pa.Field | None) -> int:
    """Return the place of the first of the values that make no column with those before it."""
    fits, fails = 0, len(values)
    while fails - fits > 1:
        middle = (fits + fails) // 2
        try:
            _column(values[:middle], kind, before)
            fits = middle
        except VALUE_ERRORS:
            fails = middle
    return fits


def _column(values: list[object], kind: pa.DataType | None, before: pa.Field | None) -> pa.Array:
    """Return the values in the type that holds them and those of the field before."""
    column = column_of(values, kind)
    if before is None or column.type == before.type:
        return column
    # Never built in the earlier type: it would cut 1.5 to 1, and leave out an object's new fields.
    if {column.type, before.type} == {pa.int64(), pa.uint64()}:
        return pa.array(values, pa.uint64())
    both = [pa.schema([before]), pa.schema([before.with_type(column.type)])]
    return arrow_array(values, pa.unify_schemas(both, promote_options="permissive").field(0).type)


class RowWriter:
    """Writes tables to a Parquet file; when one comes with wider types, the rows before it are written anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None

    @property
    def schema(self) -> pa.Schema | None:
        """Of the rows so far; None before the first."""
        return None if self._writer is None else self._writer.schema

    def write(self, table: pa.Table) -> None:
        """Append rows whose types are those of the rows before, or hold them.

        Raises:
            InputError: a number of the rows before has no exact place in its new type.
        """
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="zstd")
        elif self._writer.schema != table.schema:
            self._widen(table.schema)
        self._writer.write_table(table)

    def note(self, record: Mapping[str, Any]) -> None:
        """Put the record of the choice into the file, before it ends."""
        if self._writer is not None:
            self._writer.add_key_value_metadata(metadata_of(record))

    def close(self) -> None:
        """End the file."""
        if self._writer is not None:
            self._writer.close()

    def _widen(self, schema: pa.Schema) -> None:
        self.close()
        narrow = self._path.with_name(f"{self._path.stem}-narrow.partial")
        self._path.replace(narrow)
        try:
            self._writer = pq.ParquetWriter(self._path, schema, compression="zstd")
            with pq.ParquetFile(narrow) as file:
                for batch in file.iter_batches(batch_size=ROW_GROUP, use_threads=False):
                    self._writer.write_table(_widened(pa.Table.from_batches([batch]), schema))
        finally:
            narrow.unlink()


def _widened(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = []
    for field, column in zip(schema, table.columns, strict=True):
        try:
            # By way of Python's values, as no cast adds a field to objects in lists.
            columns.append(column if column.type == field.type else arrow_array(python_values(column), field.type))
        except VALUE_ERRORS:
            raise InputError(
                f"field {field.name!r} changes its type to {field.type}, which cannot hold some of the rows before; "
                "leave it out by naming other columns"
            ) from None
    return pa.table(columns, schema=schema)


def _count(counts: Counts, scores: pa.Table, axes: Sequence[str], chosen: np.ndarray) -> None:
    usable = np.all([np.isfinite(values_of(scores, axis)) for axis in axes], axis=0)
    for name, counted in counts.items():
        for counter, inside in zip(counted, (usable, chosen), strict=True):
            counter.update(scores.column(name).filter(pa.array(inside)).to_pylist())


def _rates(pool: Counter[str | None], kept: Counter[str | None]) -> tuple[Counter[str], Counter[str]]:
    """Return rows by name; none if only rows without a name were seen."""
    # Of the whole pool: rows without a name count where others have one, however far away.
    if set(pool) <= {None}:
        return Counter(), Counter()
    return _by_name(pool), _by_name(kept)


def _by_name(counted: Counter[str | None]) -> Counter[str]:
    named: Counter[str] = Counter()
    for name, n_rows in counted.items():
        named[NO_GROUP if name is None else name] += n_rows
    return named
