"""Put the kept rows of a selection, and the record of their choice, where they belong."""

import fcntl
import os
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from euds.errors import InputError
from euds.files import (
    PARTIAL_PATTERN,
    atomic_path,
    file_sha256,
    json_content,
    letting_go,
    may_write,
    own_partials,
    permitted,
    take_lock,
    write_atomic,
)
from euds.progress import say
from euds.selection.kept_file import in_format_of, record_beside
from euds.selection.rows import SELECTED, RowWriter, own_name

FORMAT = 1
"""Of selection.json."""


def place_selection(
    folder: Path, path: Path, columns: Container[str], fill: Callable[[RowWriter], Mapping[str, Any]]
) -> dict[str, Any]:
    """Write kept rows and the record of their choice; what a killed process left of such a file goes.

    Of selections of one run that end at once, the last leaves both.

    Args:
        folder: run directory.
        path: of the rows.
        columns: fields of the corpus among them.
        fill: writes them, and returns the record of the choice.

    Returns:
        The record as it is written: with its format, what the row ids are called, and file and SHA-256 of the rows.

    Raises:
        InputError: a file cannot be written, or a value has no place in the format of the rows.
    """
    with ExitStack() as held:
        with _appearing(path) as partial:
            with closing(RowWriter(partial)) as writer:
                record = {"format": FORMAT, **fill(writer), "row_id_column": own_name("row_id", columns)}
                writer.note(record)
            in_format_of(path, partial)
            # Of this very file: another selection may put its own in its place at any time.
            record |= {"selected_file": str(path.absolute()), "selected_sha256": file_sha256(partial)}
            # What cannot be recorded takes no earlier selection's place.
            content = json_content(record)
            held.enter_context(_alone(folder))
        _write_record(folder, path, content)
    return record


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """Give a temporary file for the kept rows, which becomes `path` at the end; what a killed process left goes.

    Raises:
        InputError: the file cannot be written.
    """
    _sweep(path)
    try:
        with atomic_path(path) as partial:
            yield partial
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for other selections of a run that are being put in place, and keep others waiting.

    The lock is that of the manifest, so that no other file is needed; a run directory that may only be read, or has no
    locks, goes without.
    """
    path = folder / "manifest.json"
    try:
        # For writing, too, without which NFS has no exclusive lock.
        handle = path.open("r+")
    except OSError:
        yield
        return
    with handle, letting_go(handle):
        with suppress(InputError):
            take_lock(path, handle, fcntl.LOCK_EX)
        yield


def _write_record(folder: Path, path: Path, content: bytes) -> None:
    """Write RUN_DIR/selection.json, as `json_content` has made it, and the same beside rows elsewhere than usual.

    A run directory that may not be written to goes without, which is said: the rows' own record tells of them.

    Args:
        folder: run directory.
        path: of the rows.
        content: the record.

    Raises:
        InputError: it cannot be written.
    """
    is_usual = os.path.realpath(path) == os.path.realpath(folder / SELECTED)
    places = ([] if is_usual else [record_beside(path)]) + [folder / "selection.json"]
    if not is_usual and not may_write(folder):
        places.pop()
        say(
            f"warning: {folder}: may not be written to, and keeps no record of this selection; {record_beside(path)} "
            "is it"
        )
    for place in places:
        with permitted(place):
            write_atomic(place, lambda handle: handle.write(content))


def _sweep(path: Path) -> None:
    """Delete what killed processes of this host have left of this file; one that is still writing keeps its own."""
    for partial in path.parent.glob(PARTIAL_PATTERN):
        process = partial.name.removeprefix(f".{path.name}.").partition("-")[0]
        # Of another host's processes nothing is known here.
        if not process.isdecimal() or not partial.name.startswith(own_partials(path, int(process))):
            continue
        if not psutil.pid_exists(int(process)):
            partial.unlink(missing_ok=True)
