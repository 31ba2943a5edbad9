"""The intermediate files of a scoring run: one per stage and shard, atomic, removed when the run is complete."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

import pyarrow as pa

from euds.corpus import generations_path, meanings_path
from euds.corpus.run_files import QUARANTINE_FILE
from euds.engine.records import Records
from euds.engine.split import Split
from euds.errors import InputError, RunStopped
from euds.files import (
    PARTIAL_PATTERN,
    PARTIAL_SUFFIX,
    atomic_path,
    file_sha256,
    letting_go,
    make_folder,
    needs_room,
    permitted,
    take_lock,
    write_atomic,
)

LOCK = "lock"
"""How the names of lock files begin."""

REMOVED = ".work.removed"
"""Name of the folder in a run directory while it is deleted."""

SHARDS_FILE = "shards.jsonl"
"""Name of the list of shards in the folder, which is cut once."""

POOL_FILE = "pool.json"
"""Name of the file in the folder that appears when the pool is fitted."""

SOURCE_COST_FILE = "source_cost.json"
"""Name of the file in the folder with what generations have cost the run that they are taken over from."""

BEGAN = "began"
"""How the names of files begin that tell when a process began with a step."""

OWN = (
    *(LOCK, f"{LOCK}-*", SHARDS_FILE, "records", PARTIAL_PATTERN),
    # Numbers of shards have five digits, or more of very many.
    *(f"*-{'[0-9]' * digits}.arrow" for digits in range(5, 10)),
    *("counts.npy", "words.arrow", "centroids.npy", POOL_FILE, SOURCE_COST_FILE, f"{BEGAN}-*"),
)
"""What a run keeps in the folder; whatever else is there is somebody's own."""

LOOK_SECONDS = 0.1
"""How long to wait for one that only looks, such as `euds status`, to let go of a lock."""

RESULT_SHA256 = b"result_sha256"
"""Key in the metadata of a stage's file: the hash of the result that the stage keeps in a folder of its own."""

RESULTS = {"generation": generations_path, "meanings": meanings_path}
"""Where the stages that do so keep their result for a shard, by run directory and shard; `work` has what it cost."""

RESULT_FOLDERS = ("generations", "meanings", "scores")
"""Where a scoring run keeps what it has found."""


