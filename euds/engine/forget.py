"""Delete what a scoring run has left in its directory, and nothing that is not of its making."""

import shutil
from pathlib import Path

from euds.engine.work import REMOVED, RESULT_FOLDERS, Work
from euds.errors import InputError

FILES = ("manifest.json", "quarantine.jsonl", "selection.json", "selected.parquet", "report.html")


def forget(run_dir: Path) -> None:
    """Make `run_dir` as if nothing had been scored into it.

    Raises:
        InputError: it holds files but no run, or another process is scoring into it.
    """
    if not run_dir.is_dir() or not any(run_dir.iterdir()):
        return
    check_forgettable(run_dir)
    work = Work(run_dir)
    with work.locked():
        # In this order: killed at any point, what is left is the old run, or none that another could go on with.
        work.empty()
        for name in FILES:
            (run_dir / name).unlink(missing_ok=True)
        # A study's results are of models that were trained on a selection from these scores. Scores go last: without a
        # manifest they keep another run from taking over what is left.
        for name in ("study", *RESULT_FOLDERS):
            shutil.rmtree(run_dir / name, ignore_errors=True)
        work.remove()


def check_forgettable(run_dir: Path) -> None:
    """Check that what a directory holds, if anything, is a run.

    Raises:
        InputError: it holds files but no run.
    """
    is_run = any((run_dir / name).exists() for name in ("manifest.json", "work", REMOVED))
    if run_dir.is_dir() and any(run_dir.iterdir()) and not is_run:
        raise InputError(f"{run_dir}: holds files but no run (no manifest.json); nothing was deleted")
