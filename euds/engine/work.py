"""The intermediate files of a scoring run: one per stage and shard, atomic, removed when the run is complete."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pyarrow as pa

from euds.engine.records import Records
from euds.engine.split import Split
from euds.errors import InputError
from euds.files import PARTIAL_PATTERN, atomic_path, needs_room

LOCK = "lock"
"""How the names of lock files begin."""

RESULT_FOLDERS = ("generations", "meanings", "scores")
"""Where a scoring run keeps what it has found."""


class Work:
    """The folder `work/` of a run directory."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.folder = run_dir / "work"
        self.records = Records(self.folder / "records")

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
        with (
            atomic_path(self.path(stage, shard), durable=False) as partial,
            pa.ipc.new_file(str(partial), table.schema) as writer,
        ):
            writer.write_table(table)

    def read(self, stage: str, shard: int) -> pa.Table:
        """Read a stage's result."""
        with pa.memory_map(str(self.path(stage, shard))) as source:
            return pa.ipc.open_file(source).read_all()

    def seconds(self, stage: str, shard: int) -> float:
        """Return the seconds that a stage took for a shard."""
        with pa.memory_map(str(self.path(stage, shard))) as source:
            return float(pa.ipc.open_file(source).schema.metadata[b"seconds"])

    def drop(self, stage: str, shard: int) -> None:
        """Delete a stage's result for a shard."""
        self.path(stage, shard).unlink(missing_ok=True)

    @contextmanager
    def locked(self, split: Split | None = None) -> Iterator[None]:
        """Keep other runs out of this directory; the kernel drops the lock when the process dies.

        Args:
            split: None for a run that does everything; the runs of different pieces go side by side.

        Raises:
            InputError: another process is scoring into it.
        """
        with ExitStack() as held:
            if split is None:
                held.enter_context(self._lock(LOCK, fcntl.LOCK_EX))
                self.sweep()
            else:
                held.enter_context(self._lock(LOCK, fcntl.LOCK_SH))
                held.enter_context(self._lock(f"{LOCK}-{split.index}-of-{split.count}", fcntl.LOCK_EX))
            yield

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Let one process at a time look at what the others have done, and act on it; waits for its turn."""
        with self._lock(f"{LOCK}-look", fcntl.LOCK_EX, waits=True):
            yield

    def finishing(self) -> AbstractContextManager[None]:
        """Make this process the one that finishes the run.

        Raises:
            InputError: another one is at it.
        """
        return self._lock(f"{LOCK}-finish", fcntl.LOCK_EX)

    def sweep(self) -> None:
        """Delete what killed processes have left half-written; nobody else may be writing."""
        kept = (self.run_dir / name for name in RESULT_FOLDERS)
        for folder in (self.run_dir, *kept, self.folder, self.records.folder):
            for partial in folder.glob(PARTIAL_PATTERN):
                partial.unlink(missing_ok=True)

    def empty(self) -> None:
        """Delete everything but the locks."""
        shutil.rmtree(self.records.folder, ignore_errors=True)
        for path in self.folder.iterdir():
            if not path.name.startswith(LOCK):
                path.unlink()

    def remove(self) -> None:
        """Delete the folder; everything worth keeping is in its final place."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def _lock(self, name: str, kind: int, *, waits: bool = False) -> Iterator[None]:
        path = self.folder / name
        with needs_room(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = path.open("w")
        with handle:
            try:
                fcntl.flock(handle, kind if waits else kind | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"{self.run_dir}: another process is scoring into this directory") from None
            yield
