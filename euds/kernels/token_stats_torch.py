"""Statistics of next-token distributions in torch: one-pass sums about the maximum, in float32, block by block.

With m = max z, d = (z-m)/T, S = sum e^d, A = sum d e^d, Q = sum d^2 e^d: entropy = ln S - A/S and varentropy =
Q/S - (A/S)^2. Both terms of the entropy are >= 0, so nothing cancels; and the difference to the maximum is taken before
it is divided by the temperature, so that logits far from 0 are not rounded one by one.
"""

import torch

BLOCK_ELEMENTS = 1 << 20
"""Logits worked on at a time: 4 MiB of float32, so that a block and its exponentials stay near the cache."""


def token_stats(
    logits: torch.Tensor, targets: torch.Tensor | None, temperature: float, varentropy: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return (4, N) float32 of entropy, varentropy, logsumexp, max_prob, and each target's log-probability (N,).

    logits (n, m, V), N = n m, of any floating dtype and any strides; targets (N,) int64 in 0..V-1 or None. Without
    `varentropy` that row means nothing.
    """
    flat = logits.reshape(-1, logits.shape[2])
    sums = empty_sums(len(flat), logits.device)
    rows = max(1, BLOCK_ELEMENTS // logits.shape[2])
    for start in range(0, len(flat), rows):
        sums[:, start : start + rows] = block_sums(flat[start : start + rows].float(), temperature, varentropy)
    results = finish(sums, temperature)
    if targets is None:
        return results, None
    return results, log_probability(sums, target_logits(logits, targets), temperature)


def target_logits(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the logit of each target (N,) int64, (N,) float32, of logits (n, m, V), N = n m."""
    return logits.gather(2, targets.view(*logits.shape[:2], 1)).flatten().float()


def empty_sums(n_rows: int, device: torch.device) -> torch.Tensor:
    """Return the sums (4, n_rows) float32 of rows without a logit: largest logit m, and S, A, Q about it."""
    sums = torch.zeros((4, n_rows), dtype=torch.float32, device=device)
    sums[0] = -torch.inf
    return sums


def block_sums(z: torch.Tensor, temperature: float, varentropy: bool) -> torch.Tensor:
    """Return the sums (4, rows) of one block of logits (rows, columns) float32, which is left as it is."""
    m = z.amax(1)
    # A row of -inf has no finite logit to measure from; any finite reference gives sums of zero.
    reference = torch.where(m == -torch.inf, 0.0, m)
    d = z - reference[:, None]
    if temperature != 1:
        d /= temperature
    e = d.exp()
    # e is 0 where d is -inf, and 0 * -inf must count as 0; a NaN stays one.
    d.clamp_(min=-200.0)
    first = e * d
    s, a = e.sum(1), first.sum(1)
    return torch.stack([m, s, a, first.mul_(d).sum(1) if varentropy else torch.zeros_like(m)])


def merge(a: torch.Tensor, b: torch.Tensor, temperature: float) -> torch.Tensor:
    """Merge the sums (4, rows) of two parts of the same rows."""
    m = torch.maximum(a[0], b[0])
    reference = torch.where(m == -torch.inf, 0.0, m)
    total_s, total_a, total_q = torch.zeros_like(m), torch.zeros_like(m), torch.zeros_like(m)
    for part_m, s, first, second in (a, b):
        d = ((part_m - reference) / temperature).clamp(min=-200.0)
        e = torch.where(part_m == -torch.inf, 0.0, d.exp())
        total_s = total_s + s * e
        total_a = total_a + (first + d * s) * e
        total_q = total_q + (second + 2 * d * first + d * d * s) * e
    return torch.stack([m, total_s, total_a, total_q])


def log_probability(sums: torch.Tensor, z: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return ln p (rows,) of a logit of each row of such sums; NaN where a row is no distribution."""
    m, s = sums[:2]
    # The difference to the maximum first: it is exact where the logits are far from 0, and their log-sum-exp is not. Of
    # halves, as it may be twice the largest number.
    nats = (z / 2 - m / 2) / temperature * 2
    return torch.where(torch.isfinite(m) & (s > 0), nats - s.log(), torch.nan)


def finish(sums: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return entropy, varentropy, logsumexp and max_prob (4, rows) of such sums; NaN where a row is no distribution."""
    m, s, first, second = sums
    mean = first / s
    log_s = s.log()
    results = torch.stack([log_s - mean, (second / s - mean * mean).clamp(min=0.0), m / temperature + log_s, 1 / s])
    return torch.where(torch.isfinite(m) & torch.isfinite(log_s), results, torch.nan)
