"""Take the pool and the test rows that a recipe names, and put them beside the run, where every step reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from euds.corpus import check_fields, check_inputs, list_inputs, read_rows
from euds.errors import InputError
from euds.files import json_line, write_json_lines
from euds.pipeline.recipe import Recipe


@dataclass(frozen=True)
class RunData:
    """The files of a run: the pool that is scored and selected from, and the untouched test rows."""

    pool: Path
    test: Path


def take_data(recipe: Recipe) -> RunData:
    """Write RUN_DIR/data/pool.jsonl and test.jsonl, each a seeded sample if the recipe limits it.

    Bad lines of the pool go along as they are: scoring quarantines them. A file that is there with the same content is
    left alone, so that a second run finds nothing changed.

    Raises:
        InputError: an input or field is missing, or the test file has a bad row.
    """
    data = recipe.data
    folder = Path(recipe.out) / "data"
    fields = [*recipe.settled_task.text_fields, recipe.settled_task.label_field]
    # Test rows need no source: only the pool is selected from.
    pool_fields = [*fields, *([data.source_field] if data.source_field else [])]
    pool = _lines(data.train, pool_fields, data.limit, data.seed, keep_bad=True)
    test = _lines(data.test, fields, data.test_limit, data.seed, keep_bad=False)
    return RunData(write_json_lines(folder / "pool.jsonl", pool), write_json_lines(folder / "test.jsonl", test))


def _lines(spec: str, fields: Sequence[str], limit: int | None, seed: int, *, keep_bad: bool) -> list[str]:
    files = list_inputs([spec])
    check_inputs(files)
    check_fields(files, fields)
    lines = []
    for row in read_rows(files):
        if row.fields is not None:
            lines.append(json_line(row.fields))
        elif keep_bad:
            # Not JSON on purpose: it stays one bad row of the pool, with a reason.
            lines.append(f"{row.file} row {row.position}: {row.error}".replace("\n", " "))
        else:
            raise InputError(f"{row.file}, row {row.position}: {row.error}; test rows must all be readable")
    if limit is None or limit >= len(lines):
        return lines
    chosen = np.sort(np.random.default_rng(seed).permutation(len(lines))[:limit])
    return [lines[int(at)] for at in chosen]
