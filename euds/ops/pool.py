"""Checks of what the interval and box searches are given, and the choice among the rows of a region."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument, reason_of
from euds.ops.ragged import ARRAY_ERRORS, check_ids
from euds.types import Float64Array, Int64Array

FloatArray = npt.NDArray[np.floating]


def as_floats(name: str, values: npt.ArrayLike) -> FloatArray:
    """Return real numbers as float32 where they are that, else as float64; not copied where they are either.

    Nulls become NaN: None and pandas.NA in a list or an object array, and masked values.

    Raises:
        InvalidArgument: the values are no real numbers.
    """
    if isinstance(values, np.ma.MaskedArray) and values.dtype.kind in "fiu":
        filled: FloatArray = np.ma.filled(values.astype(np.float64), np.nan)
        return filled
    if isinstance(values, np.ma.MaskedArray) and values.dtype == object:
        values = values.filled(np.nan)
    try:
        array = np.asarray(values)
        if array.dtype == object:
            plain = [math.nan if _is_null(value) else value for value in array.flat]
            if all(map(_is_real, plain)):
                return np.array(plain, np.float64).reshape(array.shape)
    except ARRAY_ERRORS as error:
        raise InvalidArgument(f"{name}: must be real numbers in rows of one length: {reason_of(error)}") from None
    if array.dtype.kind not in "fiu":
        raise InvalidArgument(f"{name}: must be real numbers, got {array.dtype}")
    # As a buffer may begin anywhere, and C++ reads aligned numbers only.
    return np.require(array, requirements="A") if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def _is_null(value: object) -> bool:
    # pandas, whose NA it may be, is no dependency.
    return value is None or type(value).__name__ == "NAType"


def _is_real(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def as_utility(utility: npt.ArrayLike, n: int) -> Float64Array:
    """Return n finite float64 utilities.

    Raises:
        InvalidArgument: the shape is not (n,), or one is NaN, infinite or no number.
    """
    values = as_floats("utility", utility).astype(np.float64, copy=False)
    if values.shape != (n,) or not np.isfinite(values).all():
        raise InvalidArgument(f"utility: must be {n} finite numbers")
    return np.ascontiguousarray(values)


def utility_scale(utility: Float64Array) -> float:
    """Return the power of two by which utilities become integers whose sums stay within 2^60.

    Sums of integers do not depend on their order, so that searches compare utilities exactly: to 2^-60 of n times the
    largest one. Utilities below 2^-1001 count as 0.
    """
    largest = float(np.abs(utility).max(initial=0.0))
    exponent = int(np.frexp(largest)[1]) + len(utility).bit_length()
    # A larger power of two could overflow.
    return float(np.ldexp(1.0, min(60 - exponent, 1000)))


def as_ids(ids: npt.ArrayLike | None, n: int) -> Int64Array:
    """Return the ids to hash, positions if None.

    Raises:
        InvalidArgument: they are not n integers.
    """
    if ids is None:
        return np.arange(n)
    array = check_ids("ids", ids)
    if len(array) != n:
        raise InvalidArgument(f"ids: must be {n} integers, got {len(array)}")
    return array


def as_labels(groups: npt.ArrayLike, n: int) -> npt.NDArray[Any]:
    """Return the group labels of n rows.

    Raises:
        InvalidArgument: the shape is not (n,), some are masked or NaN, or cannot be compared with others, as None
            cannot.
    """
    try:
        labels = np.asarray(groups)
    except ARRAY_ERRORS as error:
        raise InvalidArgument(f"groups: must be {n} labels: {reason_of(error)}") from None
    if labels.shape != (n,):
        raise InvalidArgument(f"groups: must have shape ({n},), got {labels.shape}")
    if np.ma.is_masked(groups):
        raise InvalidArgument("groups: must be labels of one kind, all given; some are masked")
    # NumPy makes strings of what stands beside them, and rounds integers that no type of 64 bits holds together.
    strings = labels.dtype.kind in "US"
    given = groups if isinstance(groups, list | tuple) else ()
    kinds = {next((kind for kind in (str, bytes) if isinstance(each, kind)), object) for each in given}
    if strings and len(kinds) > 1:
        raise InvalidArgument("groups: must be labels of one kind, all given; some are strings, and others are not")
    if labels.dtype.kind == "f" and any(isinstance(each, int) and float(each) != each for each in given):
        raise InvalidArgument("groups: must be labels of one kind, all given; integers beyond 64 bits are rounded")
    try:
        # NaN, NaT and the like, of which NumPy makes one group, or which no sort keeps together.
        unlike_themselves = not strings and bool((labels != labels).any())
        if labels.dtype == object:
            labels.argsort()
    except TypeError as error:
        raise InvalidArgument(f"groups: must be labels of one kind, all given: {error}") from None
    if unlike_themselves:
        raise InvalidArgument("groups: must be labels of one kind, all given; NaN is none")
    return labels


def nearest_rows(rows: Int64Array, distance: Float64Array, ties: npt.NDArray[np.uint64], budget: int) -> Int64Array:
    """Return the `budget` of the rows with the smallest distances, in the order of `rows`; equals by `ties`."""
    from euds._core import nearest

    return rows[nearest(np.ascontiguousarray(distance), np.ascontiguousarray(ties), budget)]
