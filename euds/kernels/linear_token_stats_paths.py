"""Which of the two GPU paths of linear token statistics a call takes."""

import torch

from euds.kernels.linear_token_stats_triton import linear_token_stats as by_fused_kernel
from euds.kernels.linear_token_stats_triton_tiles import linear_token_stats as by_tiles

FUSED_WIDTHS = range(64, 1537)
"""Widths H at which the fused kernel is taken. Measured on an H200 at V 151,936: 81 % of the product alone at H 1024,
where the other path has 69 %; 73 % against 75 % at H 2048; 70 % against 85 % at H 4096. A tile's reduction costs the
same at every H, in series with the product, while the other path pays a trip to memory for every logit."""


def takes_fused_kernel(hidden: torch.Tensor, softcap: float | None) -> bool:
    """Tell whether a call takes the fused kernel: 2-byte dtypes, H in FUSED_WIDTHS, no soft cap, Hopper or newer.

    A soft cap nearly doubles the instructions of its epilogue, float32 products have no tensor cores there, and older
    cards lack the loads that it is built on.
    """
    if hidden.element_size() != 2 or hidden.shape[1] not in FUSED_WIDTHS or softcap is not None:
        return False
    return not hidden.is_cuda or torch.cuda.get_device_capability(hidden.device) >= (9, 0)


def linear_token_stats(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor | None,
    bias: torch.Tensor | None,
    softcap: float | None,
    temperature: float,
    varentropy: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return what either path returns: (4, N) float32 statistics and the scaled logit of each target (N,)."""
    if takes_fused_kernel(hidden, softcap):
        return by_fused_kernel(hidden, weight, targets, bias, softcap, temperature, varentropy)
    return by_tiles(hidden, weight, targets, bias, softcap, temperature, varentropy)
