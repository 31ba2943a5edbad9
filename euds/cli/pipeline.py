"""`euds run`, `euds report` and `euds demo`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from euds.cli.score import say_why

if TYPE_CHECKING:
    from euds.pipeline.run import RunResult


def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as examples/sentiment.yaml.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings as key=value, such as select.keep=0.3.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would be done.")] = False,
) -> None:
    """Score, select, fine-tune against baselines and report; the same command again resumes."""
    from euds.pipeline.run import run as run_recipe

    show(run_recipe(recipe, overrides or [], dry_run=dry_run))


def report(
    run_dir: Annotated[Path, typer.Argument(help="A scored run directory.")],
    examples: Annotated[int, typer.Option(help="Kept and dropped texts to show.")] = 8,
) -> None:
    """Write RUN_DIR/report.html anew, one file that needs no network."""
    from euds.report import write_report

    typer.echo(write_report(run_dir, examples=examples))


def demo(
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings as key=value, such as out=elsewhere.")] = None,
) -> None:
    """Fetch two small models and a labelled data set, then run the sentiment recipe; minutes on a laptop."""
    from euds.pipeline.demo import demo as run_demo

    show(run_demo(overrides or []))


def show(result: "RunResult | None") -> None:
    """Print the table of a run and where its report lies."""
    if result is None:
        return
    from rich.console import Console

    from euds.study.table import render

    Console(emoji=False).print(render(result.table))
    scored = result.scored
    typer.echo(f"{scored.n_scored:,} rows scored, {scored.n_quarantined:,} quarantined; run directory {result.run_dir}")
    if scored.n_quarantined:
        say_why(result.run_dir)
    if result.report is not None:
        typer.echo(f"report: {result.report}")
