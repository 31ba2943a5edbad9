"""Files that appear whole or not at all, and content hashes."""

import errno
import fcntl
import hashlib
import io
import json
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeGuard

from euds.errors import InputError, InvalidType, RunStopped, is_of_the_work, reason_of

if TYPE_CHECKING:
    import numpy as np

PARTIAL_SUFFIX = f".[0-9]*-{'[0-9a-f]' * 14}.partial"
"""How such a name ends behind that of the file: process, host and a random number."""

PARTIAL_PATTERN = f".*{PARTIAL_SUFFIX}"
"""Matches what `atomic_path` leaves behind when its process is killed, and no other file that ends like it."""

HASHED_BYTES = 1 << 20
"""Read at a time to be hashed."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

STORAGE_FAILED = frozenset(
    getattr(errno, name)
    for name in (
        *("EIO", "EREMOTEIO", "EROFS", "ESTALE", "EBADFD", "ENOTCONN", "ESHUTDOWN", "ETIMEDOUT"),
        *("ECONNABORTED", "ECONNRESET", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH"),
    )
    if hasattr(errno, name)
)
"""What a disk that fails answers, or a file server that is gone; Linux makes a broken disk read-only."""


def at_home(path: str | Path) -> str:
    """Return a path with the home folder in place of a `~` or `~user` at its beginning; unknown users stay.

    Raises:
        InvalidType: it is no path, but None for instance.
    """
    if not isinstance(path, str | os.PathLike):
        raise InvalidType(f"{path!r}: is no path; give a string or a pathlib.Path")
    # URLs among them must not be taken apart as paths.
    if str(path).startswith("~"):
        with suppress(RuntimeError):
            return str(Path(path).expanduser())
    return str(path)


@contextmanager
def atomic_path(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success fsync it and rename it over `path`, on failure remove it.

    Args:
        path: what is to appear.
        durable: whether it must outlast a power cut from now on; False: it may be missing then, but never half there.

    Raises:
        RunStopped: the disk is full.
    """
    # Two processes may write the same file, each the same content: a name of its own keeps them apart.
    partial = path.with_name(f"{own_partials(path)}{secrets.token_hex(4)}.partial")
    with needs_room(path):
        make_folder(path.parent)
        try:
            yield partial
            with partial.open("rb+") as handle:
                os.fsync(handle.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        if durable:
            sync_folder(path.parent)


def own_partials(path: Path, process: int | None = None) -> str:
    """Return how names begin of what a process of this host, by default this one, writes before it becomes `path`."""
    host = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]
    return f".{path.name}.{os.getpid() if process is None else process}-{host}"


@contextmanager
def needs_room(path: Path) -> Iterator[None]:
    """Turn the system's error of a full disk, quota or file size, or of storage that fails, into one that names `path`.

    Raises:
        RunStopped: there was no room, or the disk or file server failed.
    """
    try:
        yield
    except Exception as error:
        failure = _no_room(path, error)
        # Where nothing may be written, `permitted` says so.
        if failure is None and _system_error(error) != errno.EROFS:
            failure = storage_failure(path, error)
        if failure is None:
            raise
        raise failure from error


def machine_failure(error: Exception) -> RunStopped | None:
    """Return what to say of an error of any file that is the machine's, of room or of storage that fails; else None."""
    path = Path(str(getattr(error, "filename", None) or "a file"))
    return _no_room(path, error) or storage_failure(path, error)


def _no_room(path: Path, error: Exception) -> RunStopped | None:
    number = _system_error(error)
    if number not in NO_ROOM:
        return None
    return RunStopped(f"{path}: cannot be written: {os.strerror(number)}; make room, and give the same command again")


def _system_error(error: Exception) -> int | None:
    """Return the system's number of an error, or None; safetensors and tokenizers tell it in Rust's words alone."""
    if not is_of_the_work(error):
        return None
    if isinstance(error, OSError):
        return error.errno
    told = re.search(r"\(os error (\d+)\)", str(error))
    return int(told[1]) if told else None


@contextmanager
def needs_storage(path: Path) -> Iterator[None]:
    """Turn the system's error of a disk or file server that fails into one that names the file, or else `path`.

    Raises:
        RunStopped: it failed.
    """
    try:
        yield
    except OSError as error:
        failure = storage_failure(path, error)
        if failure is None:
            raise
        raise failure from error


def storage_failure(path: Path, error: Exception) -> RunStopped | None:
    """Return what to raise for a system's error on `path` if a disk, file server or network has failed; else None."""
    if not isinstance(error, OSError) or error.errno not in STORAGE_FAILED or not is_of_the_work(error):
        return None
    return RunStopped(
        f"{error.filename or path}: the file system or the network failed ({error.strerror or error}); when it is "
        "well again, repeat the command, which resumes"
    )


