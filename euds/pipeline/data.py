"""Take the pool and the test rows that a recipe names, and put them beside the run, where every step reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from euds.corpus import (
    Row,
    check_fields,
    check_inputs,
    extract_scalar,
    extract_text,
    list_inputs,
    read_rows,
    scored_inputs,
)
from euds.corpus.location import leads_to
from euds.errors import InputError
from euds.files import file_sha256, has_json_lines, json_line, json_lines_sha256, permitted, write_json_lines
from euds.pipeline.checks import check_training
from euds.pipeline.recipe import Recipe, check_budgets
from euds.study.examples import Example, as_compared, check_learnable, example_of, warn_of_repeats
from euds.study.types import CLASSIFICATION

POOL, TEST = "pool.jsonl", "test.jsonl"
JSON_TYPES = (str, int, float, list, dict, type(None))


@dataclass(frozen=True)
class RunData:
    """The files of a run: the pool that is scored and selected from, and the untouched test rows.

    `budgets` are the rows that each method is to keep, as `check_budgets` has them.
    """

    pool: Path
    test: Path
    budgets: dict[str, int]


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of files: lines of JSON, examples where they have a text, and their texts as they are compared."""

    files: tuple[Path, ...]
    lines: list[str]
    examples: list[Example]
    texts: list[str]


def take_data(recipe: Recipe, *, instead: Path | None = None) -> RunData:
    """Write RUN_DIR/data/pool.jsonl and test.jsonl, each a seeded sample if the recipe limits it.

    Bad lines of the pool go along as they are: scoring quarantines them. A file that is there with the same content is
    left alone, so that a second run finds nothing changed. Counted aloud are rows of the pool that repeat a test row,
    and test rows with a label that no row of the pool has.

    Args:
        recipe: what to take.
        instead: folder for what RUN_DIR lacks, which then stays as it is; None: RUN_DIR itself.

    Raises:
        InvalidArgument: a method is to keep more rows than there are.
        InputError: an input or field is missing, a row that would be trained or tested on does not suit the task, the
            rows or the model cannot be trained, the pool has one label only, or RUN_DIR was scored from other rows,
            takes no file, or has a file of somebody's own where one would be written.
    """
    data = recipe.data
    out = Path(recipe.out)
    pool = _take(recipe, data.train, data.limit, of_pool=True)
    test = _take(recipe, data.test, data.test_limit, of_pool=False)
    # A pool without a row to learn from is told by scoring, which knows why.
    if recipe.task == CLASSIFICATION and pool.examples and test.examples:
        which = "all rows" if data.limit is None else "all rows of the sample that data.limit takes"
        check_learnable(pool.examples, test.examples, source=f"data.train: {data.train}", which=which)
    _check_places(recipe, pool, test)
    # A run whose table is there has been scored, and is read again without loading transformers.
    if pool.examples and test.examples and (instead is not None or not (out / "study" / "table.json").exists()):
        check_training(recipe, pool.examples, test.examples)
    warn_of_repeats(
        pool.texts, test.texts, of=f"{len(pool.lines):,} rows of the pool", flattered="the methods that keep them"
    )
    # Before the pool is written, which would stand in the way of the mended recipe.
    budgets = check_budgets(recipe, len(pool.lines))
    paths: dict[str, Path] = {}
    for name, lines in ((POOL, pool.lines), (TEST, test.lines)):
        path = out / "data" / name
        if instead is not None and not has_json_lines(path, lines):
            path = instead / name
        with permitted(path):
            paths[name] = write_json_lines(path, lines)
    return RunData(paths[POOL], paths[TEST], budgets)


def _check_places(recipe: Recipe, pool: _Rows, test: _Rows) -> None:
    """Refuse to write over what is not this run's: files that are read, files of somebody's own, a pool once scored."""
    out = Path(recipe.out)
    scored = scored_inputs(out)
    if scored and json_lines_sha256(pool.lines) not in scored.values():
        # Written over, the rows that the run's scores belong to would be gone.
        raise InputError(
            f"{out}: holds a run over other rows than {recipe.data.train} gives now; choose another out, undo the "
            "change of the data, or delete the folder to start over"
        )
    kept = out / "data" / POOL
    ours = str(kept.absolute()) in scored
    if scored and not ours and kept.is_file():
        # The run directory was moved, or goes by another name.
        with permitted(kept):
            ours = file_sha256(kept) in scored.values()
    for path, lines in ((kept, pool.lines), (out / "data" / TEST, test.lines)):
        with permitted(path):
            if not path.exists():
                continue
            if any(leads_to(path, file) for file in (*pool.files, *test.files)):
                raise InputError(f"{path}: is an input, and the run would write over it; choose another out")
            if not ours and not has_json_lines(path, lines):
                raise InputError(
                    f"{path}: holds other rows and is of no run; choose another out, or move the file away"
                )


def _take(recipe: Recipe, spec: str, limit: int | None, *, of_pool: bool) -> _Rows:
    task, sources = recipe.settled_task, [recipe.source_field] if recipe.source_field else []
    files = list_inputs([spec])
    check_inputs(files)
    # Test rows need no source: only the pool is selected from.
    check_fields(files, [*task.text_fields, task.label_field, *(sources if of_pool else [])])
    lines: list[str] = []
    examples: dict[int, Example] = {}
    texts: dict[int, str] = {}
    unsuited: dict[int, str] = {}
    for row in read_rows(files):
        where = f"{row.file}, row {row.position}"
        if row.fields is not None:
            fields = _as_json_has_them(row, task.text_fields, (task.label_field, recipe.source_field or "source"))
            # A row of the pool that has no text goes to quarantine, whatever else it has.
            text, _ = extract_text(row, task.text_fields)
            if text is not None:
                texts[len(lines)] = as_compared(text)
            if text is not None or not of_pool:
                try:
                    examples[len(lines)] = example_of(fields, task, where)
                except InputError as error:
                    unsuited[len(lines)] = str(error)
            lines.append(json_line(fields))
        elif of_pool:
            # Not JSON on purpose: it stays one bad row of the pool, with a reason.
            lines.append(f"{row.file} row {row.position}: {row.error}".replace("\n", " "))
        else:
            raise InputError(f"{where}: {row.error}; test rows must all be readable")
    chosen = range(len(lines))
    if limit is not None and limit < len(lines):
        chosen = np.sort(np.random.default_rng(recipe.data.seed).permutation(len(lines))[:limit]).tolist()
    for at in chosen:
        if at in unsuited:
            raise InputError(unsuited[at])
    return _Rows(
        files,
        [lines[at] for at in chosen],
        [examples[at] for at in chosen if at in examples],
        [texts[at] for at in chosen if at in texts],
    )


def _as_json_has_them(row: Row, text_fields: Sequence[str], carried: Sequence[str]) -> dict[str, object]:
    """Return a row's fields with what JSON lacks in a form that scoring takes as it takes the row itself.

    Bytes of a label or source become their text, as `extract_scalar` has it. In place of a text, bytes, dates and the
    like become an object, which is no text either: as strings they would be scored.
    """
    fields = dict(row.fields or {})
    for name in carried:
        if isinstance(fields.get(name), bytes):
            fields[name] = extract_scalar(row, name)
    for name in text_fields:
        value = fields.get(name)
        if not isinstance(value, JSON_TYPES):
            fields[name] = {type(value).__name__: str(value)}
    return fields
