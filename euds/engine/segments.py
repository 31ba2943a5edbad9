"""Segments of a score cache: Parquet files that are never changed, each sorted by key, every row with a checksum."""

import hashlib
import os
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from euds.corpus import read_parquet
from euds.errors import EudsError, reason_of
from euds.files import atomic_path
from euds.progress import say
from euds.types import BoolArray, Int64Array

KEY_BYTES, CHECK_BYTES = 16, 8
KEYS_HELD_BYTES = 1 << 28
"""Keys that a process keeps in memory for each stage: 16 million; those of further segments are read again at every
look-up."""

NAMESPACE_PATTERN = "*-" + 32 * "[0-9a-f]"
SEGMENT_PATTERN = 20 * "[0-9]" + "-*.parquet"
"""Match the folders and files of a cache and nothing else: its folder may be one that holds other data, too."""

NAMESPACE_FILE = "namespace.json"
"""Tells in every folder of a cache what its scores depend on."""

READ_ERRORS = (pa.ArrowException, OSError, KeyError, TypeError, ValueError)
"""What reading a damaged Parquet file, or making numbers of it, raises."""

KeyArray = npt.NDArray[np.bytes_]
"""Keys (n,) of dtype S16, which compare as 128-bit numbers."""


class DamagedSegment(EudsError):
    """A segment holds something else than what was written."""


def keys_of(ids: Int64Array, offsets: Int64Array, rows: Sequence[int]) -> KeyArray:
    """Return the key of each of the given rows: the BLAKE2b hash of its token ids as little-endian int32."""
    data = ids.astype("<i4")
    digests = [
        hashlib.blake2b(data[offsets[at] : offsets[at + 1]].tobytes(), digest_size=KEY_BYTES).digest() for at in rows
    ]
    return np.array(digests, f"S{KEY_BYTES}")


def is_segment(file: Path) -> bool:
    """Tell whether a file is one of a cache, by its place and name."""
    named = fnmatchcase(file.name, SEGMENT_PATTERN) and fnmatchcase(file.parent.name, NAMESPACE_PATTERN)
    return named and (file.parent / NAMESPACE_FILE).exists()


class Segments:
    """All segments of one namespace, that is of scores which can stand for each other.

    Segments are found by listing the folder at every look-up, so that what other processes add is seen. One that has
    gone in the meantime, merged or evicted, is a miss.

    Args:
        folder: of the namespace.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, KeyArray] = {}

    def look_up(self, keys: KeyArray) -> tuple[BoolArray, pa.Table | None]:
        """Find rows by their keys; of two segments that hold a key, the older one counts.

        Args:
            keys: ascending, each once.

        Returns:
            Which keys were found, and their rows in the order of the keys; None if there are none.
        """
        found: BoolArray = np.zeros(len(keys), np.bool_)
        places, pieces = [], []
        names = segment_names(self.folder)
        self._held = {name: self._held[name] for name in names if name in self._held}
        for name in names:
            wanted = np.flatnonzero(~found)
            if not len(wanted):
                break
            hits, rows = self._search(name, keys[wanted])
            if rows is not None:
                found[wanted[hits]] = True
                places.append(wanted[hits])
                pieces.append(rows)
        if not pieces:
            return found, None
        order = np.argsort(np.concatenate(places))
        return found, pa.concat_tables(pieces).take(pa.array(order))

    def add(self, keys: KeyArray, rows: pa.Table) -> None:
        """Keep rows: fixed-width numbers or fixed-size lists of them, without nulls, one a key, keys ascending."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_segment(self.folder / f"{time.time_ns():020d}-{secrets.token_hex(4)}.parquet", keys, rows)

    def _search(self, name: str, keys: KeyArray) -> tuple[Int64Array, pa.Table | None]:
        path = self.folder / name
        none = np.empty(0, np.int64), None
        try:
            known = self._keys(path)
            if not len(known):
                return none
            at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
            hits = np.flatnonzero(known[at] == keys)
            if not len(hits):
                return none
            rows = checked(read_parquet(path).take(pa.array(at[hits])))
        except (*READ_ERRORS, DamagedSegment) as error:
            if not is_unreachable(error):
                discard(path, error)
            return none
        # The time of change is the time of last use; another user's file may keep its own.
        with suppress(OSError):
            os.utime(path)
        return hits, rows

    def _keys(self, path: Path) -> KeyArray:
        held = self._held.get(path.name)
        if held is not None:
            return held
        keys = key_column(read_parquet(path, columns=["key"]))
        if sum(known.nbytes for known in self._held.values()) + keys.nbytes <= KEYS_HELD_BYTES:
            self._held[path.name] = keys
        return keys


