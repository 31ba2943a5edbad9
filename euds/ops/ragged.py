"""Ragged arrays, where sample i is values[offsets[i]:offsets[i+1]]: their checks, and how their ids are summed up."""

from typing import Any

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument, reason_of
from euds.types import Int64Array

WORTH_THREADS = 1 << 20
"""Values from which several threads are faster than one, which needs no start."""

PIECES = 32
TABLE_ENTRIES = 1 << 23
"""Ids are counted in tables, one for each of 32 pieces of the samples, if all of them have no more entries."""

ARRAY_ERRORS = (ValueError, OverflowError, TypeError, RuntimeError)
"""What `np.asarray` raises, and tensors that it cannot read: those of bfloat16, on a GPU, or with a gradient."""


def table_entries(ids: Int64Array) -> int | None:
    """Return how many entries a table with a place for every id has; None if it cannot be, or would be too large."""
    from euds.kernels.information_numba import id_range

    if not len(ids):
        return None
    smallest, largest = id_range(ids) if len(ids) >= WORTH_THREADS else (int(ids.min()), int(ids.max()))
    return largest + 1 if smallest >= 0 and (largest + 1) * PIECES <= TABLE_ENTRIES else None


def read_array(must: str, values: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return `values` as NumPy reads them; `must` is what messages begin with, such as "ids: must be integers".

    Raises:
        InvalidArgument: NumPy cannot read them, or some are masked.
    """
    try:
        array = np.asarray(values)
    except ARRAY_ERRORS as error:
        raise InvalidArgument(f"{must}: {reason_of(error)}") from None
    if np.ma.is_masked(values):
        raise InvalidArgument(f"{must}, none of them masked")
    return array


def check_ids(name: str, values: npt.ArrayLike) -> Int64Array:
    """Return `values` as contiguous int64.

    Raises:
        InvalidArgument: not a flat array of integers, or some are masked.
    """
    array = read_array(f"{name}: must be a flat array of integers", values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InvalidArgument(f"{name}: must be a flat array of integers, got {array.dtype} of shape {array.shape}")
    return np.ascontiguousarray(array, np.int64)


def check_offsets(offsets: npt.ArrayLike, n_values: int) -> Int64Array:
    """Return `offsets` as int64.

    Raises:
        InvalidArgument: not integers that rise from 0 to n_values.
    """
    array = check_ids("offsets", offsets)
    if len(array) == 0 or array[0] != 0 or array[-1] != n_values or (array[1:] < array[:-1]).any():
        raise InvalidArgument(f"offsets: must rise from 0 to {n_values}, one more entry than there are samples")
    return array
