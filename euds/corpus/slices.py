"""Cut a corpus into shards of so many rows, and read any of them without reading what is before it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from euds.corpus.inputs import reader
from euds.corpus.location import file_path, reading
from euds.corpus.raw import Source
from euds.corpus.row import Row
from euds.errors import InputError
from euds.files import storage_failure


@dataclass(frozen=True)
class Slice:
    """A run of rows of one file that can be read without reading what is before it.

    Attributes:
        file: path or URL of the file.
        start: where reading begins: byte offset of the first row's line (JSONL, CSV; in the uncompressed bytes of a
            compressed file), or 0-based number of the first row (Parquet, Arrow).
        position: 1-based line (JSONL) or row of the first row, as `Row.position`.
        n_rows: number of rows, bad ones included, at least 1.
        file_bytes: size of the file when it was cut, which shows whether it has changed since.
    """

    file: str
    start: int
    position: int
    n_rows: int
    file_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return the slice as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Slice":
        """Return the slice that `to_json` has described."""
        return cls(**value)


def cut(files: Sequence[Path], shard_rows: int) -> Iterator[tuple[Slice, ...]]:
    """Cut a corpus into shards in one pass, in memory that does not grow with it.

    Lines of JSON are not parsed, and of Parquet only the footer is read; CSV is parsed, as nothing else tells which
    newlines end a row.

    Args:
        files: as `list_inputs` gives them.
        shard_rows: rows of a shard, at least 1.

    Yields:
        The slices of each shard in order, at most one a file: exactly `shard_rows` rows together, bad ones included; in
        the last shard at least one.

    Raises:
        InputError: a file cannot be read any further; the message names it.
    """
    shard: list[Slice] = []
    room = shard_rows
    for file in files:
        empty = Slice(str(file), 0, 0, 0, _size(file))
        current = empty
        for starts, positions in reader(file).marks(file):
            at = 0
            while at < len(starts):
                if current.n_rows == 0:
                    current = replace(current, start=starts[at], position=positions[at])
                taken = min(room, len(starts) - at)
                current = replace(current, n_rows=current.n_rows + taken)
                at += taken
                room -= taken
                if room == 0:
                    yield (*shard, current)
                    shard, current, room = [], empty, shard_rows
        if current.n_rows:
            shard.append(current)
    if shard:
        yield tuple(shard)


def draw_sample(files: Sequence[Path], n: int, seed: int) -> tuple[tuple[int, ...], tuple[Slice, ...]]:
    """Draw rows at random, without replacement and each as likely, in one pass that parses no line of JSON.

    Args:
        files: as `list_inputs` gives them.
        n: rows wanted, at least 1.
        seed: of the draw; the same rows for the same seed.

    Returns:
        The number of rows of each file, bad ones included, and min(n, their sum) slices of one row each, in order.

    Raises:
        InputError: a file cannot be read any further; the message names it.
    """
    rng = np.random.default_rng(seed)
    n_rows = 0
    file_rows: list[int] = []
    # The n smallest of a random number per row: memory for n rows, whatever the corpus.
    kept: list[tuple[float, int, Slice]] = []
    for file in files:
        whole, first = Slice(str(file), 0, 0, 1, _size(file)), n_rows
        for starts, positions in reader(file).marks(file):
            draws = rng.random(len(starts))
            bound = kept[-1][0] if len(kept) == n else 1.0
            chosen = np.flatnonzero(draws < bound)
            for at in chosen[np.argsort(draws[chosen])][:n].tolist():
                one = replace(whole, start=starts[at], position=positions[at])
                kept.append((float(draws[at]), n_rows + at, one))
            kept = sorted(kept, key=itemgetter(0))[:n]
            n_rows += len(starts)
        file_rows.append(n_rows - first)
    return tuple(file_rows), tuple(one for _, _, one in sorted(kept, key=itemgetter(1)))


def splittable(file: Path) -> bool:
    """Whether slices of a file can be read apart at no extra cost.

    Of other files (compressed ones and Arrow streams), all that is before a slice is read again, unless the same
    `SliceReader` has just done so: let one read all the slices of such a file, in order.

    Raises:
        InputError: an Arrow file cannot be opened.
    """
    answer: bool = reader(file).splittable(file)
    return answer


class SliceReader:
    """Reads slices, and keeps the last file open, so that the next slice of it goes on where the last one ended."""

    def __init__(self, columns: Sequence[str] | None = None, optional: Collection[str] = ()) -> None:
        """Read the given fields, or all of them; a value of an optional one that cannot be read is null.

        Any other that cannot be read costs its row.
        """
        self._columns = columns
        self._optional = optional
        self._file: str | None = None
        self._source: Source | None = None

    def __enter__(self) -> "SliceReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file that is open, if any."""
        if self._source is not None:
            self._source.close()
        self._file = self._source = None

    def read(self, slices: Sequence[Slice], *, first_row_id: int) -> Iterator[Row]:
        """Yield the rows of a shard, bad ones included; read them all before the next call.

        Raises:
            InputError: a file cannot be read, or has changed since it was cut; the message names it.
        """
        row_id = first_row_id
        for piece in slices:
            end = row_id + piece.n_rows
            for raw in islice(self._open(piece).rows(piece.start, piece.position), piece.n_rows):
                yield Row(row_id, piece.file, raw.position, self._wanted(raw.fields), raw.error)
                row_id += 1
            if row_id < end:
                raise InputError(f"{piece.file}: {end - row_id} rows less than when it was cut; start a new run")

    def _wanted(self, fields: Mapping[str, object] | None) -> Mapping[str, object] | None:
        # A line is parsed whole, but memory should not hold what nobody asked for.
        if fields is None or self._columns is None:
            return fields
        return {name: fields[name] for name in self._columns if name in fields}

    def _open(self, piece: Slice) -> Source:
        if self._source is None or self._file != piece.file:
            self.close()
            path = file_path(piece.file)
            if _size(path) != piece.file_bytes:
                raise InputError(
                    f"{path}: {_size(path)} bytes, but {piece.file_bytes} when it was cut; start a new run"
                )
            self._source = reader(path).Source(path, self._columns, self._optional)
            self._file = piece.file
        return self._source


def _size(path: Path) -> int:
    try:
        with reading(path):
            return path.stat().st_size
    except OSError as error:
        raise storage_failure(path, error) or InputError(
            f"{path}: cannot be read: {error.strerror or error}"
        ) from error
