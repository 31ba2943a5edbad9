"""Read what a scored run directory holds, and write its Parquet files."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from euds.corpus.identity import identity
from euds.corpus.location import file_path, local_path, reading
from euds.errors import InputError, reason_of
from euds.files import (
    atomic_path,
    file_sha256,
    has_kinds,
    needs_storage,
    permitted,
    read_json,
    storage_failure,
)
from euds.types import ScoreResult

PARTS_FILE = "_parts.jsonl"
"""Beside the parts: rows, bytes and SHA-256 of each. Readers of a Parquet folder pass over a leading underscore."""


QUARANTINE_FILE = "quarantine.jsonl"

MANIFEST_FORMAT = 1
"""Counts up when what reads the manifests of before would misread those of now."""

MANIFEST_KEYS = {"format", "config", "fingerprint", "inputs", "finished"}
"""What the manifest of every run has, finished or not."""


COUNTS = ("rows", "scored", "quarantined", "truncated", "tokens")
"""What is counted of a finished run, and of each part."""


def open_manifest(run_dir: Path) -> dict[str, Any]:
    """Return the manifest of a run, finished or not.

    Raises:
        InputError: `run_dir` is no run directory or cannot be looked into, or its manifest is damaged or has the format
            of another version of euds.
        RunStopped: the disk or file server failed.
    """
    path = run_dir / "manifest.json"
    with permitted(path):
        if not path.exists():
            raise InputError(f"{run_dir}: not a run directory (no manifest.json); make one with: euds score")
        manifest = read_json(path)
    none = InputError(f"{path}: is no run's manifest; score into a new directory")
    if not isinstance(manifest, dict) or not manifest.keys() >= MANIFEST_KEYS:
        raise none
    if manifest["format"] != MANIFEST_FORMAT:
        raise InputError(
            f"{path}: has format {manifest['format']!r}, and this euds reads {MANIFEST_FORMAT}; read it with the "
            f"version that wrote it ({manifest.get('euds_version')}), or score anew with --force-new"
        )
    if not _is_sound(manifest):
        raise none
    return manifest


def _is_sound(manifest: Mapping[str, Any]) -> bool:
    """Whether a manifest of this format has what every reader of it takes for granted."""
    return (
        has_kinds(manifest, {"config": dict, "fingerprint": dict, "inputs": list})
        and has_kinds(manifest["config"], {"shard_rows": int})
        and all(has_kinds(entry, {"rows": int}) for entry in manifest["inputs"])
        and (not manifest["finished"] or has_kinds(manifest.get("counts"), dict.fromkeys(COUNTS, int)))
    )


def read_manifest(run_dir: Path) -> dict[str, Any]:
    """Return the manifest of a finished run.

    Raises:
        InputError: `run_dir` is no run directory, or its scoring has not finished.
        RunStopped: the disk or file server failed.
    """
    manifest = open_manifest(run_dir)
    if not manifest.get("finished"):
        raise InputError(
            f"{run_dir}: scoring has not finished; run the same euds score again, and every piece of a split run"
        )
    return manifest


def scored_inputs(run_dir: Path) -> dict[str, str]:
    """Return path and SHA-256 of each file that a run has scored or begun to; empty without a run.

    Raises:
        InputError: the run's manifest is damaged, cannot be read, or has the format of another version.
    """
    if not (run_dir / "manifest.json").exists():
        return {}
    return {entry["path"]: entry["sha256"] for entry in open_manifest(run_dir)["inputs"]}


def read_quarantine(run_dir: Path) -> Iterator[dict[str, Any]]:
    """Yield the quarantined rows of a finished run: row_id, file, row and reason.

    Raises:
        InputError: the file of them is gone or damaged.
        RunStopped: the disk or file server failed.
    """
    yield from _entries(run_dir / QUARANTINE_FILE, {"row_id": int, "reason": str})


def part_files(run_dir: Path) -> tuple[Path, ...]:
    """Return the part files that a finished run has recorded, in row order; whatever else lies beside them is none.

    Raises:
        InputError: the record of them is gone or damaged.
        RunStopped: the disk or file server failed.
    """
    return _paths(run_dir, _recorded_parts(run_dir))


def whole_parts(run_dir: Path) -> tuple[Path, ...]:
    """Return the part files of a finished run, in row order, after checking that they are those that were written.

    They are those that the run has recorded. Their rows are counted by what the footers say, and all bytes are hashed,
    which takes less time than to read them as tables: Parquet by itself would read many a changed byte as another
    score.

    Raises:
        InputError: the run has not finished, or a part is missing or damaged.
        RunStopped: the disk or file server failed.
    """
    expected = read_manifest(run_dir)["counts"]["rows"]
    recorded = _whole_record(run_dir, expected)
    parts = _paths(run_dir, recorded)
    with readable_scores(run_dir):
        n_rows = sum(pq.read_metadata(part).num_rows for part in parts if part.exists())
        if n_rows != expected:
            raise InputError(
                f"{run_dir}/scores: {n_rows} rows, but the manifest counts {expected}; "
                "a part is missing: score into a new directory"
            )
        _verify_hashes(run_dir, recorded)
    return parts


def run_folder(run_dir: str | Path | ScoreResult) -> Path:
    """Return the folder of a run, which its path names, with `~` for the home folder, or what `euds.score` returned.

    Raises:
        InvalidType: it is neither.
    """
    return local_path(run_dir.run_dir if isinstance(run_dir, ScoreResult) else run_dir)


def read_scores(run_dir: str | Path | ScoreResult) -> pa.Table:
    """Return the scores of a finished run, in row order, after checking that they are those that were written.

    Args:
        run_dir: finished run directory of `euds.score`, or what that returned.

    Returns:
        One line a row of the corpus, `row_id` its place from 0, so that the two can be put side by side; the other
        columns with their units are in docs/files.md. A row in quarantine has null scores.

    Raises:
        InputError: the run has not finished, or a part is missing or damaged.
        InvalidType: `run_dir` is neither.
        RunStopped: the disk or file server failed.
    """
    folder = run_folder(run_dir)
    parts = whole_parts(folder)
    with readable_scores(folder):
        return pa.concat_tables([read_parquet(part) for part in parts])


@contextmanager
def readable_scores(run_dir: Path) -> Iterator[None]:
    """Turn what reading a part raises into one error.

    Raises:
        InputError: the part is unreadable.
        RunStopped: the disk or file server failed.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        folder = run_dir / "scores"
        raise storage_failure(folder, error) or InputError(
            f"{folder}: unreadable: {reason_of(error)}; score into a new directory"
        ) from error


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one Parquet file, against the checksums of its pages if it has them.

    A folder of its path that is named key=value is no column of it.

    Raises:
        ArrowInvalid: it is damaged, or lacks a column.
        OSError: it cannot be read.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            lacking = set(columns or ()) - set(file.schema_arrow.names)
            if lacking:
                raise pa.ArrowInvalid(f"{path}: no column {', '.join(sorted(lacking))}")
            return file.read(columns)
    # What Arrow raises of a damaged file depends on where the damage is.
    except (LookupError, TypeError, ValueError, NotImplementedError) as error:
        raise pa.ArrowInvalid(reason_of(error)) from error


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a Parquet file atomically, with checksums of its pages; the same table gives the same bytes."""
    with atomic_path(path) as partial:
        pq.write_table(table, partial, compression="zstd", store_schema=False, write_page_checksum=True)


def generations_path(run_dir: Path, shard: int) -> Path:
    """Return where a run keeps the sampled generations of a shard."""
    return run_dir / "generations" / f"part-{shard:05d}.parquet"


def meanings_path(run_dir: Path, shard: int) -> Path:
    """Return where a run keeps the meaning groups of a shard's generations."""
    return run_dir / "meanings" / f"part-{shard:05d}.parquet"


