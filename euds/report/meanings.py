"""What a report shows of sampled generations: how large their groups are, and some of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from euds.corpus import generations_path, meanings_path, read_parquet
from euds.errors import InputError, reason_of
from euds.files import storage_failure
from euds.types import Int64Array

GENERATION_CHARS = 200


@dataclass(frozen=True)
class Group:
    """One meaning of a row's generations.

    Attributes:
        texts: (text, times) in order of first appearance.
        size: generations in the group.
    """

    texts: Sequence[tuple[str, int]]
    size: int


@dataclass(frozen=True, eq=False)
class Meanings:
    """The groups of a run's generations; their texts stay in the run's files.

    Attributes:
        run_dir: of the run.
        sizes: groups by how many generations they have, over all rows.
        numbers: rows by how many groups they have.
        grouped: positions of the rows that have groups, ascending.
        starts: (shards + 1,) position of each shard's first row, and the number of rows.
    """

    run_dir: Path
    sizes: Mapping[int, int]
    numbers: Mapping[int, int]
    grouped: Int64Array
    starts: Int64Array

    def groups_of(self, positions: Int64Array) -> list[list[Group]]:
        """Return the groups of some rows that have them, the largest first; `positions` ascend.

        Raises:
            InputError: a part is missing or unreadable.
        """
        found = []
        shards = np.searchsorted(self.starts, positions, side="right") - 1
        for shard in np.unique(shards).tolist():
            places = pa.array(positions[shards == shard] - self.starts[shard])
            texts = _column(generations_path(self.run_dir, shard), "text")
            groups = _column(meanings_path(self.run_dir, shard), "group")
            rows = zip(texts.take(places).to_pylist(), groups.take(places).to_pylist(), strict=True)
            found += [_groups(*row) for row in rows]
        return found


def gather_meanings(run_dir: Path, manifest: Mapping[str, Any]) -> Meanings | None:
    """Count the groups of a run, a shard at a time; None for a run without.

    Raises:
        InputError: a part is missing or unreadable.
    """
    config = manifest["config"]
    if config.get("samples") is None:
        return None
    sizes: Counter[int] = Counter()
    numbers: Counter[int] = Counter()
    starts = [0]
    grouped = []
    for shard in range(-(-manifest["counts"]["rows"] // config["shard_rows"])):
        groups = _column(meanings_path(run_dir, shard), "group")
        rows = pc.list_parent_indices(groups).to_numpy()
        pairs, n_generations = np.unique(
            np.stack([rows, pc.list_flatten(groups).to_numpy()]), axis=1, return_counts=True
        )
        found, n_groups = np.unique(pairs[0], return_counts=True)
        sizes.update(n_generations.tolist())
        numbers.update(n_groups.tolist())
        grouped.append(found + starts[-1])
        starts.append(starts[-1] + len(groups))
    return Meanings(
        run_dir=run_dir,
        sizes=dict(sorted(sizes.items())),
        numbers=dict(sorted(numbers.items())),
        grouped=np.concatenate([np.array([], np.int64), *grouped]),
        starts=np.array(starts, np.int64),
    )


def _column(path: Path, name: str) -> pa.ChunkedArray:
    try:
        return read_parquet(path, columns=[name]).column(name)
    except (pa.ArrowInvalid, OSError) as error:
        raise storage_failure(path, error) or InputError(
            f"{path}: missing or unreadable ({reason_of(error)}); score into a new directory, or again with --force-new"
        ) from error


def _groups(texts: Sequence[str], numbers: Sequence[int]) -> list[Group]:
    counters: dict[int, Counter[str]] = {}
    for text, number in zip(texts, numbers, strict=True):
        counters.setdefault(number, Counter())[_shown(text)] += 1
    groups = [Group(list(counter.items()), counter.total()) for counter in counters.values()]
    return sorted(groups, key=lambda group: -group.size)


def _shown(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= GENERATION_CHARS else words[:GENERATION_CHARS].rstrip() + " …"
