"""What tells that an input file is still the one that was scored."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from euds.corpus.location import file_path, is_url, reading
from euds.corpus.read import count_rows
from euds.errors import InputError
from euds.files import file_sha256, storage_failure
from euds.progress import slow_bar

Identity = dict[str, Any]
"""path, bytes, sha256 and rows of a file, and what saves finding the last two again: `modified_ns`, its time of change
since the epoch or None, and `version`, if a remote store tells one."""

VERSION_KEYS = ("ETag", "etag", "Last-Modified")
"""What object stores and web servers tell apart the versions of a file by."""


def identity(file: Path, known: Mapping[str, Any] | None = None) -> Identity:
    """Return a file's identity; `known`, an earlier one, is trusted if size and time of change are still its own.

    Raises:
        InputError: the file is gone or cannot be read.
        RunStopped: a disk, file server or remote store failed.
    """
    return identities([file], [] if known is None else [known])[0]


def identities(files: Sequence[Path], known: Sequence[Mapping[str, Any]] = ()) -> list[Identity]:
    """Return the identity of every file, as `identity` does, under a bar where that takes a while."""
    by_path = {entry["path"]: entry for entry in known}
    found = [_still(facts, by_path.get(facts["path"])) or facts for facts in map(_facts, files)]
    unread = [at for at, facts in enumerate(found) if "sha256" not in facts]
    n_bytes = sum(found[at]["bytes"] for at in unread)
    # Each file is read twice.
    with slow_bar("hash and count", 2 * n_bytes / 1e6, "MB") as advance:
        for at in unread:
            found[at] |= _read(files[at], found[at]["bytes"], lambda more: advance(more / 1e6))
    return found


def check_unchanged(inputs: Sequence[Mapping[str, Any]]) -> None:
    """Check, without reading them, that files have the size and time of change of their identities.

    Raises:
        InputError: one has another, or is gone; the message names it.
        RunStopped: a disk, file server or remote store failed.
    """
    for entry in inputs:
        if not _facts(file_path(entry["path"])).items() <= entry.items():
            raise InputError(
                f"{entry['path']}: has changed while it was scored; the same command tells whether its content has, "
                "and --force-new starts over"
            )


def _still(facts: Identity, known: Mapping[str, Any] | None) -> Identity | None:
    """Return the known identity of a file with these facts, or None where that has to be read."""
    # Size alone tells too little: then the content is hashed again.
    tells_change = facts["modified_ns"] is not None or "version" in facts
    return dict(known) if known is not None and tells_change and facts.items() <= known.items() else None


def _read(file: Path, n_bytes: int, advance: Callable[[int], None]) -> dict[str, Any]:
    """Hash a file, and count its rows; each advances by its size."""
    with reading(file):
        sha256 = file_sha256(file, advance)
    counted = 0

    def reached(start: int) -> None:
        nonlocal counted
        # Of a compressed file a place in what it holds, and of a columnar one a row: near enough for a bar.
        advance(max(min(start, n_bytes) - counted, 0))
        counted = max(min(start, n_bytes), counted)

    n_rows = count_rows([file], reached)
    reached(n_bytes)
    return {"sha256": sha256, "rows": n_rows}


def _facts(file: Path) -> dict[str, Any]:
    """What is known of a file without reading it."""
    try:
        with reading(file):
            if is_url(file):
                # What a glob has listed tells how the file was then.
                cast(Any, file).fs.invalidate_cache()
            state = file.stat()
    except OSError as error:
        raise storage_failure(file, error) or InputError(
            f"{file}: cannot be read: {error.strerror or error}"
        ) from error
    return {"path": str(file), "bytes": state.st_size, "modified_ns": _modified_ns(state), **_version(state)}


def _modified_ns(state: Any) -> int | None:
    """Nanoseconds since the epoch; None for a store that gives no time of change, for which the library says 0."""
    return int(state.st_mtime_ns) or None


def _version(state: Any) -> dict[str, str]:
    """What a remote store calls this version of the file, under `version`; nothing where it tells nothing."""
    told = state.as_info() if hasattr(state, "as_info") else {}
    return next(({"version": str(told[key])} for key in VERSION_KEYS if told.get(key)), {})
