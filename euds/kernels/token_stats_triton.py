"""Statistics of next-token distributions in Triton: every logit is read once, in one pass, by 16-byte loads.

With m the largest logit, d = (z - m) log2(e) / temperature and S = sum 2^d, A = sum d 2^d, Q = sum d^2 2^d:
entropy = ln 2 (log2 S - A/S), varentropy = (ln 2)^2 (Q/S - (A/S)^2). Each thread keeps the sums of its own logits,
about a maximum of its own; they are merged across threads once a row. Threads, parts of a split row and tiles that
arrive one after another all merge alike: their sums are moved to the largest maximum, then added.
"""

import functools
import math

import torch
import triton
import triton.language as tl

from euds.kernels.finish_triton import finish, log_probability, store_stats
from euds.kernels.sums_triton import LOG2_E, LOWEST, bounded, capped, exponent_of_cap, rebased

N_WARPS = 2
"""On an H200 two warps and 2,048 logits a step took 1 to 10 % less time than four and 4,096, most for short rows."""
LANES = tl.constexpr(32 * N_WARPS)
"""Threads of a program; each keeps one set of sums."""
STEP = tl.constexpr(2048)
"""Logits that a program works on at once: 32 a thread."""
LINE = tl.constexpr(128)
"""Bytes of a cache line. A load that begins within one touches a line more: 1.5 to 2.5 % of the time on an H100."""
MINUS_INFINITIES = tl.constexpr(-0x7F0080)
"""Two bfloat16 of -inf, 0xFF80, as int32."""

MAX_REGISTERS = 96
"""Of a thread with 2-byte logits: ten programs share a multiprocessor, and 80 KiB are under way. By itself the compiler
stops at 64 and puts the second load off; at 96 a bias or a soft cap spills (Triton 3.9). Untried with 4 bytes."""
PROGRAMS_PER_MULTIPROCESSOR = 8
"""With fewer rows than this many a multiprocessor, each row is split over several programs."""


