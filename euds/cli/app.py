"""The `euds` command: registers the verbs and turns errors into one line and an exit code."""

import signal
import sys
from collections.abc import Callable
from importlib import import_module
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.markup import escape

from euds.cli import assets, doctor, estimate, finetune, pipeline, score, select, study
from euds.cli.options import BAD_INPUT
from euds.errors import EudsError, RunStopped
from euds.files import machine_failure
from euds.progress import console

app = typer.Typer(
    name="euds",
    help="Score a text corpus with three entropies, keep the samples worth training on, test that by fine-tuning.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"euds {import_module('euds').__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Say the version and exit.")
    ] = False,
) -> None:
    """Take what stands before a verb."""


VERBS: dict[str, tuple[Callable[..., None], str]] = {
    "fetch": (assets.fetch, "Bring models and data sets into the cache, or list them."),
    "estimate": (estimate.estimate, "Say what scoring a corpus would take, from a sample."),
    "score": (score.score, "Give every sample its entropies; repeat to resume."),
    "status": (score.status, "Say how far a run has come."),
    "select": (select.select, "Choose rows from the scores, without scoring again."),
    "finetune": (finetune.finetune, "Fine-tune a small model on selected rows and test it."),
    "study": (study.study, "Compare methods of selection over a grid; repeat to go on."),
    "run": (pipeline.run, "Do a recipe: score, select, fine-tune, report."),
    "report": (pipeline.report, "Write RUN_DIR/report.html anew."),
    "demo": (pipeline.demo, "Fetch models and data, and run the sentiment recipe."),
    "bench": (doctor.bench, "Run benchmarks of the source tree."),
    "doctor": (doctor.doctor, "Say what is installed and what this machine can run."),
}
"""The verbs, each with its line in the list of all."""

for verb, (function, line) in VERBS.items():
    app.command(verb, short_help=line)(function)

TRY_AGAIN = 75
"""EX_TEMPFAIL of sysexits.h."""

RESUMED = ("score", "run", "study", "demo")
"""The verbs that go on where they were when they are called again."""

ENDED_BY = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class _Ended(BaseException):
    """A signal asks for the end; no KeyboardInterrupt, which typer would answer by itself."""


def main() -> None:
    """Run the command line.

    Exit codes: 0 done, 1 a defect (with its traceback), 2 bad input or arguments, or input of which no row could be
    scored, 75 stopped by the machine (full disk, killed process, failing disk or file server), 130 interrupted
    (Ctrl-C), 143 terminated (SIGTERM). After 75, 130 and 143 the same command resumes, if its verb is one of `RESUMED`;
    the others start over.
    """
    for number in ENDED_BY:
        # A shell's background job, or nohup, has it ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    try:
        app()
    except EudsError as error:
        _fail(error)
    except Exception as error:
        failure = machine_failure(error)
        if failure is None:
            raise
        _fail(failure)
    except _Ended as ended:
        (number,) = ended.args
        # No option of euds stands before the verb.
        resumes = any(verb in RESUMED for verb in sys.argv[1:2])
        console.print(ENDED_BY[number] + ("; the same command resumes" if resumes else ""))
        sys.exit(128 + number)
    finally:
        # Python drops its handlers as it leaves; a first signal that comes then finds everything done.
        for number in ENDED_BY:
            if signal.getsignal(number) is _end:
                signal.signal(number, signal.SIG_IGN)


def _fail(error: EudsError) -> NoReturn:
    console.print(f"error: {escape(str(error))}", soft_wrap=True)
    sys.exit(TRY_AGAIN if isinstance(error, RunStopped) else BAD_INPUT)


def _end(number: int, frame: FrameType | None) -> None:
    # The next one ends the process without waiting for anything.
    signal.signal(number, signal.SIG_DFL)
    raise _Ended(signal.Signals(number))


if __name__ == "__main__":
    main()
