"""What is known of a finished part: an append-only manifest of small files, one a part, each atomic."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from euds.corpus.run_files import COUNTS
from euds.errors import InputError
from euds.files import file_sha256, has_kinds, read_json, write_json

REMEDY = "the same euds score makes it anew"
"""What helps where a record is damaged."""


@dataclass(frozen=True)
class Record:
    """A finished part.

    Attributes:
        shard: index of the shard and the part.
        bytes: size of the part file.
        sha256: hash of the part file.
        counts: rows, scored, quarantined, truncated, and tokens of the scored rows.
        quarantine: row_id, file, row and reason of every quarantined row.
        seconds: wall-clock seconds by stage.
        cost: what semantic entropy took, by part: tokens, pairs, seconds.
        finished: when, in seconds since the epoch.
        cache: texts that were found in the cache and that were not, by stage; nothing of a run without one.
        files: hashes of what else the run keeps of the shard, by path from the run directory; a record of an earlier
            version tells none.
    """

    shard: int
    bytes: int
    sha256: str
    counts: dict[str, int]
    quarantine: list[dict[str, Any]] = field(repr=False)
    seconds: dict[str, float]
    cost: dict[str, dict[str, Any]]
    finished: float
    cache: dict[str, dict[str, int]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


class Records:
    """The records of a run, in `work/records`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, record: Record) -> None:
        """Keep a record, after its part is on disk; a record that a power cut takes costs its shard once more."""
        write_json(self.path(record.shard), asdict(record), durable=False)

    def read(self, shard: int) -> Record | None:
        """Return a shard's record, or None.

        Raises:
            InputError: it is damaged; the message names it.
            RunStopped: the disk or file server failed.
        """
        path = self.path(shard)
        if not path.exists():
            return None
        try:
            found = read_json(path)
        except InputError as error:
            raise InputError(f"{error}; {REMEDY}") from None
        if not _is_record(found):
            raise InputError(f"{path}: is no record of a part; {REMEDY}")
        return Record(**found)

    def verified(self, shard: int, part: Path) -> bool:
        """Tell whether a shard is finished: its record is there and its part, and what belongs to it, as recorded.

        A damaged record counts as none.
        """
        try:
            record = self.read(shard)
        except InputError:
            return False
        if record is None:
            return False
        run_dir = self.folder.parent.parent
        files = {part: record.sha256, **{run_dir / name: sha256 for name, sha256 in record.files.items()}}
        return all(path.is_file() and file_sha256(path) == sha256 for path, sha256 in files.items())

    def each(self, n_shards: int) -> Iterator[Record]:
        """Yield the records that are there, in order."""
        for shard in range(n_shards):
            record = self.read(shard)
            if record is not None:
                yield record

    def path(self, shard: int) -> Path:
        """Where a shard's record is kept."""
        return self.folder / f"part-{shard:05d}.json"


def _is_record(value: object) -> bool:
    """Whether a value read from JSON is what `Records.write` writes."""
    kinds = {"shard": int, "bytes": int, "sha256": str, "counts": dict, "quarantine": list, "seconds": dict}
    return (
        has_kinds(value, {**kinds, "cost": dict, "finished": float})
        and value.keys() <= {field.name for field in fields(Record)}
        and has_kinds(value["counts"], dict.fromkeys(COUNTS, int))
        and all(has_kinds(entry, {"row_id": int, "reason": str}) for entry in value["quarantine"])
        and has_kinds({"files": {}, **value}, {"files": dict})
        and all(isinstance(sha256, str) for sha256 in value.get("files", {}).values())
    )
