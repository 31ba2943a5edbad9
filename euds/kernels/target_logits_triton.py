"""The logit of each row's target in Triton: one row of hidden states times one row of the output projection."""

import torch
import triton
import triton.language as tl

from euds.kernels.sums_triton import capped, exponent_of_cap

DEPTH = 1024
"""Most elements along H that a program works on at once."""


@triton.jit
def target_logits_kernel(
    hidden: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor | None,
    targets: tl.tensor,
    out: tl.tensor,
    width: tl.tensor,
    strides: tl.tuple,
    cap_exponent: tl.tensor,
    DEPTH: tl.constexpr,
    SOFTCAP: tl.constexpr,
    ROUNDED: tl.constexpr,
) -> None:
    """Write hidden[row] . weight[target] + bias[target], float32, of one row, or its tanh(. / cap)."""
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + row)
    products = tl.zeros([DEPTH], tl.float32)
    for k in range(0, width, DEPTH):
        depth = k + tl.arange(0, DEPTH)
        at = depth.to(tl.int64)
        h = tl.load(hidden + row * strides[0] + at * strides[1], mask=depth < width, other=0.0)
        w = tl.load(weight + target * strides[2] + at * strides[3], mask=depth < width, other=0.0)
        products += h.to(tl.float32) * w.to(tl.float32)
    z = tl.sum(products, 0)
    if ROUNDED:
        z = z.to(hidden.dtype.element_ty).to(tl.float32)
    if bias is not None:
        z += tl.load(bias + target).to(tl.float32)
    if SOFTCAP:
        z = capped(z, cap_exponent)
    tl.store(out + row, z)


def target_logits(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    bias: torch.Tensor | None,
    softcap: float | None,
    rounded: bool,
) -> torch.Tensor:
    """Return the logit of each row's target, (N,) float32, in units of the soft cap where there is one.

    hidden (N, H) and weight (V, H), any strides; targets (N,) int64 in 0..V-1; bias (V,) or None. The product is summed
    in float32, and `rounded` to the dtype of hidden where the products that it is compared with are.
    """
    out = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
    if len(hidden) == 0:
        return out
    width = hidden.shape[1]
    with torch.cuda.device_of(hidden):
        target_logits_kernel[(len(hidden),)](
            hidden,
            weight,
            None if bias is None else bias.contiguous(),
            targets.contiguous(),
            out,
            width,
            (*hidden.stride(), *weight.stride()),
            exponent_of_cap(softcap),
            DEPTH=min(DEPTH, triton.next_power_of_2(width)),
            SOFTCAP=softcap is not None,
            ROUNDED=rounded,
        )
    return out
