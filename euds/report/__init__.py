"""One self-contained HTML file about a run: what was scored, what was kept, what it bought, what it cost."""

from importlib.util import find_spec
from pathlib import Path

from euds.errors import MissingExtra
from euds.types import ScoreResult


def check_installed(*packages: str) -> None:
    """Refuse to go on without packages of the extra "report", before work starts that would end there.

    Raises:
        MissingExtra: one of them is not installed.
    """
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtra(package, "report")


def write_report(run_dir: str | Path | ScoreResult, *, examples: int = 8) -> Path:
    """Write `run_dir`/report.html, one file that needs no network, and return its path.

    It shows as much as the run has: scores always, the selection and the study where they are done.

    Args:
        run_dir: finished run directory of `euds.score`, or what that returned.
        examples: texts to show of kept and of dropped rows each, >= 0; none where the corpus has moved or changed.

    Raises:
        InvalidArgument: `examples` is below 0.
        InvalidType: `run_dir` is neither.
        InputError: the run is not finished, its selected rows have changed since, or the page cannot be written.
        MissingExtra: the packages of the extra "report" are not installed.
    """
    check_installed("jinja2", "matplotlib")
    from euds.report.write import write

    return write(run_dir, examples)