def corpus_files(manifest: dict[str, Any]) -> tuple[Path, ...]:
    """Return the files that a run has scored, after checking that they are still the same.

    Raises:
        InputError: one is gone or has changed since.
        RunStopped: a disk, file server or remote store failed.
    """
    files = []
    for entry in manifest["inputs"]:
        file = file_path(entry["path"])
        with permitted(file), reading(file):
            if not file.exists():
                raise InputError(
                    f"{file}: the scored corpus is no longer there; if it was moved, repeat `euds score` with its new "
                    "place"
                )
        if identity(file, entry)["sha256"] != entry["sha256"]:
            raise InputError(f"{file}: has changed since it was scored; score it again into a new directory")
        files.append(file)
    return tuple(files)


def verify_parts(run_dir: Path) -> None:
    """Check that every part of a finished run is the one that was written, and its quarantined rows are there.

    Raises:
        InputError: a file is gone or damaged.
        RunStopped: the disk or file server failed.
    """
    _verify_hashes(run_dir, _whole_record(run_dir, open_manifest(run_dir)["counts"]["rows"]))
    if not (run_dir / QUARANTINE_FILE).exists():
        raise _damaged(run_dir / QUARANTINE_FILE)


def _whole_record(run_dir: Path, n_rows: int) -> list[dict[str, Any]]:
    """Return what is recorded of a finished run's parts, if they have all its rows together: lines may be missing."""
    recorded = _recorded_parts(run_dir)
    if sum(entry["rows"] for entry in recorded) != n_rows:
        raise _damaged(run_dir / "scores" / PARTS_FILE)
    return recorded


def _verify_hashes(run_dir: Path, recorded: Sequence[Mapping[str, Any]]) -> None:
    """Check that the parts of a finished run are as they were written."""
    for entry, part in zip(recorded, _paths(run_dir, recorded), strict=True):
        if not part.exists() or file_sha256(part) != entry["sha256"]:
            raise _damaged(part)


def _paths(run_dir: Path, recorded: Sequence[Mapping[str, Any]]) -> tuple[Path, ...]:
    return tuple(run_dir / "scores" / entry["part"] for entry in recorded)


def _recorded_parts(run_dir: Path) -> list[dict[str, Any]]:
    """Return what is recorded of each part of a finished run, in row order."""
    entries = _entries(run_dir / "scores" / PARTS_FILE, {"part": str, "rows": int, "sha256": str})
    # By number: part-100000 comes after part-10001.
    return sorted(entries, key=lambda entry: (len(entry["part"]), entry["part"]))


def _entries(path: Path, kinds: Mapping[str, type]) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines, each of which has at least keys of these kinds."""
    try:
        with needs_storage(path), path.open(encoding="utf-8") as lines:
            for line in lines:
                entry = json.loads(line)
                if not has_kinds(entry, kinds):
                    raise _damaged(path)
                yield entry
    except (FileNotFoundError, ValueError):
        raise _damaged(path) from None


def _damaged(path: Path) -> InputError:
    return InputError(f"{path}: missing or damaged; score into a new directory, or again with --force-new")
