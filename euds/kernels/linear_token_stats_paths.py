"""Which of the two GPU paths of linear token statistics a call takes."""

import torch

from euds.kernels.linear_token_stats_plan import TILES, fits_descriptor
from euds.kernels.linear_token_stats_triton import MOST_NATS
from euds.kernels.linear_token_stats_triton import linear_token_stats as by_fused_kernel
from euds.kernels.linear_token_stats_triton_tiles import linear_token_stats as by_tiles

LEAST_WIDTH = 64
"""Below it a row of hidden states is shorter than one load of the fused kernel."""


def takes_fused_kernel(hidden: torch.Tensor, weight: torch.Tensor, softcap: float | None, temperature: float) -> bool:
    """Tell whether a call takes the fused kernel: 2-byte dtypes, H of at least 64, TMA loads on a card it is tuned for.

    Nor does it take temperatures so low that its exponents would overflow.

    Measured on an H200 in bfloat16 as shares of the product alone, fused kernel and tiles: 91 and 61 % at H 576, V
    32,000, 99 and 74 % at H 1024, V 151,936, 96 and 83 % at H 2048, V 32,000, 95 to 97 and 88 % at H 4096, V 151,936.
    Float32 products have no tensor cores there; other cards, and rows that are not aligned to 16 bytes, go without the
    loads that it is built on.
    """
    if hidden.element_size() != 2 or hidden.shape[1] < LEAST_WIDTH or (softcap or 1.0) / temperature > MOST_NATS:
        return False
    if not hidden.is_cuda:
        return True
    return is_tuned_for(hidden.device) and fits_descriptor(hidden) and fits_descriptor(weight)


def is_tuned_for(device: torch.device) -> bool:
    """Tell whether the fused kernel is tuned for a card."""
    return torch.cuda.get_device_capability(device)[0] in TILES


def linear_token_stats(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor | None,
    bias: torch.Tensor | None,
    softcap: float | None,
    temperature: float,
    varentropy: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return what either path returns: (4, N) float32 statistics and each target's log-probability (N,)."""
    if takes_fused_kernel(hidden, weight, softcap, temperature):
        return by_fused_kernel(hidden, weight, targets, bias, softcap, temperature, varentropy)
    return by_tiles(hidden, weight, targets, bias, softcap, temperature, varentropy)
