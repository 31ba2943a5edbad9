"""What is known of a finished part: an append-only manifest of small files, one a part, each atomic."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from euds.files import file_sha256, read_json, write_json

COUNTS = ("rows", "scored", "quarantined", "truncated", "tokens")


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


class Records:
    """The records of a run, in `work/records`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, record: Record) -> None:
        """Keep a record, after its part is on disk; a record that a power cut takes costs its shard once more."""
        write_json(self.path(record.shard), asdict(record), durable=False)

    def read(self, shard: int) -> Record | None:
        """Return a shard's record, or None."""
        path = self.path(shard)
        return Record(**read_json(path)) if path.exists() else None

    def verified(self, shard: int, part: Path) -> bool:
        """Tell whether a shard is finished: its record is there and its part is the one that was recorded."""
        record = self.read(shard)
        return record is not None and part.exists() and file_sha256(part) == record.sha256

    def each(self, n_shards: int) -> Iterator[Record]:
        """Yield the records that are there, in order."""
        for shard in range(n_shards):
            record = self.read(shard)
            if record is not None:
                yield record

    def path(self, shard: int) -> Path:
        """Where a shard's record is kept."""
        return self.folder / f"part-{shard:05d}.json"
