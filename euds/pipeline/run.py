"""`euds.run`: score a pool, select from it, fine-tune against baselines, report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from euds.corpus import corpus_files, list_inputs, read_manifest, read_rows, read_scores
from euds.engine.score import score
from euds.engine.work import Work
from euds.errors import InputError, names_of
from euds.files import read_json
from euds.measures.models import model_folder
from euds.pipeline.checks import check_scoring
from euds.pipeline.data import RunData, take_data
from euds.pipeline.methods import fully_scored, method_rows
from euds.pipeline.recipe import Recipe, load_recipe, method_list, selected_method
from euds.progress import say
from euds.report import check_installed, write_report
from euds.scratch import scratch_folder
from euds.selection.features import RunTexts
from euds.selection.rules import warn_of_one_row
from euds.selection.select import AUTO, select
from euds.study.compare import compare
from euds.study.types import StudyTable
from euds.types import ScoreResult, Selection


@dataclass(frozen=True, eq=False)
class RunResult:
    """What a recipe brought about.

    Attributes:
        run_dir: everything it wrote.
        scored: counts and seconds of scoring.
        selection: the selection that selected.parquet and the report show, or None if the recipe has no such method.
        table: the comparison of the methods.
        report: the report's path, or None if the recipe wants none.
    """

    run_dir: Path
    scored: ScoreResult
    selection: Selection | None
    table: StudyTable
    report: Path | None


def run(
    recipe: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, dry_run: bool = False
) -> RunResult | None:
    """Do what a recipe says; the same call again resumes, and repeats nothing that is done.

    Args:
        recipe: path of a YAML file, or its content as a mapping.
        overrides: settings as "key=value", dotted for inner ones: "select.keep=0.3".
        dry_run: check everything that can be known, say what would be done, and do nothing more.

    Returns:
        The results, or None for a dry run.

    Raises:
        InvalidArgument, InputError: the recipe or something it names is wrong, and the message says where; or no row of
            the pool could be scored, or another process is at work in its run directory.
        BackendUnavailable: generations are to be drawn by what is not installed.
        MissingExtra: a report is wanted, and the packages of the extra "report" are not installed.
        RunStopped: the disk is full, or a disk, file server or store failed; the same call resumes.
    """
    settings = load_recipe(recipe, names_of("overrides", overrides))
    model_folder(settings.train.model)
    if settings.report:
        # Told now, not after an hour.
        check_installed("jinja2", "matplotlib")
    check_scoring(settings)
    if dry_run:
        with scratch_folder() as scratch:
            data = take_data(settings, instead=scratch)
            _warn_of_one_row(settings)
            _score(settings, data, dry_run=True)
        names = ", ".join(f"{method.name} ({_kept(data.budgets.get(method.name))})" for method in method_list(settings))
        seeds = ", ".join(map(str, settings.seed_list))
        say(f"then compare {names} over seeds {seeds}")
        return None
    data = take_data(settings)
    _warn_of_one_row(settings)
    scored = _score(settings, data)
    run_dir = Path(settings.out)
    if not scored.n_scored:
        raise InputError(
            f"{run_dir}: no row has every score, so that there is nothing to select from; its quarantine.jsonl has the "
            "reasons"
        )
    # Two at once would train every cell twice, and each write over the other's selection and table.
    with Work(run_dir).finished_alone():
        # The pool is read again only if a method uses its labels or embeddings, and then once.
        manifest = read_manifest(run_dir)
        scores = read_scores(run_dir)
        texts = RunTexts(manifest, corpus_files(manifest), scores)
        # The selection is what the table shows to have been trained on: it chooses among the same rows.
        comparable = fully_scored(scores)
        selection = _select(settings, run_dir, texts, comparable)
        table = _compare(settings, data, run_dir, selection, texts, comparable)
        return RunResult(run_dir, scored, selection, table, write_report(run_dir) if settings.report else None)


def _warn_of_one_row(recipe: Recipe) -> None:
    for keep in dict.fromkeys([recipe.select.keep, *(method.keep for method in method_list(recipe))]):
        if keep is not None and keep != AUTO:
            warn_of_one_row(keep)


def _kept(budget: int | None) -> str:
    return "keep auto" if budget is None else f"keep {budget:,} row{'s' if budget != 1 else ''}"


def _score(recipe: Recipe, data: RunData, *, dry_run: bool = False) -> ScoreResult:
    return score(
        data.pool,
        out=recipe.out,
        cache=recipe.score.cache,
        cache_limit_gb=recipe.score.cache_limit_gb,
        dry_run=dry_run,
        **recipe.score_arguments,
    )


def _select(recipe: Recipe, run_dir: Path, texts: RunTexts, comparable: pa.Table) -> Selection | None:
    """Make the recipe's last method that looks at scores, IGSE by default, the run's selection."""
    method = selected_method(recipe)
    if method is None or method.rule is None:
        # That of an earlier recipe is none of this one's, and would stand in its report. The record goes first: killed
        # in between, it is not there without its rows, which a report would refuse.
        for name in ("selection.json", "selected.parquet"):
            (run_dir / name).unlink(missing_ok=True)
        return None
    keep = recipe.select.keep if method.keep is None else method.keep
    return select(
        run_dir,
        keep=keep,
        rule=method.rule,
        axes=method.axes,
        group_by=method.group_by,
        adjust=method.adjust,
        bins=method.bins,
        margin=recipe.select.margin if keep == AUTO else None,
        texts=texts,
        scores=comparable,
    )


def _compare(
    recipe: Recipe,
    data: RunData,
    run_dir: Path,
    selection: Selection | None,
    texts: RunTexts,
    comparable: pa.Table,
) -> StudyTable:
    manifest = read_json(run_dir / "manifest.json")
    pool = [{} if row.fields is None else dict(row.fields) for row in read_rows(list_inputs([data.pool]))]
    test = [dict(row.fields or {}) for row in read_rows(list_inputs([data.test]))]
    methods = method_rows(recipe, comparable, manifest["seconds"], selection=selection, texts=texts)
    train = recipe.train
    return compare(
        pool,
        test,
        methods,
        task=recipe.settled_task,
        config=train.config(epochs=train.epochs, steps=train.steps),
        seeds=recipe.seed_list,
        full_rows=comparable.num_rows,
        folder=run_dir / "study",
        selected=None if selection is None else selection.row_ids,
    )
