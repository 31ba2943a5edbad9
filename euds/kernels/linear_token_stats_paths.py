"""Which of the two GPU paths of linear token statistics a call takes."""

import torch

from euds.kernels.linear_token_stats_triton import linear_token_stats as by_fused_kernel
from euds.kernels.linear_token_stats_triton_tiles import linear_token_stats as by_tiles

LEAST_WIDTH = 64
FUSED_WIDTH = 1536
FUSED_VOCABULARY = 1 << 16
"""The fused kernel is taken up to this width H, or up to this vocabulary V. Measured on an H200 as shares of the
product alone, fused kernel and tiles: 82 and 70 % at H 1024, V 151,936; 80 and 50 to 59 % at H 2048, V 32,000 to
50,257, but 70 and 75 % at V 256,000; 77 and 69 % at H 4096, V 50,257, but 68 and 79 % at V 151,936. A fused tile's
reduction runs in series with its product; the other path pays a trip to memory for every logit, and launches that
small vocabularies do not hide."""


def takes_fused_kernel(hidden: torch.Tensor, vocabulary: int, softcap: float | None) -> bool:
    """Tell whether a call takes the fused kernel: 2-byte dtypes, small H or V, no soft cap, Hopper or newer.

    A soft cap nearly doubles the instructions of its epilogue, float32 products have no tensor cores there, and older
    cards lack the loads that it is built on.
    """
    width = hidden.shape[1]
    if hidden.element_size() != 2 or width < LEAST_WIDTH or softcap is not None:
        return False
    if width > FUSED_WIDTH and vocabulary > FUSED_VOCABULARY:
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
    if takes_fused_kernel(hidden, len(weight), softcap):
        return by_fused_kernel(hidden, weight, targets, bias, softcap, temperature, varentropy)
    return by_tiles(hidden, weight, targets, bias, softcap, temperature, varentropy)
