"""Keep a score cache small: merge small segments, evict the least recently used, sweep what killed writers left."""

import fcntl
import os
import secrets
import time
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa

from euds.corpus import read_parquet
from euds.engine.segments import (
    NAMESPACE_PATTERN,
    READ_ERRORS,
    SEGMENT_PATTERN,
    DamagedSegment,
    KeyArray,
    checked,
    discard,
    is_unreachable,
    key_column,
    segment_names,
    write_segment,
)
from euds.files import PARTIAL_PATTERN, letting_go
from euds.progress import say
from euds.types import BoolArray, Int64Array

FAN = 8
"""Segments of one size class that are merged into one."""

SMALLEST_BYTES = 1 << 15
LARGEST_BYTES = 1 << 23
"""Segments above this are merged no more: a look-up reads a segment as a whole, and a merged one is at most eight times
this."""

ABANDONED_SECONDS = 3600.0
"""No segment takes so long to write."""


def tend(cache: Path, namespace: Path, limit_bytes: int) -> None:
    """Merge in one namespace, then evict over the whole cache until it is within `limit_bytes`.

    One process at a time does so; readers and writers do not wait. While a segment is merged, it and its parts are both
    on disk.
    """
    with _locked(cache):
        _sweep(cache)
        while (small := _mergeable(namespace)) and _merge(small):
            pass
        _evict(cache, limit_bytes)


def keep_within(cache: Path, limit_bytes: int) -> None:
    """Evict until a cache is within a limit, which a run that found every text has not done while it ran."""
    if not cache.is_dir():
        return
    try:
        with _locked(cache):
            _evict(cache, limit_bytes)
    except OSError as error:
        say(f"warning: {cache}: cannot be kept small: {error}")


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    with (cache / "lock").open("w") as handle, letting_go(handle):
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _sweep(cache: Path) -> None:
    for partial in cache.glob(f"{NAMESPACE_PATTERN}/{PARTIAL_PATTERN}"):
        with suppress(FileNotFoundError):
            if time.time() - partial.stat().st_mtime > ABANDONED_SECONDS:
                partial.unlink()


def _mergeable(namespace: Path) -> list[Path]:
    """Return the oldest segments of one size class if there are enough of them, else nothing."""
    classes: defaultdict[int, list[Path]] = defaultdict(list)
    for name in segment_names(namespace):
        path = namespace / name
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            # Whoever looked something up has found it damaged.
            continue
        if size <= LARGEST_BYTES:
            found = classes[(size // SMALLEST_BYTES).bit_length() // (FAN.bit_length() - 1)]
            found.append(path)
            if len(found) == FAN:
                return found
    return []


def _merge(paths: list[Path]) -> bool:
    """Write one segment in the place of several, given oldest first; every key keeps the row that counted before.

    Returns:
        False if one of them cannot be reached, or is damaged and cannot be removed, and nothing was merged.
    """
    keys, pieces, good, used = [], [], [], 0.0
    for path in paths:
        try:
            segment = read_parquet(path)
            pieces.append(checked(segment))
        except (*READ_ERRORS, DamagedSegment) as error:
            if is_unreachable(error) or not discard(path, error):
                return False
            continue
        keys.append(key_column(segment))
        good.append(path)
        used = max(used, path.stat().st_mtime)
    if not good:
        return True
    distinct, first = np.unique(np.concatenate(keys), return_index=True)
    part_of_row = np.repeat(np.arange(len(good)), [len(part) for part in keys])
    counts = ~_overtaking(distinct, part_of_row[first], good)
    rows = pa.concat_tables(pieces).take(pa.array(first[counts]))
    # It takes the age of its oldest part, as the older of two segments counts.
    age = good[0].name.partition("-")[0]
    merged = good[0].with_name(f"{age}-{secrets.token_hex(4)}.parquet")
    write_segment(merged, distinct[counts], rows)
    os.utime(merged, (used, used))
    for path in good:
        path.unlink(missing_ok=True)
    return True


def _overtaking(keys: KeyArray, part_of_key: Int64Array, parts: Sequence[Path]) -> BoolArray:
    """Return which keys a segment holds that is older than their part, but would be younger than the merged one."""
    names = [path.name for path in parts]
    found: BoolArray = np.zeros(len(keys), np.bool_)
    for name in segment_names(parts[0].parent):
        if names[0] < name < names[-1] and name not in names:
            # One that cannot be read has no row that counts.
            with suppress(*READ_ERRORS):
                held = key_column(read_parquet(parts[0].with_name(name), columns=["key"]))
                found |= (part_of_key >= bisect(names, name)) & np.isin(keys, held)
    return found


def _evict(cache: Path, limit_bytes: int) -> None:
    entries = []
    for path in cache.glob(f"{NAMESPACE_PATTERN}/{SEGMENT_PATTERN}"):
        with suppress(FileNotFoundError):
            state = path.stat()
            entries.append((state.st_mtime_ns, state.st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= limit_bytes:
            return
        path.unlink(missing_ok=True)
        total -= size
