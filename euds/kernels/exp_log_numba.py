"""Exponentials and logarithms in Numba, by vector instructions: several times as fast as calls of the C library."""

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

SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
"""The square root of 1/2."""

A3, A5, A7, A9, A11, A13, A15, A17, A19, A21 = (2 / degree for degree in range(3, 22, 2))


# Products may be fused with the sums that take them.
@njit(cache=True, nogil=True, fastmath={"contract"})
def exp_in_place(values: Float64Array, scratch: Int64Array, n: int) -> None:
    """Replace the first n values (at most 1, none NaN) by their exponentials, good to 3 units in the last place.

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


# Division as NumPy has it: a check for 0 would keep LLVM from vectors.
@njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
def log_in_place(values: Float64Array, scratch: Int64Array, n: int) -> None:
    """Replace the first n values (all > 0 and finite) by their natural logarithms, good to 3 units in the last place.

    Below the normal numbers they are about -709. `scratch` is as long as `values`.
    """
    bits = values.view(np.int64)
    for at in range(n):
        # value = 2^k m, with m in sqrt(1/2)..sqrt(2).
        scratch[at] = (bits[at] - SQRT_HALF_BITS) >> 52
        bits[at] -= scratch[at] << 52
    for at in range(n):
        # ln m = 2 artanh(s) = 2 s + s p, with 11 terms of its series; 2 s = f - s f, where f is exact.
        f = values[at] - 1.0
        s = f / (2.0 + f)
        z = s * s
        p = A9 + z * (A11 + z * (A13 + z * (A15 + z * (A17 + z * (A19 + z * A21)))))
        p = z * (A3 + z * (A5 + z * (A7 + z * p)))
        k = np.float64(np.int32(scratch[at]))
        values[at] = k * LN2_HIGH + (f - (s * (f - p) - k * LN2_LOW))
