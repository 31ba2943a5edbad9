"""Delete what a scoring run has left in its directory, and nothing that is not of its making."""

import os
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from euds.corpus import open_manifest
from euds.corpus.location import is_url
from euds.corpus.run_files import PARTS_FILE
from euds.engine.segments import is_segment
from euds.engine.work import LOCK, OWN, REMOVED, RESULT_FOLDERS, SHARDS_FILE, Work, delete
from euds.errors import InputError
from euds.files import PARTIAL_PATTERN, permitted

FOLDERS = {
    "study": ("cells", "table.json", PARTIAL_PATTERN),
    **dict.fromkeys(RESULT_FOLDERS, ("part-*", PARTS_FILE, PARTIAL_PATTERN)),
}
"""Folders of results, and what a run keeps there; a study's are of models that were trained on a selection from these
scores."""

MARKS = (REMOVED, f"work/{LOCK}", f"work/{SHARDS_FILE}", f"scores/{PARTS_FILE}")
"""What only a run leaves; a `work` or `manifest.json` may be anybody's."""

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
        # Scores go last: without a manifest they keep another run from taking over what is left.
        for name, patterns in FOLDERS.items():
            _delete_own(run_dir / name, patterns)
        work.remove()


def check_forgettable(run_dir: Path) -> None:
    """Check that what a directory holds, if anything, is a run.

    Raises:
        InputError: it holds files but no run, or cannot be looked into.
    """
    with permitted(run_dir):
        forgettable = not run_dir.is_dir() or not any(run_dir.iterdir()) or is_run(run_dir)
    if not forgettable:
        raise InputError(f"{run_dir}: holds files but no run; nothing was deleted, choose another --out")


def check_unneeded(run_dir: Path, needed: Iterable[Path]) -> None:
    """Check that `forget` deletes nothing that the new run reads.

    Raises:
        InputError: an input or model lies among what is deleted; the message names it.
    """
    for path in needed:
        if not is_url(path) and is_of_run(path, run_dir):
            raise InputError(f"{path}: --force-new would delete it with the run; move it, or choose another --out")


def is_of_run(path: Path, run_dir: Path) -> bool:
    """Whether a path leads to what a run keeps or into one of its folders; links count as what they lead to."""
    own = {os.path.realpath(run_dir / name) for name in (*FILES, *FOLDERS, "work", REMOVED)}
    target = Path(os.path.realpath(path))
    return not own.isdisjoint(map(str, (target, *target.parents)))


def made_by_run(run_dir: Path) -> Callable[[Path], bool]:
    """Return what tells of a file whether a run in that directory makes it, or keeps it in a cache, by place and name.

    Other files in a run's folders are somebody's own, as `forget` has it; links count as what they lead to.
    """
    files = {os.path.realpath(run_dir / name) for name in FILES}
    patterns = {**FOLDERS, "work": OWN, REMOVED: ("*",)}
    folders = {os.path.realpath(run_dir / name): kept for name, kept in patterns.items()}

    def is_made(file: Path) -> bool:
        target = Path(os.path.realpath(file))
        return (
            str(target) in files
            or is_segment(target)
            or any(
                fnmatchcase(path.name, pattern)
                for path in (target, *target.parents)
                for pattern in folders.get(str(path.parent), ())
            )
        )

    return is_made


def _delete_own(folder: Path, patterns: Iterable[str]) -> None:
    """Delete what matches, and the folder if nothing is left and it is no link."""
    for path in [path for pattern in patterns for path in folder.glob(pattern)]:
        delete(path)
    if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
        folder.rmdir()


def is_run(run_dir: Path) -> bool:
    """Whether a directory holds a run, finished or not, or what is left of one."""
    if any((run_dir / name).exists() for name in MARKS):
        return True
    try:
        open_manifest(run_dir)
    except InputError:
        return False
    return True
