"""Folders for temporary files, which do not outlive the processes that made them by much."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from euds.errors import RunStopped

RANDOM_PART = "?" * 8
"""What `tempfile` puts behind a prefix."""

YOUNG_SECONDS = 60
"""How long a folder may have been made and not be locked yet, even on a slow machine."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder for temporary files, and delete it in the end.

    Raises:
        RunStopped: there is no place for one.
    """
    try:
        place = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        # Python's word for it that none of the folders it knows took a file.
        raise RunStopped(
            f"temporary files: {error.strerror}; make room, or name another folder by TMPDIR, and give the same "
            "command again"
        ) from error
    with temporary_folder(place, ".euds-scratch-") as folder:
        yield folder


@contextmanager
def temporary_folder(place: Path, prefix: str) -> Iterator[Path]:
    """Make a folder of a name of its own in `place`, and delete it in the end; also those that killed processes left.

    A lock tells them apart: it goes with the process that holds it. Where there are none, what was left stays.
    """
    for left in place.glob(f"{prefix}{RANDOM_PART}"):
        # Also others' that may not be touched.
        with suppress(OSError), _open(left) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A folder made just now may not be locked yet.
            if time.time() - os.fstat(handle).st_mtime > YOUNG_SECONDS:
                shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=place, prefix=prefix) as name, _open(Path(name)) as handle:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield Path(name)


@contextmanager
def _open(folder: Path) -> Iterator[int]:
    """Give the handle of a folder."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield handle
    finally:
        os.close(handle)
