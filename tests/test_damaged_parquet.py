"""Parquet files whose footer is damaged give rows or one clear error, and never end the process."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from euds.corpus import read_rows
from euds.errors import InputError


def test_a_damaged_footer_gives_rows_or_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"film {at}" for at in range(40)], "label": list(range(40))}), path)
    content = path.read_bytes()
    end = len(content) - 8
    refused = []
    for at in range(end - int.from_bytes(content[end : end + 4], "little"), end):
        # What pyarrow does not check where a column is asked for by its number aborts the process.
        for flip in (1, 4, 64):
            path.write_bytes(content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :])
            try:
                list(read_rows([path]))
            except InputError as error:
                refused.append(str(error))
    assert len(refused) > 100
    assert all("a.parquet" in said for said in refused)
