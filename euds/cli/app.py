"""The `euds` command: registers the verbs and turns errors into one line and an exit code."""

import sys

import typer
from rich.markup import escape

from euds.cli import assets, doctor, estimate, pipeline, score, select, study
from euds.errors import EudsError
from euds.progress import console

app = typer.Typer(
    name="euds",
    help="Score a text corpus with three entropies, keep the interval worth training on, prove it by fine-tuning.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("fetch")(assets.fetch)
app.command("estimate")(estimate.estimate)
app.command("score")(score.score)
app.command("status")(score.status)
app.command("select")(select.select)
app.command("finetune")(study.finetune)
app.command("run")(pipeline.run)
app.command("report")(pipeline.report)
app.command("demo")(pipeline.demo)
app.command("bench")(doctor.bench)
app.command("doctor")(doctor.doctor)

BAD_INPUT = 2
INTERRUPTED = 130


def main() -> None:
    """Run the command line; exit code 2 for bad input, 130 when interrupted."""
    try:
        app()
    except EudsError as error:
        console.print(f"error: {escape(str(error))}", soft_wrap=True)
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        console.print("interrupted; the same command resumes")
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
