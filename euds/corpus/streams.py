"""The bytes of a file, decompressed where its name says so."""

import gzip
import io
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from euds.corpus.location import file_name, is_url, reading
from euds.errors import EudsError, InputError
from euds.files import storage_failure

COMPRESSED = {".gz": "gzip", ".zst": "zstd"}

BUFFER_BYTES = 1 << 18

LONG_WINDOW = "Frame requires too much memory"
"""How zstd's error begins when a window is larger than the 128 MiB that it reads unless told otherwise."""

READ_ERRORS = (OSError, EOFError, zlib.error)
"""What reading a missing or damaged file raises."""


def compression(path: Path) -> str | None:
    """Return how a file is compressed, by its suffix, or None."""
    return COMPRESSED.get(Path(file_name(path)).suffix)


def open_stream(path: Path) -> BinaryIO:
    """Open a file's uncompressed bytes; seeking forward in a compressed one reads on, seeking back starts over."""
    if compression(path) is not None:
        return io.BufferedReader(_Decompressed(path), BUFFER_BYTES)
    return io.BufferedReader(open_remote(path), BUFFER_BYTES) if is_url(path) else path.open("rb", BUFFER_BYTES)


def open_remote(path: Path) -> io.RawIOBase:
    """Open a URL.

    Raises:
        InputError: its server does not tell its size, so that no part of it can be asked for.
        RunStopped: the store failed, also when the file is read or seeked later.
    """
    return _Remote(path)


def unreadable(path: Path, after: str, error: Exception) -> EudsError:
    """Say that a file cannot be read, or is damaged after the row or line that `after` names."""
    failure = storage_failure(path, error)
    if failure is not None:
        return failure
    kind = compression(path)
    # The system's errors have a number, the decompressors' have none.
    if kind is None or (isinstance(error, OSError) and error.errno is not None):
        reason = getattr(error, "strerror", None) or error
        return InputError(f"{path}: cannot be read: {reason}")
    if LONG_WINDOW in str(error):
        return InputError(
            f"{path}: a zstd file with a window (--long) of more than the 128 MiB that can be read; pack it anew, such "
            "as by zstd -d --long=31 -c OLD | zstd > NEW"
        )
    return InputError(f"{path}: damaged {kind} file after {after}: {error}")


def in_utf16(path: Path) -> InputError:
    """Say that a file is UTF-16, and what to do."""
    return InputError(f"{path}: is UTF-16; convert it to UTF-8, such as by iconv -f UTF-16 -t UTF-8 OLD > NEW")


class _Remote(io.RawIOBase):
    """The bytes of a URL; see `reading` for its errors."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with reading(path):
            self._handle: Any = path.open("rb")
        if getattr(self._handle, "size", 0) is None:
            self.close()
            raise InputError(f"{path}: the server does not tell its size; download it first")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._handle.tell())

    def readinto(self, buffer: Any) -> int:
        with reading(self._path):
            content = self._handle.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with reading(self._path):
            return int(self._handle.seek(offset, whence))

    def close(self) -> None:
        if not self.closed and hasattr(self, "_handle"):
            self._handle.close()
        super().close()


class _Decompressed(io.RawIOBase):
    """The uncompressed bytes of a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kind = compression(path)
        self._restart()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        content = self._stream.read(len(buffer))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        assert whence == io.SEEK_SET
        if offset < self._at:
            self._close_stream()
            self._restart()
        while self._at < offset and (content := self._stream.read(min(BUFFER_BYTES, offset - self._at))):
            self._at += len(content)
        return self._at

    def close(self) -> None:
        if not self.closed:
            self._close_stream()
        super().close()

    def _restart(self) -> None:
        self._at = 0
        self._handle: Any = open_remote(self._path) if is_url(self._path) else self._path.open("rb")
        self._stream: Any = (
            gzip.GzipFile(fileobj=self._handle)
            if self._kind == "gzip"
            else pa.CompressedInputStream(self._handle, self._kind)
        )

    def _close_stream(self) -> None:
        self._stream.close()
        self._handle.close()
