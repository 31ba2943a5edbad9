"""An output projection in tiles: one matrix product after another into one small buffer.

The (N, V) logits never exist. Columns are the outer loop, so that the weight is read from memory once.
"""

from collections.abc import Iterator

import torch


def tiles(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    softcap: float | None,
    n_rows: int,
    n_columns: int,
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield (rows, logits) over all rows and columns; the next tile overwrites the logits.

    Args:
        hidden: (N, H).
        weight: (V, H), dtype of hidden.
        bias: (V,) or None.
        softcap: the logits are softcap * tanh(z / softcap), or None.
        n_rows: largest number of rows in a tile.
        n_columns: largest number of columns in a tile.
    """
    buffer = hidden.new_empty(min(n_rows, len(hidden)) * min(n_columns, len(weight)))
    for first in range(0, len(weight), n_columns):
        columns = weight[first : first + n_columns]
        part_of_bias = None if bias is None else bias[first : first + n_columns]
        for start in range(0, len(hidden), n_rows):
            rows = slice(start, min(start + n_rows, len(hidden)))
            # [rows, columns]
            z = buffer[: (rows.stop - start) * len(columns)].view(-1, len(columns))
            torch.mm(hidden[rows], columns.T, out=z)
            yield rows, _shaped(z, part_of_bias, softcap)


def target_logits(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, bias: torch.Tensor | None, softcap: float | None
) -> torch.Tensor:
    """Return the logit of each row's target, (N,) float32; targets (N,) int64 in 0..V-1."""
    logits = torch.empty(len(hidden), device=hidden.device)
    for start in range(0, len(hidden), 512):
        rows = slice(start, start + 512)
        index = targets[rows]
        z = (hidden[rows].float() * weight[index].float()).sum(1)
        logits[rows] = _shaped(z, None if bias is None else bias[index], softcap)
    return logits


def _shaped(z: torch.Tensor, bias: torch.Tensor | None, softcap: float | None) -> torch.Tensor:
    """Turn products into logits: in float32, in place where z is float32, and untouched if there is nothing to do."""
    if bias is None and softcap is None:
        return z
    z = z.float()
    if bias is not None:
        z += bias.float()
    return z if softcap is None else z.div_(softcap).tanh_().mul_(softcap)
