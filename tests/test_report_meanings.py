"""What a report says of sampled generations: counts over all shards, texts of the rows it shows."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from euds.corpus import generations_path, meanings_path
from euds.errors import InputError
from euds.report.meanings import Group, gather_meanings

Row = tuple[list[str], list[int]] | None
"""Texts and group numbers; None for a row without generations."""


def write_run(run_dir: Path, shards: list[list[Row]]) -> dict[str, Any]:
    for shard, rows in enumerate(shards):
        columns = {"text": (pa.string(), 0), "group": (pa.int32(), 1)}
        for (name, (kind, at)), path in zip(columns.items(), (generations_path, meanings_path), strict=True):
            values = pa.array([row and row[at] for row in rows], pa.list_(kind))
            path(run_dir, shard).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table({name: values}), path(run_dir, shard))
    config = {"samples": {}, "shard_rows": len(shards[0])}
    return {"config": config, "counts": {"rows": sum(map(len, shards))}}


def test_counts_of_all_shards_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    rows: list[Row] = [
        None if rng.random() < 0.3 else (["a"] * 5, rng.integers(0, 4, 5).tolist()) for _ in range(7 * 9 + 2)
    ]
    meanings = gather_meanings(tmp_path, write_run(tmp_path, [rows[at : at + 7] for at in range(0, len(rows), 7)]))
    assert meanings is not None
    counted = [Counter(row[1]) for row in rows if row is not None]
    assert meanings.sizes == dict(sorted(Counter(size for groups in counted for size in groups.values()).items()))
    assert meanings.numbers == dict(sorted(Counter(map(len, counted)).items()))
    assert meanings.grouped.tolist() == [at for at, row in enumerate(rows) if row is not None]


def test_groups_of_rows_come_from_their_own_shards_the_largest_first(tmp_path: Path) -> None:
    shards: list[list[Row]] = [
        [None, (["yes", "no", "no"], [0, 1, 1])],
        [None, None],
        [(["  so\n so", "so so", "x" * 300], [0, 0, 2])],
    ]
    meanings = gather_meanings(tmp_path, write_run(tmp_path, shards))
    assert meanings is not None
    first, last = meanings.groups_of(np.array([1, 4]))
    assert first == [Group([("no", 2)], 2), Group([("yes", 1)], 1)]
    assert last == [Group([("so so", 2)], 2), Group([("x" * 200 + " …", 1)], 1)]


def test_a_run_in_which_no_row_has_generations(tmp_path: Path) -> None:
    meanings = gather_meanings(tmp_path, write_run(tmp_path, [[None, None], [None]]))
    assert meanings is not None
    assert (meanings.sizes, meanings.numbers, meanings.grouped.tolist()) == ({}, {}, [])
    assert gather_meanings(tmp_path, {"config": {"samples": None}}) is None


@pytest.mark.parametrize("path", [generations_path, meanings_path])
def test_damaged_parts_are_named(tmp_path: Path, path: Any) -> None:
    manifest = write_run(tmp_path, [[(["a"], [0])], [(["b"], [0])]])
    path(tmp_path, 1).write_bytes(b"PAR1")
    told = rf"{path(tmp_path, 1)}: missing or unreadable \(Parquet .*\); score into a new directory, or again with"
    with pytest.raises(InputError, match=told):
        gather_meanings(tmp_path, manifest).groups_of(np.array([1]))  # type: ignore[union-attr]  # There are samples.
