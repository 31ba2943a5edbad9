"""From sums to statistics in Triton: of a whole row where it ends, or of parts that are merged first.

The sums S, A and Q about a maximum are those of `euds.kernels.token_stats_triton`.
"""

import math

import torch
import triton
import triton.language as tl

from euds.kernels.sums_triton import LN2, LOG2_E, LOWEST, rebased

FINISH_ROWS = 16
N_WARPS = 2


@triton.jit
def store_stats(
    stats: tl.tensor,
    step: tl.int64,
    mask: tl.tensor | None,
    m: tl.tensor,
    s: tl.tensor,
    a: tl.tensor,
    q: tl.tensor,
    temperature: tl.float32,
) -> None:
    """Store entropy, varentropy, logsumexp and max_prob, step apart; NaN where the row is no distribution."""
    # A row of -inf only has s = 0; NaN or +inf has made s NaN.
    s = tl.where(s > 0, s, float("nan"))
    log_s = tl.log2(s)
    mean = a / s
    varentropy = tl.maximum(q / s - mean * mean, 0.0, propagate_nan=tl.PropagateNan.ALL)
    tl.store(stats, (log_s - mean) * LN2, mask=mask)
    tl.store(stats + step, varentropy * (LN2 * LN2), mask=mask)
    tl.store(stats + 2 * step, tl.div_rn(m, temperature) + log_s * LN2, mask=mask)
    tl.store(stats + 3 * step, 1 / s, mask=mask)


@triton.jit
def log_probability(z: tl.tensor, m: tl.tensor, s: tl.tensor, temperature: tl.float32) -> tl.tensor:
    """Natural log-probability of a logit of a row with these sums; NaN where the row is no distribution."""
    # The difference to the maximum first: it is exact where the logits are far from 0, and their log-sum-exp is not.
    return tl.div_rn(z - m, temperature) - tl.log2(tl.where(s > 0, s, float("nan"))) * LN2


@triton.jit(do_not_specialize=["n_rows", "n_parts"], do_not_specialize_on_alignment=["sums", "stats", "of_targets"])
def _finish_kernel(
    sums: tl.tensor,
    stats: tl.tensor,
    of_targets: tl.tensor | None,
    n_rows: tl.int64,
    n_parts: tl.int32,
    scale: tl.float32,
    temperature: tl.float32,
    PARTS: tl.constexpr,
    ROWS: tl.constexpr,
) -> None:
    """Merge the parts of sums (4, n_parts, N) of ROWS rows to statistics (4, N); PARTS is n_parts rounded up.

    Logits of targets (N,) become their log-probabilities, in place.
    """
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    parts = tl.arange(0, PARTS)[:, None]
    mask = (parts < n_parts) & (rows < n_rows)[None, :]
    slots = sums + parts * n_rows + rows[None, :]
    step = n_parts * n_rows
    # [PARTS, ROWS]
    m = tl.load(slots, mask=mask, other=LOWEST)
    s = tl.load(slots + step, mask=mask, other=0.0)
    a = tl.load(slots + 2 * step, mask=mask, other=0.0)
    q = tl.load(slots + 3 * step, mask=mask, other=0.0)
    top = tl.max(m, 0)
    s, a, q = rebased(s, a, q, (m - top[None, :]) * scale, True)
    s, a, q = tl.sum(s, 0), tl.sum(a, 0), tl.sum(q, 0)
    inside = rows < n_rows
    store_stats(stats + rows, n_rows, inside, top, s, a, q, temperature)
    if of_targets is not None:
        z = tl.load(of_targets + rows, mask=inside, other=0.0)
        tl.store(of_targets + rows, log_probability(z, top, s, temperature), mask=inside)


def finish(sums: torch.Tensor, temperature: float, of_targets: torch.Tensor | None = None) -> torch.Tensor:
    """Return the statistics (4, N) float32 of the contiguous sums (4, N), or of (4, parts, N) that belong together.

    Contiguous logits of targets (N,) float32, before the temperature, become their log-probabilities, in place.
    """
    n_parts, n_rows = math.prod(sums.shape[1:-1]), sums.shape[-1]
    stats = sums.new_empty((4, n_rows))
    if n_rows:
        with torch.cuda.device_of(sums):
            _finish_kernel[(triton.cdiv(n_rows, FINISH_ROWS),)](
                sums,
                stats,
                of_targets,
                n_rows,
                n_parts,
                LOG2_E / temperature,
                temperature,
                PARTS=triton.next_power_of_2(n_parts),
                ROWS=FINISH_ROWS,
                num_warps=N_WARPS,
                enable_fp_fusion=True,
            )
    return stats
