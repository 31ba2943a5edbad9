"""Local paths and URLs, behind pathlib's interface."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import cast

from euds.errors import EudsError, InputError, InvalidArgument, RunStopped, instance_of, is_of_the_work, reason_of
from euds.files import at_home

WEB = ("http://", "https://")

WHOLE_ONLY = "the server serves no part of a file, but the whole alone; download it first"

EXTRAS = {"http": "http", "https": "http", "s3": "s3"}
"""The extra of euds that brings what a protocol needs."""


def file_path(name: str) -> Path:
    """Return the file that a path or URL names; it need not exist.

    Args:
        name: a path, with `~` for the home folder, or a URL of any protocol that fsspec knows, such as s3://, gs://,
            https://, file:// or memory://.

    Returns:
        A `Path`, or for a remote file a `UPath`, which has pathlib's interface (`open("rb")`, `stat().st_size`, `name`,
        `str()` that gives the URL again, the path of an archive made absolute) without being its subclass.

    Raises:
        InputError: the protocol is unknown, the package that it needs is not installed, or an archive cannot be opened,
            as one whose server serves no part of a file.
    """
    if not is_url(name):
        return Path(at_home(name))
    protocol = name.partition("://")[0]
    from fsspec.core import url_to_fs
    from upath import UPath

    try:
        _, path = url_to_fs(name)
        return Path(path) if protocol in ("file", "local") else cast(Path, UPath(_absolute(name)))
    except ImportError as error:
        remedy = f"in a checkout run: pip install '.[{EXTRAS[protocol]}]'" if protocol in EXTRAS else str(error)
        raise InputError(f"{name}: {protocol}:// needs a package that is not installed; {remedy}") from error
    except ValueError as error:
        if _serves_whole_only(error):
            raise InputError(f"{name}: {WHOLE_ONLY}") from error
        raise InputError(f"{name}: unknown protocol {protocol}://; known are those of fsspec: {error}") from error
    except Exception as error:
        # An archive is opened to know what lies in it, and may be missing or damaged.
        raise InputError(f"{name}: cannot be reached: {_reason(error)}") from error


def _absolute(url: str) -> str:
    """Return a URL with the path of an archive, if it ends in one, as it is from every folder."""
    chain, _, archive = url.rpartition("::")
    return f"{chain}::{in_full(Path(at_home(archive)))}" if chain and not is_url(archive) else url


def in_full(file: Path) -> Path:
    """Return the absolute path of a file, without `..` but where that leads elsewhere, as behind a link."""
    whole = file.absolute()
    if is_url(file) or ".." not in whole.parts:
        return whole
    short = Path(os.path.normpath(whole))
    return short if short.exists() and short.samefile(whole) else whole


def find_files(pattern: str) -> list[Path]:
    """Return the files that a glob matches, local or remote, sorted.

    As in a shell, a local folder that may not be listed holds no match, `**` enters no local folder that is a link, and
    a local name that begins with a dot is matched only where the pattern has one there.

    Raises:
        InputError: as `file_path`, the file system cannot be reached, or the pattern is none.
    """
    if not is_url(pattern):
        path = Path(at_home(pattern))
        # Before Python 3.13 it would match folders only.
        path = path / "*" if path.name == "**" else path
        root = Path(path.anchor) if path.is_absolute() else Path()
        with reaching(pattern):
            found = root.glob(str(path.relative_to(path.anchor)))
            return sorted(match for match in found if match.is_file() and not _is_hidden(match, path))
    file_path(pattern)
    from fsspec.core import url_to_fs

    system, path = url_to_fs(pattern)
    with reaching(pattern):
        entries = system.glob(path, detail=True)
    names = sorted(name for name, entry in entries.items() if entry["type"] == "file")
    first, chained, rest = pattern.partition("::")
    if chained and is_url(first):
        # Files of an archive: where that lies is part of their names.
        return [file_path(f"{first.partition('://')[0]}://{name}::{rest}") for name in names]
    prefix = f"{first}::" if chained else ""
    return [file_path(prefix + system.unstrip_protocol(name)) for name in names]


def _is_hidden(match: Path, pattern: Path) -> bool:
    dotted = [part for part in pattern.parts if part.startswith(".")]
    hidden = (part for part in match.parts if part.startswith("."))
    return any(not any(fnmatchcase(part, own) for own in dotted) for part in hidden)


def is_url(name: str | Path) -> bool:
    """Whether a name, or a path that `file_path` gave, is a URL."""
    return "://" in str(name)


def local_file(path: Path) -> Path | None:
    """Return the file of this machine behind a path or URL: itself or the archive that holds it; None: it is remote."""
    if not is_url(path):
        return path
    outermost = str(path).rpartition("::")[2]
    # Without the check, a remote file would be taken for a path.
    return None if is_url(file_path(outermost)) else file_path(outermost)


def leads_to(path: Path, file: Path) -> bool:
    """Whether a path leads to a file that is read, by whatever links either is named, or to the archive it lies in."""
    there = local_file(file)
    return there is not None and path.exists() and there.exists() and path.samefile(there)


def file_name(path: Path) -> str:
    """Return the last part of a path or URL in lower case, without the query of a web address."""
    address = str(path)
    # The query may hold slashes, and what pathlib takes for a name.
    name = address.partition("?")[0].rpartition("/")[2] if address.startswith(WEB) else path.name
    return name.lower()


def is_pattern(name: str) -> bool:
    """Whether a name is a glob; in a web address a question mark is none."""
    return any(sign in name for sign in ("*[" if name.startswith(WEB) else "*?["))


def printable(name: str | Path) -> str:
    """Return a name that can be printed; bytes of it that are no UTF-8 are escaped."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def local_output(out: str | Path, what: str, argument: str = "out") -> Path:
    """Return where this machine is to write; a `~` at the beginning is the home folder.

    Args:
        out: the path.
        what: it names.
        argument: that gave it, for the messages.

    Raises:
        InvalidArgument: it is empty, not UTF-8, holds a NUL byte, or is a URL, which a path would make a folder of this
            machine's of.
        InvalidType: it is no path, but None for instance.
    """
    instance_of(argument, out, (str, os.PathLike), "a path")
    if not str(out):
        raise InvalidArgument(f"{argument}: is empty; name {what}")
    if is_url(out):
        raise InvalidArgument(f"{argument}: must be a local path, got {out}; only inputs may be URLs")
    try:
        str(out).encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{argument}: {printable(out)} is not UTF-8; choose another name") from None
    if "\0" in str(out):
        raise InvalidArgument(f"{argument}: {str(out)!r} holds a NUL byte; choose another name")
    return local_path(out)