@triton.jit
def _with_tile(
    m: tl.tensor, s: tl.tensor, a: tl.tensor, q: tl.tensor, z: tl.tensor, scale: tl.float32, VARENTROPY: tl.constexpr
) -> tuple[tl.tensor, ...]:
    """Add logits z (K, LANES W) float32 to the sums of each lane (LANES,)."""
    # Each thread holds whole (K, W) blocks, so that nothing below crosses threads.
    z = tl.reshape(z, (z.shape[0], LANES, z.shape[1] // LANES))
    top = tl.maximum(m, tl.max(tl.max(z, 2), 0))
    s, a, q = rebased(s, a, q, (m - top) * scale, VARENTROPY)
    d = bounded((z - top[None, :, None]) * scale)
    e = tl.exp2(d)
    s += tl.sum(tl.sum(e, 2), 0)
    a += tl.sum(tl.sum(e * d, 2), 0)
    if VARENTROPY:
        q += tl.sum(tl.sum(e * d * d, 2), 0)
    return top, s, a, q


@triton.jit
def _logits(
    pointer: tl.tensor,
    bias: tl.tensor | None,
    at: tl.int32,
    columns: tl.tensor,
    inside: tl.tensor | None,
    cap_exponent: tl.tensor | None,
) -> tl.tensor:
    """Load the logits (K, LANES W) at `at + columns` as float32, with bias and soft cap; -inf where not inside.

    With a soft cap they are in units of it. Any of bias, inside and cap_exponent may be None.
    """
    z = tl.load(pointer + at + columns) if inside is None else tl.load(pointer + at + columns, mask=inside, other=0.0)
    z = z.to(tl.float32)
    if bias is not None:
        b = tl.load(bias + at + columns) if inside is None else tl.load(bias + at + columns, mask=inside, other=0.0)
        z += b.to(tl.float32)
    if cap_exponent is not None:
        z = capped(z, cap_exponent)
    return z if inside is None else tl.where(inside, z, float("-inf"))


@triton.jit
def _logits_of_words(words: tl.tensor, at: tl.int32, columns: tl.tensor, inside: tl.tensor | None) -> tl.tensor:
    """Load pairs of bfloat16 logits (K, LANES W / 2), int32, as float32 (K, LANES W); -inf where not inside, if any."""
    words = words + at + columns
    pair = tl.load(words) if inside is None else tl.load(words, mask=inside, other=MINUS_INFINITIES)
    low, high = (pair << 16).to(tl.float32, bitcast=True), (pair & -65536).to(tl.float32, bitcast=True)
    return tl.reshape(tl.join(low, high), (pair.shape[0], 2 * pair.shape[1]))


@triton.jit
def _with_row(
    m: tl.tensor,
    s: tl.tensor,
    a: tl.tensor,
    q: tl.tensor,
    row: tl.tensor,
    bias: tl.tensor | None,
    vocabulary: tl.int32,
    part: tl.int32,
    part_steps: tl.int32,
    scale: tl.float32,
    cap_exponent: tl.tensor | None,
    VARENTROPY: tl.constexpr,
) -> tuple[tl.tensor, ...]:
    """Add one part of the row at a pointer to the sums of each lane (LANES,)."""
    # A row is [head | body from a cache line on | tail]; the body is whole 16-byte words and needs no finer mask.
    W: tl.constexpr = 128 // row.dtype.element_ty.primitive_bitwidth
    K: tl.constexpr = STEP // (LANES * W)
    head = tl.minimum((-row.to(tl.int64) & (LINE - 1)).to(tl.int32) * W // 16, vocabulary)
    body = tl.multiple_of(row + head, 16)
    body_bias = None if bias is None else bias + head
    n_body = (vocabulary - head) // W * W
    start = part * part_steps * STEP
    stop = start + tl.maximum(tl.minimum(n_body - start, part_steps * STEP), 0) // W * W
    whole = start + (stop - start) // (2 * STEP) * (2 * STEP)
    # By whole words an instruction makes a float32 of a bfloat16; by halves it takes one and a half.
    BY_WORDS: tl.constexpr = (row.dtype.element_ty == tl.bfloat16) and (bias is None) and (cap_exponent is None)
    words = tl.multiple_of(body.to(tl.pointer_type(tl.int32), bitcast=True), 16) if BY_WORDS else None
    # [K, LANES W], or half as many
    N: tl.constexpr = LANES * W // 2 if BY_WORDS else LANES * W
    columns = tl.arange(0, K)[:, None] * N + tl.arange(0, N)[None, :]
    for at in range(start, whole, 2 * STEP):
        # Two loads at once where the registers suffice; one tile twice as large would take more of them.
        if BY_WORDS:
            z = _logits_of_words(words, at // 2, columns, None)
            z2 = _logits_of_words(words, (at + STEP) // 2, columns, None)
        else:
            z = _logits(body, body_bias, at, columns, None, cap_exponent)
            z2 = _logits(body, body_bias, at + STEP, columns, None, cap_exponent)
        m, s, a, q = _with_tile(m, s, a, q, z, scale, VARENTROPY)
        m, s, a, q = _with_tile(m, s, a, q, z2, scale, VARENTROPY)
    for at in range(whole, stop, STEP):
        if BY_WORDS:
            z = _logits_of_words(words, at // 2, columns, columns < (stop - at) // 2)
        else:
            z = _logits(body, body_bias, at, columns, columns < stop - at, cap_exponent)
        m, s, a, q = _with_tile(m, s, a, q, z, scale, VARENTROPY)
    if (part == 0) & (n_body < vocabulary):
        # Less than a line before the body and less than a word behind it: at most two logits a lane.
        edge = tl.arange(0, 2 * LANES)
        edge = tl.where(edge < head, edge, edge + n_body)[None, :]
        z = _logits(row, bias, 0, edge, edge < vocabulary, cap_exponent)
        m, s, a, q = _with_tile(m, s, a, q, z, scale, VARENTROPY)
    return m, s, a, q


@triton.jit(
    do_not_specialize=[
        "rows_per_batch",
        "batch_stride",
        "row_stride",
        "vocabulary",
        "part_steps",
        "part_stride",
        "step",
        "n_carried",
    ],
    do_not_specialize_on_alignment=["logits", "bias", "targets", "out", "of_targets"],
)
def _rows_kernel(
    logits: tl.tensor,
    bias: tl.tensor | None,
    targets: tl.tensor | None,
    out: tl.tensor,
    of_targets: tl.tensor | None,
    rows_per_batch: tl.int32,
    batch_stride: tl.int64,
    row_stride: tl.int64,
    vocabulary: tl.int32,
    part_steps: tl.int32,
    part_stride: tl.int64,
    step: tl.int64,
    n_carried: tl.int32,
    scale: tl.float32,
    temperature: tl.float32,
    cap_exponent: tl.tensor | None,
    FINISH: tl.constexpr,
    VARENTROPY: tl.constexpr,
) -> None:
    """Reduce one part of one row, program (row, part), to four values, step apart: statistics if FINISH, else sums.

    Of the target, its log-probability if FINISH, else its logit.
    """
    row, part = tl.program_id(0), tl.program_id(1)
    pointer = logits + (row // rows_per_batch) * batch_stride + (row % rows_per_batch) * row_stride
    row = row.to(tl.int64)
    out += part * part_stride + row

    m, s = tl.full([LANES], LOWEST, tl.float32), tl.zeros([LANES], tl.float32)
    a, q = s, s if VARENTROPY else s + float("nan")
    if not FINISH:
        # What an earlier tile has left goes on in the first lane.
        lanes = tl.arange(0, LANES)
        carried = lanes < n_carried
        slots = out + lanes * 0
        m = tl.load(slots, mask=carried, other=LOWEST)
        s = tl.load(slots + step, mask=carried, other=0.0)
        a = tl.load(slots + 2 * step, mask=carried, other=0.0)
        if VARENTROPY:
            q = tl.load(slots + 3 * step, mask=carried, other=0.0)
    m, s, a, q = _with_row(m, s, a, q, pointer, bias, vocabulary, part, part_steps, scale, cap_exponent, VARENTROPY)
    top = tl.max(m, 0)
    s, a, q = rebased(s, a, q, (m - top) * scale, VARENTROPY)
    s, a, q = tl.sum(s, 0), tl.sum(a, 0), tl.sum(q, 0)
    if FINISH:
        store_stats(out, step, None, top, s, a, q, temperature)
    else:
        tl.store(out, top)
        tl.store(out + step, s)
        tl.store(out + 2 * step, a)
        tl.store(out + 3 * step, q)
    if targets is not None:
        z = tl.load(pointer + tl.load(targets + row)).to(tl.float32)
        if FINISH:
            z = log_probability(z, top, s, temperature)
        tl.store(of_targets + row, z, mask=part == 0)


def token_stats(
    logits: torch.Tensor, targets: torch.Tensor | None, temperature: float, varentropy: bool = True
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return (4, N) float32 of entropy, varentropy, logsumexp, max_prob, and each target's log-probability (N,).

    logits (N, V) or (B, T, V), N = B T, any strides, copied only if the last is not 1; targets (N,) int64 in 0..V-1
    or None. Without varentropy its row is NaN and costs nothing.
    """
    if logits.stride(-1) != 1:
        logits = logits.contiguous()
    n_rows, vocabulary = math.prod(logits.shape[:-1]), logits.shape[-1]
    n_parts, part_steps = _split(n_rows, vocabulary, _multiprocessors(logits.device))
    of_targets = None if targets is None else logits.new_empty(n_rows, dtype=torch.float32)
    if n_parts == 1:
        stats = logits.new_empty((4, n_rows), dtype=torch.float32)
        _launch(logits, stats[:, None], part_steps, temperature, varentropy, targets, of_targets, finished=True)
        return stats, of_targets
    sums = logits.new_empty((4, n_parts, n_rows), dtype=torch.float32)
    _launch(logits, sums, part_steps, temperature, varentropy, targets, of_targets)
    return finish(sums, temperature, of_targets), of_targets


def update_sums(
    tile: torch.Tensor,
    sums: torch.Tensor,
    first: bool,
    temperature: float,
    varentropy: bool = True,
    bias: torch.Tensor | None = None,
    softcap: float | None = None,
) -> None:
    """Merge a tile of columns of the logits (N, C) into the sums (4, N) float32, in place; a first tile starts them.

    Rows of sums: the largest logit before the temperature; S, A and Q of the module's head, Q NaN without varentropy.
    Both may be slices, last stride 1. With a bias (C,) the logits are tile + bias; with a soft cap they are
    tanh((tile + bias) / softcap), in units of the cap, and the temperature must be in those, too.
    """
    n_steps = triton.cdiv(tile.shape[-1], STEP.value)
    _launch(tile, sums[:, None], n_steps, temperature, varentropy, bias=bias, softcap=softcap, first=first)


def _launch(
    logits: torch.Tensor,
    out: torch.Tensor,
    part_steps: int,
    temperature: float,
    varentropy: bool,
    targets: torch.Tensor | None = None,
    of_targets: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    softcap: float | None = None,
    first: bool = True,
    finished: bool = False,
) -> None:
    """Run the row kernel; out (4, parts, N) takes statistics if finished, else sums."""
    n_parts, n_rows = out.shape[1:]
    if n_rows == 0:
        return
    with torch.cuda.device_of(logits):
        _rows_kernel[(n_rows, n_parts)](
            logits,
            bias,
            targets,
            out,
            of_targets,
            rows_per_batch=logits.shape[-2],
            batch_stride=logits.stride(0) if logits.ndim == 3 else 0,
            row_stride=logits.stride(-2),
            vocabulary=logits.shape[-1],
            part_steps=part_steps,
            part_stride=out.stride(1),
            step=out.stride(0),
            n_carried=0 if first else 1,
            scale=LOG2_E / temperature,
            temperature=temperature,
            cap_exponent=None if softcap is None else exponent_of_cap(softcap),
            FINISH=finished,
            VARENTROPY=varentropy,
            num_warps=N_WARPS,
            maxnreg=MAX_REGISTERS if logits.element_size() == 2 and bias is None and softcap is None else None,
            enable_fp_fusion=True,
        )


def _split(n_rows: int, vocabulary: int, n_multiprocessors: int) -> tuple[int, int]:
    """Return how many programs share a row, and how many steps each takes."""
    n_steps = triton.cdiv(vocabulary, STEP.value)
    n_parts = triton.cdiv(PROGRAMS_PER_MULTIPROCESSOR * n_multiprocessors, max(n_rows, 1))
    part_steps = triton.cdiv(n_steps, min(n_parts, n_steps))
    return triton.cdiv(n_steps, part_steps), part_steps


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
