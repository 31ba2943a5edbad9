"""Token statistics fused with the output projection in Triton: logits exist only as the accumulators of a tile.

One program owns a block of rows and a share of the vocabulary. Each tile of hidden @ weight.T is reduced, while it is
still in float32 registers, to sums about a running maximum; a second kernel merges the shares in a fixed order. Work is
in log2 units: x = logit * log2(e) / temperature, d = x - m, and m, S = sum 2^d, A = sum d 2^d, Q = sum d^2 2^d.
"""

import math

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from euds.kernels.linear_token_stats_plan import Plan, choose_plan
from euds.kernels.sums_triton import LN2, LOWEST, bounded, capped, exponent_of_cap, rebased
from euds.kernels.target_logits_triton import target_logits

FIELDS = tl.constexpr(5)
"""Partial results a row and share: peak logit, m, S, A, Q."""

MERGE_ROWS = 128

MOST_NATS = 1e3
"""Largest nats that a unit of a logit stands for: its soft cap, or 1, over the temperature. Exponents are taken about
the rounded product of largest logit and scale; far beyond, that rounding alone would leave the range of 2^d."""


@triton.jit
def _product(
    hidden: tl.tensor,
    weight: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    shape: tl.tuple,
    strides: tl.tuple,
    nothing: tl.tensor,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    TMA: tl.constexpr,
) -> tl.tensor:
    """Tile [ROWS, COLUMNS] of nothing + hidden @ weight.T at (row, column), float32; outside them unspecified."""
    n_rows, vocabulary, width = shape
    product = tl.zeros([ROWS, COLUMNS], tl.float32) + nothing
    if TMA:
        for k in range(0, width, DEPTH):
            product = tl.dot(hidden.load([row, k]), weight.load([column, k]).T, product, input_precision="ieee")
    else:
        # Rows past the end repeat the last one, so that only the depth needs a mask.
        rows = tl.minimum(row + tl.arange(0, ROWS), n_rows - 1).to(tl.int64)
        columns = tl.minimum(column + tl.arange(0, COLUMNS), vocabulary - 1).to(tl.int64)
        hidden_rows = hidden + rows[:, None] * strides[0]
        weight_rows = weight + columns[None, :] * strides[2]
        for k in range(0, width, DEPTH):
            depth = k + tl.arange(0, DEPTH)
            at = depth.to(tl.int64)
            a = tl.load(hidden_rows + at[None, :] * strides[1], mask=(depth < width)[None, :], other=0.0)
            b = tl.load(weight_rows + at[:, None] * strides[3], mask=(depth < width)[:, None], other=0.0)
            product = tl.dot(a, b, product, input_precision="ieee")
    return product


@triton.jit
def _shaped(
    z: tl.tensor,
    bias: tl.tensor,
    columns: tl.tensor,
    vocabulary: tl.tensor,
    cap_exponent: tl.tensor,
    BIAS: tl.constexpr,
    SOFTCAP: tl.constexpr,
    LAST: tl.constexpr,
) -> tl.tensor:
    """Turn products into logits, in units of the soft cap where there is one; -inf past the vocabulary."""
    if BIAS:
        z += tl.load(bias + tl.minimum(columns, vocabulary - 1)).to(tl.float32)[None, :]
    if SOFTCAP:
        z = capped(z, cap_exponent)
    if LAST:
        z = tl.where((columns < vocabulary)[None, :], z, float("-inf"))
    return z


@triton.jit
def _with_tile(sums: tl.tuple, z: tl.tensor, scale: tl.tensor, VARENTROPY: tl.constexpr) -> tuple[tl.tensor, ...]:
    """Running sums of each row with one more tile of logits z [ROWS, COLUMNS]."""
    peak, m, s, a, q = sums
    tile_peak = tl.max(z, 1)
    new_m = tl.maximum(m, tile_peak * scale)
    s, a, q = rebased(s, a, q, m - new_m, VARENTROPY)
    # One rounding, so that d is exact however far the logits lie from 0.
    d = bounded(tl.fma(z, scale, -new_m[:, None]))
    e = tl.exp2(d)
    first = e * d
    s += tl.sum(e, 1)
    a += tl.sum(first, 1)
    if VARENTROPY:
        q += tl.sum(first * d, 1)
    return tl.maximum(peak, tile_peak), new_m, s, a, q


@triton.jit
def _row_block_and_share(
    program: tl.tensor, n_blocks: tl.tensor, n_shares: tl.tensor, neighbours: tl.tensor
) -> tuple[tl.tensor, tl.tensor]:
    """Block of rows and share of the vocabulary of a program: few blocks run side by side, with as many shares.

    Hidden states of those blocks stay in the L2 cache while weights pass by, each read for all of the blocks.
    """
    first = program // (neighbours * n_shares) * neighbours
    within = program % (neighbours * n_shares)
    neighbours = tl.minimum(n_blocks - first, neighbours)
    return first + within % neighbours, within // neighbours


