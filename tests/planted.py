"""Rows of logits that break careless kernels, and what the float64 reference says of them."""

import math

import numpy as np
import torch

from euds.reference import entropy as reference
from euds.types import Float64Array

FIELDS = ("entropy", "varentropy", "logsumexp", "max_prob", "target_logprob")


def planted(vocabulary: int, dtype: torch.dtype) -> torch.Tensor:
    """Return rows (10, V): plain, peaked, flat, far offsets, all very negative, 30 % -inf, one-hot, spread, tied."""
    generator = torch.Generator().manual_seed(vocabulary)
    base = 3 * torch.randn(vocabulary, generator=generator)
    peaked = base.clone()
    peaked[vocabulary // 2] += 40
    masked = base.clone()
    masked[torch.rand(vocabulary, generator=generator) < 0.3] = -math.inf
    masked[0] = 0.0
    one_hot = torch.full((vocabulary,), -math.inf)
    one_hot[vocabulary - 1] = 5.0
    tied = torch.full((vocabulary,), -10.233)
    tied[0] = 0.0
    flat = torch.zeros(vocabulary)
    rows = [base, peaked, flat, base + 1000, base - 1000, base - 60000, masked, one_hot, base * 30, tied]
    return torch.stack(rows).to(dtype)


def hopeless(vocabulary: int, dtype: torch.dtype) -> torch.Tensor:
    """Return rows (4, V) that are no distribution: a NaN first, a NaN last, a +inf, only -inf."""
    rows = torch.zeros(4, vocabulary, dtype=dtype)
    rows[0, 0] = math.nan
    rows[1, -1] = math.nan
    rows[2, vocabulary // 2] = math.inf
    rows[3] = -math.inf
    return rows


def expected(logits: torch.Tensor, targets: torch.Tensor) -> dict[str, Float64Array]:
    """Return the reference's value of every field for each row."""
    rows = [
        reference.token_stats(row.double().numpy(), target)
        for row, target in zip(logits, targets.tolist(), strict=True)
    ]
    return {field: np.array([row[field] for row in rows]) for field in FIELDS}


def allowed_entropy_error(logits: torch.Tensor, oracle: Float64Array) -> Float64Array:
    """Return the larger of 1e-5 and the error of torch's log-softmax in float32, for each row."""
    logp = torch.log_softmax(logits.float(), -1)
    eager = -(logp.exp() * logp.masked_fill(logp == -math.inf, 0)).sum(-1).double().numpy()
    return np.fmax(1e-5, np.abs(eager - oracle))


def check_logprob(found: torch.Tensor | None, logits: torch.Tensor, targets: torch.Tensor) -> None:
    """Assert that log-probabilities (..., N) are off by at most 1e-5, or as much as torch's log-softmax in float32."""
    assert found is not None
    oracle = expected(logits, targets)["target_logprob"]
    eager = torch.log_softmax(logits.float(), -1).gather(1, targets[:, None])[:, 0].double().numpy()
    values, certain = found.double().numpy(), np.isfinite(oracle)
    error, allowed = (np.abs(own[..., certain] - oracle[certain]) for own in (values, eager))
    assert (error <= np.fmax(1e-5, allowed)).all(), error
    others = values[..., ~certain]
    np.testing.assert_array_equal(others, np.broadcast_to(oracle[~certain], others.shape))