@contextmanager
def permitted(path: Path) -> Iterator[None]:
    """Turn what the system refuses, such as access or a name, into an error that names `path`; see also `needs_room`.

    Raises:
        InputError: it was refused, also where nothing may be written; a lack of room stays the system's own error.
        RunStopped: the disk or file server failed.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM or not is_of_the_work(error):
            raise
        failure = None if error.errno == errno.EROFS else storage_failure(path, error)
        raise failure or InputError(f"{path}: {error.strerror or error}") from error


def take_lock(path: Path, handle: IO[Any], kind: int) -> None:
    """Take a lock of an open file; it is let go when this process dies. See also `letting_go`.

    Args:
        path: of the file.
        handle: of the file.
        kind: as `fcntl.flock` has it.

    Raises:
        BlockingIOError: another process has it, and `kind` is not to wait.
        InputError: the file system has no locks.
        RunStopped: the disk or file server failed.
    """
    try:
        fcntl.flock(handle, kind)
    except BlockingIOError:
        raise
    except OSError as error:
        raise storage_failure(path, error) or InputError(
            f"{path}: no lock can be had there ({error.strerror}); mount the file system with flock, or choose another "
            "folder"
        ) from error


@contextmanager
def letting_go(handle: IO[Any]) -> Iterator[None]:
    """Let go of the lock of an open file in the end, if there is one.

    Closing the file is not enough: a child that was forked meanwhile has it open, too, and would keep the lock.
    """
    owner = os.getpid()
    try:
        yield
    finally:
        # Such a child must not let go of it itself.
        if os.getpid() == owner:
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_UN)


def check_writable(folder: Path) -> None:
    """Make a folder, and refuse one that takes no file, before work whose result would be lost.

    Raises:
        InputError: it cannot be made or written to.
        RunStopped: the disk or file server failed.
    """
    with permitted(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not may_write(folder):
        raise _not_writable(folder)


def may_write(folder: Path) -> bool:
    """Whether files may be made in a folder that is there."""
    return os.access(folder, os.W_OK | os.X_OK)


def check_place(folder: Path) -> None:
    """Refuse a folder that cannot be made or takes no file, as far as that shows without making it.

    Raises:
        InputError: it, or the folder that it would be made in, may not be written to, or is none.
    """
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise InputError(f"{place}: {os.strerror(errno.ENOTDIR)}")
    if not may_write(place):
        raise _not_writable(place)


def _not_writable(folder: Path) -> InputError:
    read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
    return InputError(f"{folder}: {os.strerror(errno.EROFS if read_only else errno.EACCES)}")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless they are there, so that they outlast a power cut."""
    missing = list(takewhile(lambda each: not each.is_dir(), (folder, *folder.parents)))
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        try:
            sync_folder(made.parent)
        except OSError as error:
            # One that may be written to, but not looked into; or several hosts make it at once, and one syncs it.
            if error.errno not in (errno.EACCES, errno.EPERM, errno.ESTALE):
                raise


def sync_folder(folder: Path) -> None:
    """Make the renames done in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path, write: Callable[[IO[bytes]], object], *, durable: bool = True) -> None:
    """Call `write` on a binary handle whose content becomes `path` once everything is on disk; see `atomic_path`."""
    with atomic_path(path, durable=durable) as partial, partial.open("wb") as handle:
        write(handle)


def write_array(path: Path, array: "np.ndarray") -> None:
    """Write an array as .npy, atomically; see `atomic_path`."""
    import numpy as np

    # Into a file, NumPy would write by itself, and of a full disk tell no more than how many items it has written.
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    write_atomic(path, lambda handle: handle.write(content.getbuffer()))


def write_json(path: Path, value: object, *, durable: bool = True) -> None:
    """Write `value` as indented UTF-8 JSON, atomically; NaN is refused, as JSON has none. See `atomic_path`."""
    content = json_content(value)
    write_atomic(path, lambda handle: handle.write(content), durable=durable)


def json_content(value: object) -> bytes:
    """Return what `write_json` writes.

    Raises:
        ValueError: a number is NaN or infinite.
        TypeError: JSON has no place for a value.
    """
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is missing, cannot be read or is not JSON; the message names it.
        RunStopped: the disk or file server failed.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise storage_failure(path, error) or InputError(f"{path}: cannot be read: {reason_of(error)}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not a JSON file: {error}") from None


def has_kinds(value: Any, kinds: Mapping[str, type]) -> TypeGuard[dict[str, Any]]:
    """Whether a value read from JSON is an object that has at least these keys, each with a value of its kind."""
    return isinstance(value, dict) and all(isinstance(value.get(key), kind) for key, kind in kinds.items())


def file_sha256(path: Path, advance: Callable[[int], object] = lambda n_bytes: None) -> str:
    """Return the hexadecimal SHA-256 of a file's content; `advance` is told of the bytes of each piece.

    Raises:
        RunStopped: the disk or file server failed.
    """
    digest = hashlib.sha256()
    with needs_storage(path), path.open("rb") as handle:
        while content := handle.read(HASHED_BYTES):
            digest.update(content)
            advance(len(content))
    return digest.hexdigest()


def json_sha256(value: object) -> str:
    """Return the hexadecimal SHA-256 of a value's canonical JSON (sorted keys, no spaces); what JSON lacks is text."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def write_json_lines(path: Path, lines: Sequence[str]) -> Path:
    """Write lines of JSON unless the file has them already, which leaves its time of change alone; return the path.

    In a line that is no JSON, half a surrogate pair is written as it is, for the reader to refuse.
    """
    if not has_json_lines(path, lines):
        write_atomic(path, lambda handle: handle.write(_joined(lines)))
    return path


def has_json_lines(path: Path, lines: Sequence[str]) -> bool:
    """Whether a file is there and holds what `write_json_lines` would write."""
    return path.exists() and path.read_bytes() == _joined(lines)


def json_lines_sha256(lines: Sequence[str]) -> str:
    """Return the hexadecimal SHA-256 of what `write_json_lines` would write."""
    return hashlib.sha256(_joined(lines)).hexdigest()


def _joined(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")


def json_line(fields: Mapping[str, Any]) -> str:
    """Return a row as a line of JSON; what JSON lacks, such as dates, becomes text.

    A row with half a surrogate pair, which UTF-8 lacks, is written in ASCII, where its escape stands for it.
    """
    line = json.dumps(fields, ensure_ascii=False, default=str)
    try:
        line.encode()
    except UnicodeEncodeError:
        return json.dumps(fields, default=str)
    return line
