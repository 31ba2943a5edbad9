"""An output projection in tiles: one matrix product after another into one small buffer.

The (N, V) logits never exist. Columns are the outer loop, so that the weight is read from memory once.
"""

from collections.abc import Iterator

import torch

from euds.kernels import products_onednn

WHOLE = 64
"""Rows of products lie a multiple of so many numbers apart: at an odd distance cuBLAS is several times slower."""


def tiles(
    hidden: torch.Tensor, weight: torch.Tensor, n_rows: int, n_columns: int
) -> Iterator[tuple[slice, slice, torch.Tensor]]:
    """Yield (rows, columns, products) over all rows and columns; the next tile may overwrite the products.

    Args:
        hidden: (N, H).
        weight: (V, H), dtype of hidden.
        n_rows: largest number of rows in a tile.
        n_columns: largest number of columns in a tile.
    """
    onednn = hidden.device.type == "cpu" and hidden.dtype == torch.float32 and products_onednn.is_faster_here()
    apart = -(-min(n_columns, len(weight)) // WHOLE) * WHOLE
    buffer = None if onednn else hidden.new_empty(min(n_rows, len(hidden)), apart)
    for first in range(0, len(weight), n_columns):
        columns = slice(first, min(first + n_columns, len(weight)))
        for start in range(0, len(hidden), n_rows):
            rows = slice(start, min(start + n_rows, len(hidden)))
            # [rows, columns]
            if buffer is None:
                yield rows, columns, products_onednn.linear(hidden[rows], weight[columns])
                continue
            z = buffer[: rows.stop - start, : columns.stop - first]
            torch.mm(hidden[rows], weight[columns].T, out=z)
            yield rows, columns, z


def shaped(z: torch.Tensor, bias: torch.Tensor | None, softcap: float | None) -> torch.Tensor:
    """Turn products into softcap * tanh((z + bias) / softcap).

    In float32, in place where z is float32, and untouched if there is nothing to do; bias has the length of the last
    dimension of z.
    """
    if bias is None and softcap is None:
        return z
    z = z.float()
    if bias is not None:
        z += bias.float()
    return z if softcap is None else z.div_(softcap).tanh_().mul_(softcap)


def target_logits(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, bias: torch.Tensor | None, softcap: float | None
) -> torch.Tensor:
    """Return the logit of each row's target, (N,) float32; targets (N,) int64 in 0..V-1.

    Its product is rounded to the dtype of hidden, as those of `tiles` are: a sure token would else seem less than sure.
    Where torch may multiply float32 as TF32, those of `tiles` are less exact than this one.
    """
    wide = torch.promote_types(hidden.dtype, torch.float32)
    logits = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
    for start in range(0, len(hidden), 512):
        rows = slice(start, start + 512)
        index = targets[rows]
        z = (hidden[rows].to(wide) * weight[index].to(wide)).sum(1).to(hidden.dtype).float()
        logits[rows] = shaped(z, None if bias is None else bias[index], softcap)
    return logits
