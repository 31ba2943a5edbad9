"""Scores of which parts are missing or damaged give no selection, read whole or in passes."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import euds
from euds.corpus import part_files
from euds.errors import InputError

BOTH = pytest.mark.parametrize("select", [euds.select, euds.select_streaming])
Select = Callable[..., euds.Selection]


def choose(select: Select, run_dir: Path) -> euds.Selection:
    """Select a tenth of the rows."""
    return select(run_dir, keep=0.1, rule="low", axes=["information"], columns=["text"])


@BOTH
@pytest.mark.parametrize("gone", [slice(-1, None), slice(1), slice(None)])
def test_a_missing_part_is_named_and_no_pool_without_it_is_selected_from(
    whole: Path, select: Select, gone: slice
) -> None:
    for part in part_files(whole)[gone]:
        part.unlink()
    with pytest.raises(InputError, match=r"scores: \d+ rows, but the manifest counts 152; a part is missing: score"):
        choose(select, whole)
    assert not (whole / "selected.parquet").exists()


@BOTH
@pytest.mark.parametrize("column", [None, "information_entropy_nats", "n_bytes"])
def test_a_damaged_part_is_one_line(whole: Path, select: Select, column: str | None) -> None:
    part = part_files(whole)[3]
    content = bytearray(part.read_bytes())
    if column is None:
        content = content[: len(content) // 2]
    else:
        group = pq.read_metadata(part).row_group(0)
        chunk = next(found for at in range(group.num_columns) if (found := group.column(at)).path_in_schema == column)
        begin = chunk.dictionary_page_offset or chunk.data_page_offset
        content[begin : begin + 20] = b"\xff" * 20
    part.write_bytes(content)
    with pytest.raises(InputError, match=r"whole/scores: unreadable: .*; score into a new directory") as raised:
        choose(select, whole)
    assert "\n" not in str(raised.value)
    assert not (whole / "selected.parquet").exists()
