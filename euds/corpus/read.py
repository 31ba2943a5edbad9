"""Read a corpus of many files as one sequence of rows with stable ids."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pyarrow as pa

from euds.corpus import columnar, delimited
from euds.corpus.inputs import reader
from euds.corpus.location import printable
from euds.corpus.row import Row, is_unicode
from euds.errors import InputError, nearest
from euds.progress import slow_bar


def read_rows(
    files: Sequence[Path], *, columns: Sequence[str] | None = None, start: int = 0, stop: int | None = None
) -> Iterator[Row]:
    """Yield the rows of a corpus, bad ones included.

    Args:
        files: as `list_inputs` gives them.
        columns: fields wanted, where the format can leave the others out; None: all.
        start: first row id.
        stop: row id after the last; None: to the end.

    Raises:
        InputError: a file cannot be read any further; the message names it.
    """
    row_id = 0
    for file in files:
        if stop is not None and row_id >= stop:
            return
        mark, n_rows = _find(file, max(start - row_id, 0))
        row_id += n_rows
        if mark is None:
            continue
        with closing(reader(file).Source(file, columns)) as source:
            for raw in source.rows(*mark):
                if stop is not None and row_id >= stop:
                    return
                yield Row(row_id, str(file), raw.position, raw.fields, raw.error)
                row_id += 1


def count_rows(files: Sequence[Path], reached: Callable[[int], None] = lambda start: None) -> int:
    """Count the rows of a corpus, bad ones included, without parsing them.

    Args:
        files: as `list_inputs` gives them.
        reached: told from time to time where the last row that was counted begins, as `Slice.start`.
    """
    n_rows = 0
    for file in files:
        for starts, _ in reader(file).marks(file):
            n_rows += len(starts)
            if len(starts):
                reached(int(starts[-1]))
    return n_rows


def field_names(files: Sequence[Path]) -> tuple[str, ...]:
    """Return the fields of all files: from schema or header, for JSONL from the first thousand good rows."""
    names: dict[str, None] = {}
    for file in files:
        names.update(dict.fromkeys(reader(file).field_names(file)))
    return tuple(names)


def field_types(files: Sequence[Path]) -> dict[str, pa.DataType]:
    """Return the types of the fields on which all files that have them agree; none if a file's format has no types."""
    found: dict[str, set[pa.DataType]] = {}
    for file in files:
        if reader(file) is not columnar:
            return {}
        for name, kind in columnar.field_types(file).items():
            found.setdefault(name, set()).add(kind)
    return {name: kinds.pop() for name, kinds in found.items() if len(kinds) == 1}


def check_inputs(files: Sequence[Path]) -> None:
    """Open every file.

    Raises:
        InputError: one is unreadable, or all are empty.
    """
    for file in files:
        reader(file).check(file)
    if not any(len(starts) for file in files for starts, _ in reader(file).marks(file)):
        raise InputError(f"{', '.join(map(str, files))}: the corpus is empty")


def check_fields(files: Sequence[Path], fields: Sequence[str]) -> None:
    """Check that every file has the fields.

    A JSONL file is read until each of them has been met. Without a single good row it passes: its rows are quarantined
    one by one.

    Raises:
        InputError: a file lacks one, and the message suggests the nearest; or a name is no Unicode text.
    """
    for field in fields:
        if not is_unicode(field):
            raise InputError(f"field {field!r}: the name holds lone surrogates, which are no Unicode text; name others")
    for file in files:
        names = reader(file).field_names(file, fields)
        for field in fields:
            if names and field not in names:
                known = ", ".join(map(printable, names))
                hint = delimited.separator_hint(names) if reader(file) is delimited else ""
                raise InputError(f"{file}: unknown field {field!r}{nearest(field, names)}; fields: {known}{hint}")


def take_rows(
    files: Sequence[Path], row_ids: Sequence[int], *, columns: Sequence[str] | None = None
) -> list[dict[str, object]]:
    """Return the fields of the given rows, in the order of `row_ids`, in one pass over the files, under a bar if slow.

    Args:
        files: as `list_inputs` gives them.
        row_ids: of the rows.
        columns: fields wanted; what is wrong with others does not matter where the format can leave them out. None:
            all.

    Raises:
        InputError: a row is not there or cannot be read, or the name of a field is no Unicode text.
    """
    wanted = {int(row_id) for row_id in row_ids}
    found: dict[int, dict[str, object]] = {}
    start, stop = min(wanted, default=0), max(wanted, default=-1) + 1
    with slow_bar("read", stop - start, "rows") as advance:
        for row in read_rows(files, columns=columns, start=start, stop=stop):
            advance(1)
            if row.row_id in wanted:
                if row.fields is None:
                    raise unreadable_row(row)
                names = row.fields if columns is None else columns
                _check_names(row, names)
                found[row.row_id] = {name: row.fields[name] for name in names if name in row.fields}
    missing = wanted - found.keys()
    if missing:
        raise InputError(f"row {min(missing)} is not in {', '.join(map(str, files))}; has the corpus changed?")
    return [found[int(row_id)] for row_id in row_ids]


def unreadable_row(row: Row) -> InputError:
    """Return what to raise for a row that cannot be read with the fields that are wanted."""
    return InputError(f"{row.file}, row {row.position}: {row.error}; leave such a field out by naming other columns")


def _check_names(row: Row, names: Iterable[str]) -> None:
    wrong = next((name for name in names if not is_unicode(name)), None)
    if wrong is not None:
        raise InputError(
            f"{row.file}, row {row.position}: the name of field {wrong!r} holds lone surrogates, which are no Unicode "
            "text; leave it out by naming the others with --columns"
        )


def _find(file: Path, row: int) -> tuple[tuple[int, int] | None, int]:
    """Return where a file's row begins, as `Source.rows` wants it, or None if there are fewer; and the rows before."""
    if row == 0:
        return (0, 1), 0
    before = 0
    for starts, positions in reader(file).marks(file):
        if row < before + len(starts):
            return (starts[row - before], positions[row - before]), row
        before += len(starts)
    return None, before
