"""What a report shows of sampled generations: how large their groups are, and some of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from euds.corpus import generations_path, meanings_path, read_parquet
from euds.errors import InputError
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
    """The groups of a run's generations.

    Attributes:
        sizes: groups by how many generations they have, over all rows.
        numbers: rows by how many groups they have.
        table: `row_id`, `text` and `group` of every row, null where there are none.
    """

    sizes: Mapping[int, int]
    numbers: Mapping[int, int]
    table: pa.Table

    def groups_of(self, at: int) -> list[Group]:
        """Return the groups of a row, the largest first."""
        texts: list[str] = self.table.column("text")[at].as_py()
        numbers: list[int] = self.table.column("group")[at].as_py()
        counters: dict[int, Counter[str]] = {}
        for text, number in zip(texts, numbers, strict=True):
            counters.setdefault(number, Counter())[_shown(text)] += 1
        groups = [Group(list(counter.items()), counter.total()) for counter in counters.values()]
        return sorted(groups, key=lambda group: -group.size)

    @property
    def grouped(self) -> Int64Array:
        """Positions of the rows that have groups."""
        return np.flatnonzero(self.table.column("group").is_valid().to_numpy())


def gather_meanings(run_dir: Path, manifest: Mapping[str, Any]) -> Meanings | None:
    """Read the generations and groups of a run; None for a run without.

    Raises:
        InputError: a part is missing or unreadable.
    """
    config = manifest["config"]
    if config.get("samples") is None:
        return None
    shards = range(-(-manifest["counts"]["rows"] // config["shard_rows"]))
    try:
        made = [read_parquet(generations_path(run_dir, shard), columns=["row_id", "text"]) for shard in shards]
        meant = [read_parquet(meanings_path(run_dir, shard), columns=["group"]) for shard in shards]
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{run_dir}: generations are unreadable: {str(error).splitlines()[0]}") from error
    table = pa.concat_tables(made).append_column("group", pa.concat_tables(meant).column("group"))
    counted = [Counter(groups) for groups in table.column("group").to_pylist() if groups is not None]
    return Meanings(
        sizes=dict(sorted(Counter(size for groups in counted for size in groups.values()).items())),
        numbers=dict(sorted(Counter(map(len, counted)).items())),
        table=table,
    )


def _shown(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= GENERATION_CHARS else words[:GENERATION_CHARS].rstrip() + " …"