def segment_names(folder: Path) -> list[str]:
    """Return the segments of a namespace, the one added first first."""
    try:
        return sorted(path.name for path in folder.iterdir() if path.suffix == ".parquet")
    except FileNotFoundError:
        return []


def write_segment(path: Path, keys: KeyArray, rows: pa.Table) -> None:
    """Write a segment atomically; keys are ascending."""
    columns = {name: rows.column(name) for name in rows.column_names}
    table = pa.table({"key": _binary(keys), "check": _binary(_checks(keys, rows)), **columns})
    with atomic_path(path) as partial:
        pq.write_table(
            table,
            partial,
            # Hashes and floats do not compress, and an encoding would only cost time.
            compression="none",
            use_dictionary=False,
            write_statistics=False,
            # The name of a list's elements is part of the type that is read back.
            use_compliant_nested_type=False,
        )


def checked(segment: pa.Table) -> pa.Table:
    """Return a segment's rows without key and checksum.

    Raises:
        DamagedSegment: a row is not the one that was written.
    """
    rows = segment.drop_columns(["key", "check"])
    if any(column.null_count for column in segment.columns):
        raise DamagedSegment("a row has a null")
    if not np.array_equal(_checks(key_column(segment), rows), _fixed_bytes(segment.column("check"))):
        raise DamagedSegment("a row's checksum does not hold")
    return rows


def key_column(segment: pa.Table) -> KeyArray:
    """Return the keys of a segment."""
    return _fixed_bytes(segment.column("key"))


def is_unreachable(error: Exception) -> bool:
    """Tell what the system refuses, such as a file that is gone or another user's, from a file that is damaged."""
    return isinstance(error, OSError) and error.errno is not None


def discard(path: Path, reason: Exception) -> bool:
    """Remove a damaged segment, and say so; return False where the system does not let it go."""
    removed, outcome = True, "removed from the cache"
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        removed, outcome = False, f"but cannot be removed ({error.strerror or error})"
    say(f"warning: {path}: damaged, {outcome}: {reason_of(reason)}")
    return removed


def _checks(keys: KeyArray, rows: pa.Table) -> KeyArray:
    """Return the BLAKE2b hash of each row's key and values, S8; it depends on names and types of the columns, too."""
    kind = hashlib.blake2b(repr([(field.name, str(field.type)) for field in rows.schema]).encode(), digest_size=16)
    parts = [_row_bytes(column) for column in rows.columns]
    lines = np.concatenate([keys.view(np.uint8).reshape(len(keys), -1), *parts], axis=1)
    person = kind.digest()
    digests = [hashlib.blake2b(line, digest_size=CHECK_BYTES, person=person).digest() for line in lines]
    return np.array(digests, f"S{CHECK_BYTES}")


def _row_bytes(column: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """Return a column's bytes, (n, bytes of a value)."""
    array = column.combine_chunks()
    flat = np.ascontiguousarray(pc.list_flatten(array) if pa.types.is_fixed_size_list(array.type) else array)
    return flat.view(np.uint8).reshape(len(array), -1)


def _binary(values: KeyArray) -> pa.Array:
    """Make a fixed-size binary column; pyarrow's own conversion would drop a hash's trailing zeros."""
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(values.dtype.itemsize), len(values), [None, data])


def _fixed_bytes(column: pa.ChunkedArray) -> KeyArray:
    array = column.combine_chunks()
    width = array.type.byte_width
    values: KeyArray = np.frombuffer(array.buffers()[1], f"S{width}", count=len(array), offset=array.offset * width)
    return values
