"""Checks of ragged arrays: sample i is values[offsets[i]:offsets[i+1]]."""

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument
from euds.types import Int64Array


def check_ids(name: str, values: npt.ArrayLike) -> Int64Array:
    """Return `values` as contiguous int64.

    Raises:
        InvalidArgument: not a flat array of integers.
    """
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InvalidArgument(f"{name}: must be a flat array of integers, got {array.dtype} of shape {array.shape}")
    return np.ascontiguousarray(array, np.int64)


def check_offsets(offsets: npt.ArrayLike, n_values: int) -> Int64Array:
    """Return `offsets` as int64.

    Raises:
        InvalidArgument: not integers that rise from 0 to n_values.
    """
    array = check_ids("offsets", offsets)
    if len(array) == 0 or array[0] != 0 or array[-1] != n_values or (np.diff(array) < 0).any():
        raise InvalidArgument(f"offsets: must rise from 0 to {n_values}, one more entry than there are samples")
    return array
