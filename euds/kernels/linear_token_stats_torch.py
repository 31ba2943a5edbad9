"""Token statistics straight from hidden states in torch: tiles of the product, reduced to running sums."""

import torch

from euds.kernels.projection_tiles import shaped, target_logits, tiles
from euds.kernels.token_stats_torch import block_sums, empty_sums, finish, log_probability, merge

TILE_ROWS = 512
TILE_COLUMNS = 1024
"""2 MiB of float32: large enough for an efficient product, small enough not to travel to memory and back."""


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

    hidden (N, H) and weight (V, H) share a dtype; targets (N,) int64 in 0..V-1 or None. Without `varentropy` that row
    means nothing.
    """
    sums = empty_sums(len(hidden), hidden.device)
    for rows, columns, products in tiles(hidden, weight, TILE_ROWS, TILE_COLUMNS):
        logits = shaped(products, None if bias is None else bias[columns], softcap)
        sums[:, rows] = merge(sums[:, rows], block_sums(logits.float(), temperature, varentropy), temperature)
    results = finish(sums, temperature)
    if targets is None:
        return results, None
    return results, log_probability(sums, target_logits(hidden, weight, targets, bias, softcap), temperature)
