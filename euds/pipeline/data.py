"""Take the pool and the test rows that a recipe names, and put them beside the run, where every step reads them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from euds.corpus import check_fields, check_inputs, extract_text, list_inputs, open_manifest, read_rows
from euds.errors import InputError
from euds.files import has_json_lines, json_line, json_lines_sha256, permitted, write_json_lines
from euds.pipeline.recipe import Recipe, method_list
from euds.study.examples import check_labels, example_of
from euds.study.types import CLASSIFICATION


@dataclass(frozen=True)
class RunData:
    """The files of a run: the pool that is scored and selected from, and the untouched test rows."""

    pool: Path
    test: Path


def take_data(recipe: Recipe, *, instead: Path | None = None) -> RunData:
    """Write RUN_DIR/data/pool.jsonl and test.jsonl, each a seeded sample if the recipe limits it.

    Bad lines of the pool go along as they are: scoring quarantines them. A file that is there with the same content is
    left alone, so that a second run finds nothing changed.

    Args:
        recipe: what to take.
        instead: folder for what RUN_DIR lacks, which then stays as it is; None: RUN_DIR itself.

    Raises:
        InputError: an input or field is missing, a row that would be trained or tested on does not suit the task, or
            RUN_DIR was scored from other rows or takes no file.
    """
    data = recipe.data
    out = Path(recipe.out)
    pool, pool_labels = _lines(recipe, data.train, data.limit, of_pool=True)
    test, test_labels = _lines(recipe, data.test, data.test_limit, of_pool=False)
    # A pool without a row to learn from is told by scoring, which knows why.
    if recipe.task == CLASSIFICATION and pool_labels and test_labels:
        check_labels(pool_labels, test_labels)
    if (out / "manifest.json").exists() and json_lines_sha256(pool) not in _scored(out):
        # Written over, the rows that the run's scores belong to would be gone.
        raise InputError(
            f"{out}: holds a run over other rows than {data.train} gives now; choose another out, undo the change of "
            "the data, or delete the folder to start over"
        )
    paths = []
    for name, lines in (("pool.jsonl", pool), ("test.jsonl", test)):
        path = out / "data" / name
        if instead is not None and not has_json_lines(path, lines):
            path = instead / name
        with permitted(path):
            paths.append(write_json_lines(path, lines))
    return RunData(*paths)


def _scored(out: Path) -> set[str]:
    """Return the SHA-256 of each file that a run has scored."""
    return {entry["sha256"] for entry in open_manifest(out)["inputs"]}


def _lines(recipe: Recipe, spec: str, limit: int | None, *, of_pool: bool) -> tuple[list[str], set[str]]:
    """Return the rows as lines of JSON, and the labels among them."""
    task, sources = recipe.settled_task, [recipe.data.source_field] if recipe.data.source_field else []
    if not sources and any(method.group_by == "source" for method in method_list(recipe)):
        sources = ["source"]
    files = list_inputs([spec])
    check_inputs(files)
    # Test rows need no source: only the pool is selected from.
    check_fields(files, [*task.text_fields, task.label_field, *(sources if of_pool else [])])
    lines: list[str] = []
    labels: dict[int, str] = {}
    unsuited: dict[int, str] = {}
    for row in read_rows(files):
        where = f"{row.file}, row {row.position}"
        if row.fields is not None:
            # A row of the pool that has no text goes to quarantine, whatever else it has.
            if not of_pool or extract_text(row, task.text_fields)[0] is not None:
                try:
                    labels[len(lines)] = example_of(row.fields, task, where).label
                except InputError as error:
                    unsuited[len(lines)] = str(error)
            lines.append(json_line(row.fields))
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
    return [lines[at] for at in chosen], {labels[at] for at in chosen if at in labels}
