"""Token statistics straight from hidden states: the output projection in tiles that stay in the cache.

The (N, V) logits never exist: a tile of them is made by one matrix product, reduced to running sums, and overwritten.
"""

import torch

from euds.kernels.token_stats_torch import Sums, block_sums, finish, merge

TILE_ROWS = 512
TILE_BYTES = 2 << 20
"""Size of a tile of logits: large enough for an efficient product, small enough not to travel to memory and back."""


def linear_token_stats(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor | None,
    bias: torch.Tensor | None,
    softcap: float | None,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return (4, N) float32 of entropy, varentropy, logsumexp, max_prob, and the scaled logit of each target (N,).

    hidden (N, H) and weight (V, H) share a dtype; targets (N,) int64 in 0..V-1 or None.
    """
    n_rows = len(hidden)
    results = torch.full((4, n_rows), float("nan"), device=hidden.device)
    target_logits = None if targets is None else torch.full((n_rows,), float("nan"), device=hidden.device)
    for start in range(0, n_rows, TILE_ROWS):
        part = slice(start, start + TILE_ROWS)
        results[:, part] = _rows(hidden[part], weight, bias, softcap, temperature)
        if targets is not None and target_logits is not None:
            picked = weight[targets[part]]
            z = (hidden[part].float() * picked.float()).sum(1)
            target_logits[part] = _shaped(z, None if bias is None else bias[targets[part]], softcap, temperature)
    return results, target_logits


def _rows(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, softcap: float | None, temperature: float
) -> torch.Tensor:
    columns = max(1, TILE_BYTES // (4 * len(hidden)))
    total: Sums | None = None
    for start in range(0, len(weight), columns):
        part = slice(start, start + columns)
        # [rows, columns]
        z = torch.nn.functional.linear(hidden, weight[part]).float()
        sums = block_sums(_shaped(z, None if bias is None else bias[part], softcap, temperature))
        total = sums if total is None else merge(total, sums)
    assert total is not None
    return finish(total)


def _shaped(z: torch.Tensor, bias: torch.Tensor | None, softcap: float | None, temperature: float) -> torch.Tensor:
    """Turn products into logits, in place: bias, soft cap, temperature."""
    if bias is not None:
        z += bias.float()
    if softcap is not None:
        z.div_(softcap).tanh_().mul_(softcap)
    return z if temperature == 1 else z.mul_(1 / temperature)
