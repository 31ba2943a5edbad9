"""Scores of which parts are missing, damaged or others give no selection, read whole or in passes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
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
    said = r"whole/scores: unreadable: .*" if column is None else r"part-00003\.parquet: missing or damaged"
    with pytest.raises(InputError, match=f"{said}; score into a new directory") as raised:
        choose(select, whole)
    assert "\n" not in str(raised.value)
    assert not (whole / "selected.parquet").exists()


def other_scores(parts: Sequence[Path]) -> None:
    """Write the third part anew, with a score of the first row that is another one."""
    table = pq.read_table(parts[2])
    at = table.column_names.index("information_entropy_nats")
    values = table.column(at).to_pylist()
    pq.write_table(table.set_column(at, table.field(at), pa.array([9.0, *values[1:]], pa.float32())), parts[2])


def in_each_others_place(parts: Sequence[Path]) -> None:
    """Let two parts of as many rows change places."""
    contents = [part.read_bytes() for part in parts[2:4]]
    for part, content in zip(parts[2:4], reversed(contents), strict=True):
        part.write_bytes(content)


def twice(parts: Sequence[Path]) -> None:
    """Put a part in the place of another one of as many rows."""
    parts[2].write_bytes(parts[3].read_bytes())


@BOTH
@pytest.mark.parametrize("change", [other_scores, in_each_others_place, twice])
def test_parts_that_are_not_those_that_were_written_are_named(
    whole: Path, select: Select, change: Callable[[Sequence[Path]], None]
) -> None:
    change(part_files(whole))
    with pytest.raises(InputError, match=r"part-00002\.parquet: missing or damaged; score into a new directory, or ag"):
        choose(select, whole)
    assert not (whole / "selected.parquet").exists()


@BOTH
@pytest.mark.parametrize("lines", [None, 3])
def test_parts_that_nothing_tells_of_are_not_trusted(whole: Path, select: Select, lines: int | None) -> None:
    path = whole / "scores" / "_parts.jsonl"
    if lines is None:
        path.unlink()
    else:
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))
    with pytest.raises(InputError, match=r"_parts\.jsonl: missing or damaged; score into a new directory"):
        choose(select, whole)


@pytest.mark.parametrize("name", ["part-copy.parquet", "part-00099.parquet", "part-00003 (1).parquet"])
def test_what_else_lies_beside_the_parts_is_none(whole: Path, name: str) -> None:
    expected = choose(euds.select, whole).row_ids.tolist()
    (whole / "scores" / name).write_bytes(part_files(whole)[3].read_bytes())
    assert choose(euds.select, whole).row_ids.tolist() == expected
    assert len(choose(euds.select_streaming, whole).row_ids) == len(expected)
    assert euds.read_scores(whole).column("row_id").to_pylist() == list(range(152))


@BOTH
@pytest.mark.parametrize("line", ["{}", "[]", "7", '{"part": 7, "rows": 16, "sha256": ""}'])
def test_a_record_of_the_parts_that_is_other_json_is_named(whole: Path, select: Select, line: str) -> None:
    path = whole / "scores" / "_parts.jsonl"
    path.write_text(line + "\n" + path.read_text())
    with pytest.raises(InputError, match=r"_parts\.jsonl: missing or damaged; score into a new directory"):
        choose(select, whole)
