"""Shards: which rows are scored together, and where they are read."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from euds.corpus import Slice, cut, file_path, splittable
from euds.files import write_atomic

MIN_ROWS, MIN_QUICK_ROWS, MAX_ROWS = 1024, 8192, 16384
AIMED_SHARDS = 1024
"""Shards of `shard_rows=None`: so small that a crash costs little, so few that a billion rows are no burden. A GPU
waits some 75 ms between two of them; an H200 reads a thousand rows with SmolLM2-135M in a third of a second, with the
1.7B in 1.6 s. A CPU without a model takes 30 ms for a thousand rows, and 10 ms more for their files."""

SHARD_BYTES = 1 << 26
"""Most bytes of input of such a shard, by the mean of the corpus: of long texts, memory must hold a shard's tokens and
words, a crash costs little, and every worker has some. Rows of less than 4 KiB on the average never reach it."""


@dataclass(frozen=True)
class Shard:
    """A shard descriptor: all that a process anywhere needs to find the shard's rows.

    Attributes:
        index: number of the part file.
        first_row_id: id of its first row; ids count over all files in order.
        slices: where its rows lie, in order.
    """

    index: int
    first_row_id: int
    slices: tuple[Slice, ...]

    @property
    def n_rows(self) -> int:
        """Rows of the shard, bad ones included."""
        return sum(part.n_rows for part in self.slices)

    def to_json(self) -> dict[str, Any]:
        """Return the descriptor as plain JSON types."""
        slices = [part.to_json() for part in self.slices]
        return {"index": self.index, "first_row_id": self.first_row_id, "slices": slices}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Shard":
        """Return the descriptor that `to_json` gave."""
        return cls(value["index"], value["first_row_id"], tuple(map(Slice.from_json, value["slices"])))


def default_shard_rows(n_rows: int, n_bytes: int, *, quick: bool) -> int:
    """Return the power of two up to 16,384 that gives about a thousand shards: at least 1,024, or fewer of long texts.

    Args:
        n_rows: of the corpus, at least 1.
        n_bytes: that its files hold; where shards would have more than 64 MiB of them on the average, they get as few
            rows as it takes, at least 1.
        quick: whether a GPU reads the texts and generates none, or no model runs; a shard then has 8,192 rows or more.
    """
    rows = MIN_QUICK_ROWS if quick else MIN_ROWS
    while rows < MAX_ROWS and rows * AIMED_SHARDS < n_rows:
        rows *= 2
    while rows > 1 and min(rows, n_rows) * n_bytes > SHARD_BYTES * n_rows:
        rows //= 2
    return rows


def cut_shards(files: Sequence[Path], shard_rows: int) -> Iterator[Shard]:
    """Yield the shards of a corpus in order, each of `shard_rows` rows but the last."""
    first_row_id = 0
    for index, slices in enumerate(cut(files, shard_rows)):
        shard = Shard(index, first_row_id, slices)
        yield shard
        first_row_id += shard.n_rows


def tasks(shards: Sequence[Shard]) -> Iterator[tuple[Shard, ...]]:
    """Group shards for workers: one by one, but those of a compressed file, which cannot be entered midway, together.

    A shard that ends in another file than it begins in ends its group, or files whose ends are no shards' ends would
    all be one: what follows reads again less than a shard of that file.
    """
    group: list[Shard] = []
    # Asked of an Arrow file, it is opened.
    enterable = cache(lambda file: splittable(file_path(file)))
    for shard in shards:
        if group and (not _continues(group[-1], shard) or enterable(shard.slices[0].file)):
            yield tuple(group)
            group = []
        group.append(shard)
    if group:
        yield tuple(group)


def largest_task(files: Sequence[Path], file_rows: Sequence[int], shard_rows: int) -> int:
    """Return the rows of the largest of the `tasks` of a corpus, without cutting it.

    Args:
        files: of the corpus, in order.
        file_rows: rows of each, not all 0.
        shard_rows: rows of a shard.
    """
    ends = np.cumsum(file_rows)
    starts = np.arange(0, ends[-1], shard_rows)
    stops = np.minimum(starts + shard_rows, ends[-1])
    first, last = (np.searchsorted(ends, rows, side="right") for rows in (starts, stops - 1))
    stays = (first[:-1] == last[:-1]) & (last[:-1] == first[1:])
    enterable = cache(lambda file: splittable(files[file]))
    stays[stays] = [not enterable(file) for file in first[1:][stays].tolist()]
    task = np.cumsum(np.concatenate(([False], ~stays)))
    return int(np.bincount(task, weights=stops - starts).max())


def _continues(before: Shard, shard: Shard) -> bool:
    """Whether a shard begins in the one file that the shard before it lies in."""
    return before.index + 1 == shard.index and before.slices[0].file == before.slices[-1].file == shard.slices[0].file


def write_shards(path: Path, shards: Sequence[Shard]) -> None:
    """Keep the descriptors, a line each, atomically."""

    def write(handle: Any) -> None:
        for shard in shards:
            handle.write(json.dumps(shard.to_json(), ensure_ascii=False).encode() + b"\n")

    write_atomic(path, write)


def read_shards(path: Path) -> tuple[Shard, ...]:
    """Read what `write_shards` wrote; of a file that is missing or damaged, nothing."""
    try:
        with path.open(encoding="utf-8") as lines:
            return tuple(Shard.from_json(json.loads(line)) for line in lines)
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return ()
