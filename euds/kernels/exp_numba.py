"""Exponentials in Numba that LLVM turns into vector instructions; calls of the C library take four times as long."""

import math

import numpy as np
from numba import njit

from euds.types import Float64Array, Int64Array

LOWEST = -708.0
"""Below it exp(x) is no normal number."""

LOG2_E = 1 / math.log(2)
# ln 2 in two parts: the first has zeros enough at its end for its product with any k here to be exact.
LN2_HIGH = math.ldexp(math.floor(math.ldexp(math.log(2), 32)), -32)
LN2_LOW = 1.9082149292705877e-10
C2, C3, C4, C5, C6, C7, C8, C9, C10, C11, C12, C13 = (1 / math.factorial(degree) for degree in range(2, 14))


@njit(cache=True, nogil=True)
def exp_in_place(values: Float64Array, scratch: Int64Array, n: int) -> None:
    """Replace the first n values (all <= 0, none NaN) by their exponentials, good to 3 units in the last place.

    Below -708 they become 0. `scratch` is as long as `values`.
    """
    for at in range(n):
        x = values[at] if values[at] > LOWEST else LOWEST
        # exp(x) = 2^k exp(r), with r in -ln 2 / 2..ln 2 / 2, where 14 terms of the series are as good as all.
        k = np.floor(x * LOG2_E + 0.5)
        r = (x - k * LN2_HIGH) - k * LN2_LOW
        p = C9 + r * (C10 + r * (C11 + r * (C12 + r * C13)))
        p = 1.0 + r * (1.0 + r * (C2 + r * (C3 + r * (C4 + r * (C5 + r * (C6 + r * (C7 + r * (C8 + r * p))))))))
        scratch[at] = np.int64(np.int32(k) + 1023) << 52 if values[at] >= LOWEST else 0
        values[at] = p
    # The bits of 2^k, or of 0.
    powers = scratch.view(np.float64)
    for at in range(n):
        values[at] *= powers[at]
