"""What the tests of sampled generations share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SMALL = {"n_generations": 5, "max_new_tokens": 4}

Sample = Callable[..., list[dict[str, Any]]]
"""(name, settings, **arguments) -> scores of the corpus, scored into tmp_path/name."""


def table(run_dir: Path, folder: str) -> list[dict[str, Any]]:
    """Return the lines of a run's folder of part files."""
    parts = sorted((run_dir / folder).glob("part-*.parquet"))
    rows: list[dict[str, Any]] = pa.concat_tables([pq.read_table(part) for part in parts]).to_pylist()
    return rows
