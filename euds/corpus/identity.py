"""What tells that an input file is still the one that was scored."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from euds.corpus.read import count_rows
from euds.files import file_sha256

Identity = dict[str, Any]
"""path, bytes, sha256 and rows of a file, and modified_ns, by which the others need not be counted again."""


def identity(file: Path, known: Mapping[str, Any] | None = None) -> Identity:
    """Return a file's identity; `known`, an earlier one, is trusted if size and time of change are still its own."""
    state = file.stat()
    facts = {"path": str(file), "bytes": state.st_size, "modified_ns": _modified_ns(state)}
    if known is not None and facts["modified_ns"] is not None and facts.items() <= known.items():
        return dict(known)
    return {**facts, "sha256": file_sha256(file), "rows": count_rows([file])}


def identities(files: Sequence[Path], known: Sequence[Mapping[str, Any]] = ()) -> list[Identity]:
    """Return the identity of every file, from `known` where that still holds."""
    by_path = {entry["path"]: entry for entry in known}
    return [identity(file, by_path.get(str(file))) for file in files]


def _modified_ns(state: Any) -> int | None:
    """Nanoseconds since the epoch; None for a store that gives no time of change."""
    found = getattr(state, "st_mtime_ns", None)
    return None if found is None else int(found)
