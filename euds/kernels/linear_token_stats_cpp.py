"""Token statistics straight from hidden states on the CPU: tiles of torch's product, reduced in C++ in the cache."""

import torch

from euds.kernels.projection_tiles import shaped, target_logits, tiles
from euds.kernels.token_stats_cpp import ISA, add_logits, empty_sums, finished

TILE_ROWS, TILE_COLUMNS = (1024, 3072) if ISA == "avx512" else (512, 2048)
"""On an AMD EPYC with AVX2 4 MiB of float32 were the fastest. On an Intel Xeon with AVX-512 1,024 rows, a batch of the
engine, took 5 to 8 % less time in tiles of 12 MiB; in 8 or 16 MiB, whose rows lie a power of two apart, the statistics
took half as long again."""


def linear_token_stats(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor | None,
    bias: torch.Tensor | None,
    softcap: float | None,
    temperature: float,
    varentropy: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return (4, N) float32 of entropy, varentropy, logsumexp, max_prob, and each target's log-probability (N,).

    hidden (N, H) and weight (V, H) share a dtype, float32, bfloat16 or float16, which is that of the products; targets
    (N,) int64 in 0..V-1 or None. Without `varentropy` that row means nothing.
    """
    sums = empty_sums(len(hidden))
    for rows, columns, products in tiles(hidden, weight, TILE_ROWS, TILE_COLUMNS):
        logits = shaped(products, None if bias is None else bias[columns], softcap)
        add_logits(logits[None], sums[rows], temperature, varentropy)
    looked_up = None if targets is None else target_logits(hidden, weight, targets, bias, softcap)
    return finished(sums, temperature, looked_up)