@triton.jit(do_not_specialize=["n_rows", "vocabulary", "tiles_per_share", "n_shares", "neighbours"])
def tile_sums_kernel(
    hidden: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    partial: tl.tensor,
    n_rows: tl.tensor,
    vocabulary: tl.tensor,
    width: tl.tensor,
    strides: tl.tuple,
    tiles_per_share: tl.tensor,
    n_shares: tl.tensor,
    neighbours: tl.tensor,
    scale: tl.tensor,
    cap_exponent: tl.tensor,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    TMA: tl.constexpr,
    BIAS: tl.constexpr,
    SOFTCAP: tl.constexpr,
    VARENTROPY: tl.constexpr,
) -> None:
    """Reduce one block of rows over one share of the vocabulary into partial (shares, FIELDS, N) float32.

    hidden (N, H) and weight (V, H) are tensor descriptors of blocks [ROWS, DEPTH] and [COLUMNS, DEPTH] if TMA, else
    pointers with the four strides.
    """
    # Without this, the reduction is compiled once more for products of no depth.
    tl.assume(width > 0)
    block, share = _row_block_and_share(tl.program_id(0), tl.cdiv(n_rows, ROWS), n_shares, neighbours)
    row = block * ROWS
    rows = row + tl.arange(0, ROWS)
    shape = (n_rows, vocabulary, width)
    zeros = tl.zeros([ROWS], tl.float32)
    # A zero that the compiler does not know: a known one reaches each accumulator in two instructions, not one.
    nothing = scale * 0.0
    sums = (zeros + LOWEST, zeros + LOWEST, zeros, zeros, zeros)
    start = share * tiles_per_share
    end = tl.minimum(start + tiles_per_share, tl.cdiv(vocabulary, COLUMNS))
    whole = tl.minimum(end, vocabulary // COLUMNS)
    # The tile that reaches past the vocabulary is a loop of its own, the only one that pays for a mask.
    for LAST in tl.static_range(2):
        from_tile, to_tile = (whole, end) if LAST else (start, whole)
        # Flat over tiles and depth: loads of the next tile are under way while this one is reduced.
        for tile in tl.range(from_tile, to_tile, flatten=LAST == 0):
            column = tile * COLUMNS
            z = _product(hidden, weight, row, column, shape, strides, nothing, ROWS, COLUMNS, DEPTH, TMA)
            z = _shaped(z, bias, column + tl.arange(0, COLUMNS), vocabulary, cap_exponent, BIAS, SOFTCAP, LAST)
            sums = _with_tile(sums, z, scale, VARENTROPY)
    field = n_rows.to(tl.int64)
    at = partial + share * FIELDS * field + rows
    inside = rows < n_rows
    for i in tl.static_range(5 if VARENTROPY else 4):
        tl.store(at + i * field, sums[i], mask=inside)


@triton.jit(do_not_specialize=["n_rows", "n_shares"])
def merge_shares_kernel(
    partial: tl.tensor,
    results: tl.tensor,
    of_targets: tl.tensor | None,
    n_rows: tl.tensor,
    n_shares: tl.tensor,
    scale: tl.tensor,
    nats: tl.tensor,
    ROWS: tl.constexpr,
    VARENTROPY: tl.constexpr,
) -> None:
    """Merge partial (shares, FIELDS, N) in order into results (4, N) float32.

    Logits of targets (N,), in units of the soft cap, become their log-probabilities, in place.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = rows < n_rows
    field = n_rows.to(tl.int64)
    zeros = tl.zeros([ROWS], tl.float32)
    peak = zeros + LOWEST
    m = zeros + LOWEST
    s, a, q = zeros, zeros, zeros
    for share in range(n_shares):
        at = partial + share * FIELDS * field + rows
        peak = tl.maximum(peak, tl.load(at, mask=inside, other=0.0))
        part_m = tl.load(at + field, mask=inside, other=0.0)
        part_s = tl.load(at + 2 * field, mask=inside, other=1.0)
        part_a = tl.load(at + 3 * field, mask=inside, other=0.0)
        part_q = tl.load(at + 4 * field, mask=inside, other=0.0) if VARENTROPY else zeros
        new_m = tl.maximum(m, part_m)
        s, a, q = rebased(s, a, q, m - new_m, VARENTROPY)
        part_s, part_a, part_q = rebased(part_s, part_a, part_q, part_m - new_m, VARENTROPY)
        m = new_m
        s += part_s
        a += part_a
        q += part_q
    # m is the peak times scale, rounded; what rounding took away matters far from 0.
    rounded = tl.fma(peak, scale, -m)
    log_s = tl.log2(s)
    mean = a / s
    nan = float("nan")
    # Also false for the NaN that NaN and +inf leave in s.
    valid = s > 0.0
    at = results + rows
    # Neither is below 0, but for rounding.
    entropy = tl.maximum(log_s - mean, 0.0)
    varentropy = tl.maximum(q / s - mean * mean, 0.0) if VARENTROPY else zeros + nan
    tl.store(at, tl.where(valid, LN2 * entropy, nan), mask=inside)
    tl.store(at + field, tl.where(valid, LN2 * LN2 * varentropy, nan), mask=inside)
    # Log-sum-exp about the peak.
    above = LN2 * (log_s - rounded)
    tl.store(at + 2 * field, tl.where(valid, peak * nats + above, nan), mask=inside)
    tl.store(at + 3 * field, tl.where(valid, tl.exp2(rounded) / s, nan), mask=inside)
    if of_targets is not None:
        # The difference to the peak first: it is exact where the logits are far from 0, and their log-sum-exp is not.
        z = tl.load(of_targets + rows, mask=inside, other=0.0)
        tl.store(of_targets + rows, tl.where(valid, (z - peak) * nats - above, nan), mask=inside)


def linear_token_stats(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor | None,
    bias: torch.Tensor | None,
    softcap: float | None,
    temperature: float,
    varentropy: bool = True,
    plan: Plan | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return (4, N) float32 of entropy, varentropy, logsumexp, max_prob, and each target's log-probability (N,).

    hidden (N, H) and weight (V, H) share a dtype, H >= 1, any strides; targets (N,) int64 in 0..V-1 or None; bias (V,)
    or None. Without varentropy its row is NaN and costs nothing. A row with NaN, +inf or only -inf among its logits is
    NaN in all four statistics. Extra memory is 20 bytes a row and share. `plan` follows from shapes and device.
    A unit of a logit, the soft cap or else 1 over the temperature, must be at most `MOST_NATS` nats. NaN, too, is a row
    whose largest logit over the temperature lies beyond 2.3e38.
    """
    # A soft-capped logit leaves its tile in units of the cap.
    nats = (1.0 if softcap is None else softcap) / temperature
    n_rows = len(hidden)
    results = torch.empty((4, n_rows), dtype=torch.float32, device=hidden.device)
    of_targets = None if targets is None else target_logits(hidden, weight, targets, bias, softcap, rounded=False)
    if n_rows == 0:
        return results, of_targets
    if triton.knobs.runtime.interpret and hidden.dtype == torch.bfloat16:
        # Triton's interpreter multiplies the bits of bfloat16 as integers.
        hidden, weight = hidden.float(), weight.float()
    options = {"VARENTROPY": varentropy, "enable_fp_fusion": True}
    plan = plan or choose_plan(hidden, weight, softcapped=softcap is not None)
    with torch.cuda.device_of(hidden):
        partial = _tile_sums(hidden, weight, bias, softcap, nats, plan, options)
        merge_shares_kernel[(triton.cdiv(n_rows, MERGE_ROWS),)](
            partial, results, of_targets, n_rows, len(partial), nats / math.log(2), nats, ROWS=MERGE_ROWS, **options
        )
    return results, of_targets


def _tile_sums(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    softcap: float | None,
    nats: float,
    plan: Plan,
    options: dict[str, bool],
) -> torch.Tensor:
    """Return the partial results (shares, FIELDS, N) float32; options go to the kernel as they are."""
    tiles = plan.tiles
    n_shares = triton.cdiv(triton.cdiv(len(weight), tiles.columns), plan.tiles_per_share)
    partial = torch.empty((n_shares, FIELDS.value, len(hidden)), dtype=torch.float32, device=hidden.device)
    tile_sums_kernel[(triton.cdiv(len(hidden), tiles.rows) * n_shares,)](
        TensorDescriptor.from_tensor(hidden, [tiles.rows, tiles.depth]) if plan.tma else hidden,
        TensorDescriptor.from_tensor(weight, [tiles.columns, tiles.depth]) if plan.tma else weight,
        None if bias is None else bias.contiguous(),
        partial,
        len(hidden),
        *weight.shape,
        (*hidden.stride(), *weight.stride()),
        plan.tiles_per_share,
        n_shares,
        plan.neighbours,
        nats / math.log(2),
        exponent_of_cap(softcap),
        ROWS=tiles.rows,
        COLUMNS=tiles.columns,
        DEPTH=tiles.depth,
        TMA=plan.tma,
        BIAS=bias is not None,
        SOFTCAP=softcap is not None,
        num_warps=tiles.warps,
        num_stages=tiles.stages,
        **options,
    )
    return partial
