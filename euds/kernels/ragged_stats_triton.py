"""Mean and maximum of consecutive runs of values in Triton: one program a run, no atomics, always the same result."""

import torch
import triton
import triton.language as tl

BLOCK = 512
N_WARPS = 4


@triton.jit(
    do_not_specialize=["row_stride", "n_samples"],
    do_not_specialize_on_alignment=["values", "offsets", "means", "maxima"],
)
def _mean_max_kernel(
    values: tl.tensor,
    offsets: tl.tensor,
    means: tl.tensor,
    maxima: tl.tensor,
    row_stride: tl.int64,
    n_samples: tl.int64,
    BLOCK: tl.constexpr,
) -> None:
    """Reduce one sample of one row, program (sample, row)."""
    sample, row = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    start, stop = tl.load(offsets + sample), tl.load(offsets + sample + 1)
    values += row * row_stride
    lanes = tl.arange(0, BLOCK)
    # float64, so that a long sample loses nothing.
    total = tl.zeros([BLOCK], tl.float64)
    top = tl.full([BLOCK], float("-inf"), tl.float32)
    n_nan = tl.zeros([BLOCK], tl.int32)
    for at in range(start, stop, BLOCK):
        inside = at + lanes < stop
        x = tl.load(values + at + lanes, mask=inside, other=0.0)
        total += x.to(tl.float64)
        top = tl.maximum(top, tl.where(inside, x, float("-inf")))
        n_nan += (x != x).to(tl.int32)
    mean = tl.sum(total, 0) / (stop - start).to(tl.float64)
    is_number = (stop > start) & (tl.sum(n_nan, 0) == 0)
    at = row * n_samples + sample
    tl.store(means + at, tl.where(is_number, mean.to(tl.float32), float("nan")))
    tl.store(maxima + at, tl.where(is_number, tl.max(top, 0), float("nan")))


def ragged_mean_max(values: torch.Tensor, offsets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean and the maximum, each (F, n) float32, of every sample of each row of values.

    values (F, N) float32, last stride 1; offsets (n + 1,) int64 on the same device: sample i is
    values[:, offsets[i]:offsets[i + 1]]. Both are NaN for an empty sample and for one that holds a NaN.
    """
    n_rows, n_samples = len(values), len(offsets) - 1
    means, maxima = values.new_empty((2, n_rows, n_samples))
    if n_rows and n_samples:
        with torch.cuda.device_of(values):
            _mean_max_kernel[(n_samples, n_rows)](
                values,
                offsets,
                means,
                maxima,
                values.stride(0),
                n_samples,
                BLOCK=BLOCK,
                num_warps=N_WARPS,
                enable_fp_fusion=True,
            )
    return means, maxima
