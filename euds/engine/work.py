"""The intermediate files of a scoring run: one per stage and shard, atomic, removed when the run is complete."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from euds.errors import InputError
from euds.files import atomic_path


class Work:
    """The folder `work/` of a run directory."""

    def __init__(self, run_dir: Path) -> None:
        self.folder = run_dir / "work"

    def path(self, stage: str, shard: int) -> Path:
        """Where a stage keeps its result for a shard."""
        return self.folder / f"{stage}-{shard:05d}.arrow"

    def done(self, stage: str, shard: int) -> bool:
        """Tell whether a stage has finished a shard."""
        return self.path(stage, shard).exists()

    def write(self, stage: str, shard: int, table: pa.Table, seconds: float) -> None:
        """Keep a stage's result and the seconds it took."""
        metadata = {**(table.schema.metadata or {}), b"seconds": repr(seconds).encode()}
        table = table.replace_schema_metadata(metadata)
        with atomic_path(self.path(stage, shard)) as partial, pa.ipc.new_file(str(partial), table.schema) as writer:
            writer.write_table(table)

    def read(self, stage: str, shard: int) -> pa.Table:
        """Read a stage's result."""
        with pa.memory_map(str(self.path(stage, shard))) as source:
            return pa.ipc.open_file(source).read_all()

    def seconds(self, stage: str, n_shards: int) -> float:
        """Sum the seconds a stage took over all shards, those of earlier, interrupted runs included."""
        total = 0.0
        for shard in range(n_shards):
            with pa.memory_map(str(self.path(stage, shard))) as source:
                total += float(pa.ipc.open_file(source).schema.metadata[b"seconds"])
        return total

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second run out of this directory; the kernel drops the lock when the process dies.

        Raises:
            InputError: another process is scoring into it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"{self.folder.parent}: another process is scoring into this directory") from None
            yield

    def remove(self) -> None:
        """Delete the folder; everything worth keeping is in its final place."""
        shutil.rmtree(self.folder, ignore_errors=True)
