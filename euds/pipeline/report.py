"""`euds.write_report`: the report of a run, whose extra is asked for when it is called."""

from pathlib import Path


def write_report(run_dir: str | Path, *, examples: int = 8) -> Path:
    """Write `run_dir`/report.html, one file that needs no network, and return its path.

    It shows as much as the run has: scores always, the selection and the study where they are done.

    Args:
        run_dir: finished run directory.
        examples: texts to show of kept and of dropped rows each, >= 0; none where the corpus has moved or changed.

    Raises:
        InvalidArgument: `examples` is below 0.
        InvalidType: `run_dir` is no path.
        InputError: the run is not finished, its selected rows have changed since, or the page cannot be written.
        MissingExtra: the packages of the extra "report" are not installed.
    """
    from euds.report import write_report as write

    return write(run_dir, examples=examples)
