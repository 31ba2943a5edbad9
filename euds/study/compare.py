"""Compare methods of selection: the same model, test rows and seeds for each, every cell trained once."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from euds.assets import content_sha256, tokenizer_sha256
from euds.errors import InputError
from euds.files import json_sha256, read_json, write_json
from euds.measures.models import model_folder
from euds.progress import say
from euds.study.examples import Rows, classes_of
from euds.study.types import (
    METRICS,
    CellResult,
    MethodRows,
    StudyRow,
    StudyTable,
    Task,
    TrainConfig,
    rows_sha256,
    spread,
)
from euds.types import Int64Array


def compare(
    pool: Rows,
    test: Rows,
    methods: Sequence[MethodRows],
    *,
    task: Task,
    config: TrainConfig,
    seeds: Sequence[int],
    full_rows: int,
    folder: Path,
    selected: Int64Array | None = None,
) -> StudyTable:
    """Fine-tune on every method's rows with every seed, and set the results side by side.

    A cell is kept in `folder`/cells under a hash of everything that decides it (rows, model, settings, seed, versions),
    so an interrupted study goes on where it was and a finished one is only read. Methods take turns within each seed,
    so that a machine growing slower meets all of them.

    Args:
        pool: rows by row id; every class among them has a place in each head.
        test: test rows; read only to measure.
        methods: row ids into `pool`.
        task: what is learned.
        config: how.
        seeds: training seeds.
        full_rows: rows that every method chose from.
        folder: where cells and table.json are kept.
        selected: row ids of the run's selection, by which a report knows whether the table is of that.

    Raises:
        InputError: a finished cell cannot be read; the message names its file.
    """
    model = model_folder(config.model)
    shared = {
        "task": [task.kind, *task.text_fields, task.label_field],
        "config": config.to_json(),
        "model": content_sha256(model),
        "tokenizer": tokenizer_sha256(model),
        "test": json_sha256(test),
        "versions": {package: version(package) for package in ("torch", "transformers")},
    }
    classes = classes_of(pool, task)
    # Others are known by the rows; without any, cells are named as before there were classes here.
    if untested := classes - classes_of(test, task):
        shared["classes"] = sorted(untested)
    results: dict[str, list[CellResult]] = {method.name: [] for method in methods}
    total = len(seeds) * len(methods)
    for n_seed, seed in enumerate(seeds):
        for n_method, method in enumerate(methods):
            rows = [pool[int(row_id)] for row_id in method.rows_for(seed)]
            path = folder / "cells" / f"{json_sha256({**shared, 'train': rows, 'seed': seed})[:24]}.json"
            title = f"[{n_seed * len(methods) + n_method + 1}/{total}] {method.name}, seed {seed}, {len(rows):,} rows"
            result = _cell(path, rows, test, task=task, config=config, seed=seed, title=title, classes=classes)
            results[method.name].append(result)
    table = StudyTable(
        task=task.kind,
        metrics=METRICS[task.kind],
        seeds=tuple(seeds),
        config=config.to_json(),
        full_rows=full_rows,
        n_test=len(test),
        methods=tuple(_summary(method, results[method.name], full_rows) for method in methods),
        selection_sha256=rows_sha256(selected),
    )
    write_json(folder / "table.json", table.to_json())
    return table


def _cell(
    path: Path,
    train: Rows,
    test: Rows,
    *,
    task: Task,
    config: TrainConfig,
    seed: int,
    title: str,
    classes: frozenset[str],
) -> CellResult:
    if path.exists():
        try:
            return CellResult(**read_json(path))
        except TypeError:
            raise InputError(f"{path}: not a finished cell; remove it, and the same command trains it again") from None
    # Loads torch and transformers; a study that is only read never gets here.
    from euds.study.cell import train_and_test

    result = train_and_test(train, test, task=task, config=config, seed=seed, title=title, classes=classes)
    write_json(path, result.to_json())
    metrics = ", ".join(f"{name} {value:.3f}" for name, value in result.metrics.items())
    say(f"{title}: {metrics} in {result.train_seconds:.0f} s")
    return result


def _summary(method: MethodRows, cells: Sequence[CellResult], full_rows: int) -> StudyRow:
    names = cells[0].metrics
    return StudyRow(
        name=method.name,
        rule=method.rule,
        axes=method.axes,
        rows=cells[0].n_train,
        keep=cells[0].n_train / full_rows,
        metrics={name: spread([cell.metrics[name] for cell in cells]) for name in names},
        train_seconds=spread([cell.train_seconds for cell in cells]),
        scoring_seconds=round(method.scoring_seconds, 2),
        search_seconds=round(method.search_seconds, 2),
        search=method.search,
    )
