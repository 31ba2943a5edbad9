"""Statistics of next-token distributions on the CPU: the one-pass sums of `csrc/src/token_sums.cpp`, zero-copy."""

import numpy as np
import torch

from euds import _core
from euds.kernels.token_stats_torch import finish, log_probability, target_logits
from euds.types import Float64Array

ISA = _core.usable_isas()[0]
"""The instruction set in use, the best of this processor; tests set it to each of them."""

DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


def token_stats(
    logits: torch.Tensor, targets: torch.Tensor | None, temperature: float, varentropy: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return (4, N) float32 of entropy, varentropy, logsumexp, max_prob, and each target's log-probability (N,).

    logits (n, m, V), N = n m, on the CPU, of one of DTYPES, any strides; targets (N,) int64 in 0..V-1 or None. Without
    `varentropy` that row means nothing.
    """
    sums = empty_sums(logits.shape[0] * logits.shape[1])
    add_logits(logits, sums, temperature, varentropy)
    return finished(sums, temperature, None if targets is None else target_logits(logits, targets))


def empty_sums(n_rows: int) -> Float64Array:
    """Return the sums (n_rows, 4) of rows without a logit: maximum, and S, A, Q about it."""
    sums = np.zeros((n_rows, 4))
    sums[:, 0] = -np.inf
    return sums


def add_logits(logits: torch.Tensor, sums: Float64Array, temperature: float, varentropy: bool) -> None:
    """Add logits (n, m, V) to the C-contiguous sums (n * m, 4) of their rows."""
    if logits.stride(2) != 1 or logits.data_ptr() % logits.element_size():
        # Not `contiguous`, which leaves a buffer that begins at an odd address where it is.
        logits = logits.clone(memory_format=torch.contiguous_format)
    array = logits.numpy() if logits.dtype == torch.float32 else logits.view(torch.uint16).numpy()
    _core.add_logits(array, DTYPES[logits.dtype], sums, 1 / temperature, varentropy, torch.get_num_threads(), ISA)


def finished(
    sums: Float64Array, temperature: float, target_logits: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return what `token_stats` does, of sums and of the logit of each target (n_rows,) before the temperature."""
    by_kind = torch.from_numpy(sums.T)
    results = finish(by_kind, temperature).float()
    if target_logits is None:
        return results, None
    return results, log_probability(by_kind, target_logits.double(), temperature).float()