class Work:
    """The folder `work/` of a run directory."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.folder = run_dir / "work"
        self.records = Records(self.folder / "records")
        self._hashes: dict[tuple[object, ...], str] = {}

    def path(self, stage: str, shard: int) -> Path:
        """Where a stage keeps its result for a shard."""
        return self.folder / f"{stage}-{shard:05d}.arrow"

    def done(self, stage: str, shard: int) -> bool:
        """Tell whether a stage has finished a shard; a file of it that is cut short counts as none.

        So does one beside which the stage's result lies no more as it was written.
        """
        try:
            expected = _metadata(self.path(stage, shard)).get(RESULT_SHA256)
            # A file of an earlier version does not tell.
            return expected is None or self._sha256(RESULTS[stage](self.run_dir, shard)).encode() == expected
        except (FileNotFoundError, NotADirectoryError, pa.ArrowInvalid):
            return False

    def write(self, stage: str, shard: int, table: pa.Table, seconds: float) -> None:
        """Keep a stage's result, or what it cost if that lies in a folder of its own, and the seconds it took."""
        metadata = {**(table.schema.metadata or {}), b"seconds": repr(seconds).encode()}
        if stage in RESULTS:
            metadata[RESULT_SHA256] = self._sha256(RESULTS[stage](self.run_dir, shard)).encode()
        table = table.replace_schema_metadata(metadata)
        with (
            atomic_path(self.path(stage, shard), durable=False) as partial,
            pa.ipc.new_file(str(partial), table.schema) as writer,
        ):
            writer.write_table(table)

    def read(self, stage: str, shard: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a stage's result: the given columns, at least one, or all of them."""
        # Not mapped into memory: a file server that goes away would end this process with SIGBUS.
        with pa.OSFile(str(self.path(stage, shard))) as source:
            file = pa.ipc.open_file(source)
            if columns is not None:
                fields = [file.schema.get_field_index(name) for name in columns]
                file = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=fields))
            return file.read_all()

    def seconds(self, stage: str, shard: int) -> float:
        """Return the seconds that a stage took for a shard."""
        return float(_metadata(self.path(stage, shard))[b"seconds"])

    def results(self, shard: int) -> dict[str, str]:
        """Return the hashes of a shard's results in folders of their own, as far as told, by path in the run directory.

        Raises:
            FileNotFoundError: the shard is not measured, or no more.
        """
        found = {}
        for stage, place in RESULTS.items():
            sha256 = _metadata(self.path(stage, shard)).get(RESULT_SHA256)
            if sha256 is not None:
                found[place(self.run_dir, shard).relative_to(self.run_dir).as_posix()] = sha256.decode()
        return found

    def drop(self, stage: str, shard: int) -> None:
        """Delete a stage's result for a shard."""
        self.path(stage, shard).unlink(missing_ok=True)

    @contextmanager
    def locked(self, split: Split | None = None) -> Iterator[None]:
        """Keep other runs out of this directory; the kernel drops the lock when the process dies.

        Args:
            split: None for a run that does everything; the runs of different pieces go side by side.

        Raises:
            InputError: another process is scoring into it, or pieces of another count are.
        """
        with ExitStack() as held:
            if split is None:
                held.enter_context(self._lock(LOCK, fcntl.LOCK_EX))
                self.sweep()
            else:
                held.enter_context(self._lock(LOCK, fcntl.LOCK_SH))
                with self.looking():
                    self._refuse_other_count(split)
                    held.enter_context(self._lock(f"{LOCK}-{split.index}-of-{split.count}", fcntl.LOCK_EX))
            yield

    @contextmanager
    def finished_alone(self) -> Iterator[None]:
        """Keep others from a finished run, to select and train from it; nothing of the lock is left in the end.

        Raises:
            InputError: another process is at it.
        """
        with self._lock(LOCK, fcntl.LOCK_EX):
            try:
                yield
            finally:
                self.remove()

    def running(self) -> list[str]:
        """Name the locks of the processes that are scoring into this directory; changes nothing."""
        return [path.name for path in (self.folder / LOCK, *self._piece_locks()) if _is_held(path)]

    def begin(self, step: str, split: Split | None = None) -> None:
        """Leave word that this process begins with a step now, by the clock that the shards' files have.

        Args:
            step: "score" or "finish".
            split: the piece that this process does; None: everything, and what pieces did before is of no account.
        """
        name = f"{BEGAN}-{step}"
        if split is None:
            for path in self.folder.glob(f"{name}*"):
                path.unlink(missing_ok=True)
        else:
            name += f"-{split.index}-of-{split.count}"
        write_atomic(self.folder / name, lambda handle: None)

    def began(self, step: str, locks: Sequence[str] = ()) -> list[float]:
        """Return when processes began with a step, each the last time.

        Args:
            step: as of `begin`.
            locks: of those processes, as `running` names them; none: of all that there have been.
        """
        names = [f"{BEGAN}-{step}{lock.removeprefix(LOCK)}" for lock in locks] or [f"{BEGAN}-{step}*"]
        found = (changed_at(path) for name in names for path in self.folder.glob(name))
        return [at for at in found if at is not None]

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
        if self.records.folder.is_file():
            # No record could be written.
            self.records.folder.unlink()
        folders = [*(self.run_dir / name for name in RESULT_FOLDERS), self.folder, self.records.folder]
        # In the run directory itself, a selection may be writing.
        own = [(self.run_dir, f".{name}{PARTIAL_SUFFIX}") for name in ("manifest.json", QUARANTINE_FILE)]
        for folder, pattern in [*own, *((folder, PARTIAL_PATTERN) for folder in folders)]:
            for partial in folder.glob(pattern):
                partial.unlink(missing_ok=True)

    def empty(self) -> None:
        """Delete everything of a run but the locks."""
        delete_folder(self.records.folder)
        for path in self.folder.iterdir():
            if path.is_file() and _is_own(path.name) and not path.name.startswith(LOCK):
                path.unlink()

    def is_foreign(self) -> bool:
        """Tell whether the folder holds files, and none of a run."""
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        return bool(names) and not any(map(_is_own, names))

    def remove(self) -> None:
        """Delete the folder; everything worth keeping is in its final place. The caller holds its lock.

        Where it holds files that no run has made, they stay, and so does the folder.
        """
        self._delete_removed()
        if not self.folder.exists():
            return
        names = [path.name for path in self.folder.iterdir()]
        if not all(map(_is_own, names)):
            # Locks go last: until then nobody else begins.
            for name in sorted(filter(_is_own, names), key=lambda name: name.startswith(LOCK)):
                delete(self.folder / name)
        else:
            # Gone at once: who comes meanwhile makes a folder and locks of its own, which are not deleted with it.
            self.folder.replace(self._removed)
            self._delete_removed()

    def remove_left(self) -> None:
        """Delete what a process that was killed, or only looked, has left of the folder; leave it if it is in use."""
        if self.folder.exists() or self._removed.exists():
            # Nothing is swept: `euds select` may be writing into the directory of a finished run.
            with suppress(InputError, RunStopped), self._lock(LOCK, fcntl.LOCK_EX):
                self.remove()

    def _sha256(self, path: Path) -> str:
        """Return the hash of a file, which is read once as long as it stays the same."""
        found = path.stat()
        key = (path, found.st_ino, found.st_size, found.st_mtime_ns)
        if key not in self._hashes:
            self._hashes[key] = file_sha256(path)
        return self._hashes[key]

    @property
    def _removed(self) -> Path:
        return self.run_dir / REMOVED

    def _delete_removed(self) -> None:
        delete_folder(self._removed)
        if self._removed.is_symlink():
            self._removed.unlink()

    def _piece_locks(self) -> list[Path]:
        return sorted(self.folder.glob(f"{LOCK}-*-of-*"))

    def _refuse_other_count(self, split: Split) -> None:
        for path in self._piece_locks():
            piece, _, count = path.name.removeprefix(f"{LOCK}-").partition("-of-")
            if count != str(split.count) and _is_held(path):
                raise InputError(
                    f"{self.run_dir}: piece {piece}/{count} is being scored into this directory; let it end before "
                    f"the run is split otherwise, or use --split I/{count}"
                )

    @contextmanager
    def _lock(self, name: str, kind: int, *, waits: bool = False) -> Iterator[None]:
        path = self.folder / name
        with self._open_lock(path) as handle, letting_go(handle):
            try:
                take_lock(path, handle, kind if waits else kind | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(LOOK_SECONDS)
                try:
                    take_lock(path, handle, kind | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise InputError(
                        f"{self.run_dir}: another process is scoring into this directory, or a recipe goes on there; "
                        "let it end, or stop it"
                    ) from None
            if _is_at(path, handle):
                yield
                return
        # Its folder was removed before it was locked, which excludes nobody.
        with self._lock(name, kind, waits=waits):
            yield

    def _open_lock(self, path: Path) -> IO[str]:
        while True:
            with needs_room(path), permitted(path):
                make_folder(self.folder)
                # Missing: the folder was removed after it was made.
                with suppress(FileNotFoundError):
                    # For reading, too, without which NFS shares no lock.
                    return path.open("w+")


def opens(path: Path) -> bool:
    """Tell whether a file is there and an Arrow file, as far as its ends show."""
    try:
        _metadata(path)
    except (FileNotFoundError, pa.ArrowInvalid):
        return False
    return True


def _metadata(path: Path) -> dict[bytes, bytes]:
    """Return the metadata of an Arrow file."""
    with pa.OSFile(str(path)) as source:
        return pa.ipc.open_file(source).schema.metadata or {}


def changed_at(path: Path) -> float | None:
    """Return when a file was last changed, by its own clock; None if it is not there."""
    try:
        return path.stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None


def delete(path: Path) -> None:
    """Delete a file, or a folder and what it holds."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def delete_folder(path: Path) -> None:
    """Delete a folder, if it is there; of a link, which may lead to a larger disk, only what the folder there holds."""
    if not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    elif path.is_dir():
        for child in path.iterdir():
            delete(child)


def _is_own(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in OWN)


def _is_held(path: Path) -> bool:
    """Whether a process has a lock for itself."""
    try:
        with path.open() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        # It is gone, or nobody can have a lock there.
        pass
    return False


def _is_at(path: Path, handle: IO[str]) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle.fileno()))
    except FileNotFoundError:
        return False