def local_path(path: str | Path) -> Path:
    """Return a path of this machine; a `~` at the beginning is the home folder.

    Raises:
        InvalidType: it is no path.
    """
    found = Path(at_home(path))
    # Arrow takes a relative name such as `run-12:30` for a URL.
    return found.absolute() if ":" in str(found).partition("/")[0] else found


@contextmanager
def reaching(name: str) -> Iterator[None]:
    """Turn whatever a remote file system raises, and what this machine's refuses, into one error that names the file.

    Raises:
        InputError: it cannot be reached, or a local name or pattern is none.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if not is_url(name):
            if not isinstance(error, OSError | ValueError):
                raise
            raise InputError(f"{name}: {getattr(error, 'strerror', None) or error}") from error
        raise InputError(f"{name}: cannot be reached: {_reason(error)}") from error


@contextmanager
def reading(file: str | Path) -> Iterator[None]:
    """Turn whatever a remote file system raises in the middle of the work into one error; do nothing for local paths.

    Raises:
        InputError: the server serves no part of a file.
        RunStopped: the store failed; a missing or forbidden file stays the system's own error.
    """
    try:
        yield
    except (EudsError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:
        # Stores raise their client's errors, such as aiohttp's, which are no OSError.
        if not is_url(file) or not is_of_the_work(error):
            raise
        if _serves_whole_only(error):
            raise InputError(f"{file}: {WHOLE_ONLY}") from error
        raise RunStopped(f"{file}: cannot be read: {_reason(error)}; the same command resumes") from error


def _serves_whole_only(error: Exception) -> bool:
    # Of a server without range requests, fsspec tells in words alone, and not before a later part is asked for.
    return isinstance(error, ValueError) and "range requests" in str(error)


def _reason(error: Exception) -> str:
    reason = reason_of(error)
    # A client's error of a web server has a status: not authorised, or forbidden.
    if getattr(error, "status", None) in (401, 403):
        reason += " (access is refused: look at the credentials, or whether a signed address has expired)"
    return reason
