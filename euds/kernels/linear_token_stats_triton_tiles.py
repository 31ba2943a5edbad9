"""Token statistics straight from hidden states on a GPU: library products into one small tile after another."""

import torch

from euds.kernels.finish_triton import finish
from euds.kernels.projection_tiles import tiles
from euds.kernels.target_logits_triton import target_logits
from euds.kernels.token_stats_triton import STEP, update_sums

TILE_BYTES = 64 << 20
"""Measured on an H200 at H 2048 and 4096: tiles of 16 MiB, which the L2 cache holds, are bound by launches (66 % and
82 % of the product alone, against 75 % and 85 %), and those of 256 MiB gain four points at most."""
FLAT_TEMPERATURE = 1e30
"""In units of the soft cap: any higher one gives the same in float32, and its inverse, as a factor, could become 0."""

COLUMN_STEP = 4 * STEP.value
"""Columns come in whole turns of the reduction's main loop; a remainder takes three times as many instructions."""


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

    hidden (N, H) and weight (V, H) share a dtype, which is that of the products; targets (N,) int64 in 0..V-1 or None;
    bias (V,) or None. Without `varentropy` that row is NaN.
    """
    bias = None if bias is None else bias.contiguous()
    # Soft-capped logits are in units of the cap throughout.
    temperature = temperature if softcap is None else min(temperature / softcap, FLAT_TEMPERATURE)
    sums = torch.empty((4, len(hidden)), dtype=torch.float32, device=hidden.device)
    n_rows = min(TILE_BYTES // (COLUMN_STEP * hidden.element_size()), max(len(hidden), 1))
    n_columns = TILE_BYTES // (n_rows * hidden.element_size() * COLUMN_STEP) * COLUMN_STEP
    for rows, columns, products in tiles(hidden, weight, n_rows, n_columns):
        part_of_bias = None if bias is None else bias[columns]
        first = columns.start == 0
        update_sums(products, sums[:, rows], first, temperature, varentropy, bias=part_of_bias, softcap=softcap)
    if targets is None:
        return finish(sums, temperature), None
    of_targets = target_logits(hidden, weight, targets, bias, softcap, rounded=True)
    return finish(sums, temperature, of_targets), of_targets
