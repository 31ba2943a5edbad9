"""`euds study`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from euds.errors import InvalidArgument
from euds.files import check_place

if TYPE_CHECKING:
    from euds.study.grid.cells import Cell
    from euds.study.types import FineTuned


def study(
    files: Annotated[list[Path], typer.Argument(help="Studies, such as benchmarks/study/movies.yaml.")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting as key=value; repeat for several.")] = None,
    workers: Annotated[int | None, typer.Option(help="Training processes; one a core, or one with a GPU.")] = None,
    page: Annotated[str | None, typer.Option(help="Folder for a page made from the results of all files.")] = None,
    train: Annotated[bool, typer.Option(help="Train what is not finished; --no-train only makes the page.")] = True,
    rerun: Annotated[
        str | None, typer.Option(help="Train one finished cell again and compare: its name or 'random'.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would be done.")] = False,
) -> None:
    """Compare methods of selection by fine-tuning; the same command again goes on where it was."""
    from euds.report import check_installed
    from euds.study.grid.publish import check_page, make_page
    from euds.study.grid.run import rerun_cell, run_study

    overrides = set_ or []
    if not (train or dry_run or rerun is not None or page):
        raise InvalidArgument("page: name a folder with --page; without it --no-train leaves nothing to do")
    if rerun is not None and (dry_run or page or workers is not None or not train):
        raise InvalidArgument(
            "rerun: trains one cell and does nothing else; leave out --dry-run, --page, --workers and --no-train"
        )
    if workers is not None and not (train or dry_run):
        raise InvalidArgument("workers: --no-train trains nothing; leave out --workers")
    if dry_run and page is not None:
        raise InvalidArgument("page: a dry run makes none; leave out --page")
    if rerun is not None:
        for file in files:
            _rerun(*rerun_cell(file, overrides, rerun))
        return
    if page is not None:
        from euds.corpus.location import local_output

        folder = local_output(page, "a folder for the page", "page")
        # Not made yet: where the page cannot be made, no empty folder is left.
        check_place(folder)
        check_page(files, overrides, folder)
        check_installed("matplotlib")
    if (train or dry_run) and len(files) > 1:
        from euds.study.grid.checks import check_apart

        check_apart(files, overrides)
    if train and not dry_run and len(files) > 1:
        # Days may pass before the last file is read.
        for file in files:
            run_study(file, overrides, workers=workers, dry_run=True)
    if train or dry_run:
        for file in files:
            done = run_study(file, overrides, workers=workers, dry_run=dry_run)
            if not dry_run:
                typer.echo(f"{done.n_cells:,} cells, {done.n_trained:,} trained now: {done.cells_path}")
    if page is not None:
        typer.echo(make_page(files, overrides, folder))


def _rerun(cell: "Cell", tuned: "FineTuned") -> None:
    was, now = dict(cell.metrics["test"]), dict(tuned.judged["test"].metrics)
    typer.echo(f"{cell.cell} {cell.method}, keep {cell.keep}, {cell.schedule}, seed {cell.seed}: was {was}, is {now}")
    if was != now:
        from euds.study.grid.facts import processor

        if cell.processor != processor():
            recorded = cell.processor or "a processor that was not recorded"
            typer.echo(f"trained on {recorded}; this is {processor()}", err=True)
        raise typer.Exit(1)
