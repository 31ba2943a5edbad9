"""Checks of embeddings, and their directions."""

from typing import Any

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument, reason_of
from euds.ops.ragged import ARRAY_ERRORS
from euds.types import BoolArray, Float32Array, Float64Array

BLOCK_ROWS = 65_536
"""Rows converted or searched at a time, so that a pool needs no second copy in memory."""


def unit_rows(embeddings: npt.ArrayLike) -> tuple[Float32Array, BoolArray]:
    """Return the rows at unit norm, float32, and which of them have a direction; the others become zeros.

    Raises:
        InvalidArgument: not a matrix of real numbers.
    """
    from euds.kernels.cosine_numba import unit_rows as scale

    unit, usable = scale(_matrix(embeddings))
    return unit, usable


def usable_rows(embeddings: npt.ArrayLike) -> BoolArray:
    """Return which rows have a direction: neither zeros, nor with NaN or infinity.

    Raises:
        InvalidArgument: not a matrix of real numbers.
    """
    from euds.kernels.cosine_numba import have_direction

    matrix = as_matrix(embeddings)
    # Other dtypes are converted, and a pool has no room for a second copy.
    blocks = [have_direction(_floats(matrix[at : at + BLOCK_ROWS])) for at in range(0, len(matrix), BLOCK_ROWS)]
    return np.concatenate(blocks) if blocks else np.empty(0, bool)


def check_embeddings(embeddings: npt.ArrayLike) -> Float32Array:
    """Return embeddings (total, H) as contiguous float32 with the directions they had.

    float32 is taken as it is, without a copy; other numbers are scaled to unit norm first, so that none overflows. So
    the cosines of the same embeddings may differ by float32's rounding, about 1e-7, between the two.

    Raises:
        InvalidArgument: not a matrix of real numbers.
    """
    array = _matrix(embeddings)
    return np.ascontiguousarray(array, np.float32) if array.dtype == np.float32 else unit_rows(array)[0]


def as_matrix(embeddings: npt.ArrayLike, name: str = "embeddings") -> npt.NDArray[Any]:
    """Return embeddings (n, H) as an array of their own dtype; a row with a masked number has no direction.

    `name` is that of the argument, for messages.

    Raises:
        InvalidArgument: not a matrix of real numbers.
    """
    if isinstance(embeddings, np.ma.MaskedArray) and embeddings.dtype.kind in "fiu":
        embeddings = np.ma.filled(embeddings.astype(np.float64), np.nan)
    try:
        array = np.asarray(embeddings)
    except ARRAY_ERRORS as error:
        raise InvalidArgument(f"{name}: must be a matrix of real numbers: {reason_of(error)}") from None
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise InvalidArgument(f"{name}: must be a matrix of real numbers, got {array.dtype} of shape {array.shape}")
    return array


def _matrix(embeddings: npt.ArrayLike) -> Float32Array | Float64Array:
    return _floats(as_matrix(embeddings))


def _floats(array: npt.NDArray[Any]) -> Float32Array | Float64Array:
    return array if array.dtype == np.float32 else array.astype(np.float64, copy=False)
