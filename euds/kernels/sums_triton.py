"""What the Triton kernels of token statistics share: sums about a maximum that moves, and the soft cap.

With exponents d, in log2 units about a maximum, the sums are S = sum 2^d, A = sum d 2^d and Q = sum d^2 2^d.
"""

import math

import torch
import triton
import triton.language as tl

FLOOR = tl.constexpr(-200.0)
"""Smallest exponent worked with: 2^-200 is 0 in float32, and 0 * -200 is 0 where 0 * -inf is not."""
LOWEST = tl.constexpr(torch.finfo(torch.float32).min)
"""Where a maximum starts: finite, so that the distance to it is defined for a logit of -inf."""
LN2 = tl.constexpr(math.log(2))
LOG2_E = math.log2(math.e)


@triton.jit
def bounded(d: tl.tensor) -> tl.tensor:
    """Exponents bounded from below; a NaN stays one."""
    return tl.maximum(d, FLOOR, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def rebased(
    s: tl.tensor, a: tl.tensor, q: tl.tensor, shift: tl.tensor, VARENTROPY: tl.constexpr
) -> tuple[tl.tensor, ...]:
    """Sums about a maximum that lies -shift above the one they were taken about, in log2 units."""
    shift = bounded(shift)
    factor = tl.exp2(shift)
    if VARENTROPY:
        q = (q + shift * (2.0 * a + shift * s)) * factor
    return s * factor, (a + shift * s) * factor, q


@triton.jit
def capped(z: tl.tensor, cap_exponent: tl.tensor) -> tl.tensor:
    """Logits behind a soft cap, in units of it; see `exponent_of_cap`."""
    # tanh(u) = 1 - 2 / (1 + e^2u), which is 1 at e^2u = inf and -1 at 0.
    return 1.0 - 2.0 / (1.0 + tl.exp2(z * cap_exponent))


def exponent_of_cap(softcap: float | None) -> float:
    """Return what turns logits z into the exponents 2 z / softcap of `capped`, in log2 units; 0 without a cap."""
    return 0.0 if softcap is None else 2 / (softcap * math.log(2))
