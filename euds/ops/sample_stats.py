"""Mean and maximum of token values over the samples of a packed batch."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy.typing as npt

from euds.errors import InvalidArgument, InvalidType
from euds.ops.ragged import check_offsets
from euds.ops.token_stats import usable_backends
from euds.types import Float32Array

if TYPE_CHECKING:
    import torch


def begin_sample_mean_max(
    values: "torch.Tensor", offsets: npt.ArrayLike
) -> Callable[[], tuple[Float32Array, Float32Array]]:
    """Begin to reduce every sample of each row of values to its mean and maximum.

    On a GPU both are reduced there, always in the same order, and come back in one small copy; sums are in float64.
    Source: docs/method.md, "Generative entropy", the values per sample.

    Args:
        values: (F, N) float32, F values of each token of all samples, packed one after another.
        offsets: (n + 1,) integers rising from 0 to N; sample i is values[:, offsets[i]:offsets[i+1]].

    Returns:
        What waits for means and maxima, each (F, n) float32 on the CPU; NaN for an empty sample, and for one that holds
        a NaN. Until it is called, the device may be given more to do.

    Raises:
        InvalidType: values are no float32 tensor.
        InvalidArgument: values have another shape, or offsets do not rise from 0 to N.
    """
    import torch

    if not isinstance(values, torch.Tensor) or values.dtype != torch.float32:
        found = values.dtype if isinstance(values, torch.Tensor) else type(values).__name__
        raise InvalidType(f"values: must be a float32 tensor, got {found}")
    if values.ndim != 2:
        raise InvalidArgument(f"values: must have shape (F, N), got {tuple(values.shape)}")
    starts = check_offsets(offsets, values.shape[1])
    if values.is_cuda and usable_backends("token_stats", values)["triton"].unavailable_because is None:
        from euds.kernels.ragged_stats_triton import ragged_mean_max as on_gpu

        places = torch.from_numpy(starts).pin_memory().to(values.device, non_blocking=True)
        both = torch.stack(on_gpu(values.contiguous(), places))
        fetched = torch.empty(both.shape, dtype=both.dtype, device="cpu", pin_memory=True).copy_(
            both, non_blocking=True
        )
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(values.device))

        def wait() -> tuple[Float32Array, Float32Array]:
            arrived.synchronize()
            means, maxima = fetched.numpy().copy()
            return means, maxima

        return wait
    from euds.kernels.ragged_stats_numpy import ragged_mean_max as on_cpu

    both_on_cpu = on_cpu(values.detach().resolve_neg().cpu().numpy(), starts)
    return lambda: both_on_cpu
