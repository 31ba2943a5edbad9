"""Entropy, varentropy, log-sum-exp, largest and target probability of next-token distributions."""

import math
import os
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from euds.backends import Backend, choose
from euds.errors import InvalidArgument, InvalidType, real_number
from euds.types import TokenStats

if TYPE_CHECKING:
    import torch

BACKENDS = {
    "cpp": Backend("euds.kernels.token_stats_cpp"),
    "triton": Backend("euds.kernels.token_stats_triton"),
    "torch": Backend("euds.kernels.token_stats_torch"),
}
LINEAR_BACKENDS = {
    "cpp": Backend("euds.kernels.linear_token_stats_cpp"),
    "triton": Backend("euds.kernels.linear_token_stats_paths"),
    "triton_fused": Backend("euds.kernels.linear_token_stats_triton"),
    "triton_tiles": Backend("euds.kernels.linear_token_stats_triton_tiles"),
    "torch": Backend("euds.kernels.linear_token_stats_torch"),
}
ORDER = ("cpp", "triton", "torch")

MIN_CAPABILITY = (8, 0)
MOST_SOFTCAP = 128.0
"""Largest soft cap, over temperatures below 1, on GPUs: their tanh has an error of a ten-millionth, and a logit in nats
as many times that."""

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 1e-30, 1e30
LOWEST_SOFTCAP, HIGHEST_SOFTCAP = 1e-30, 1e38
"""Beyond, it or logits over it leave the range of float32."""

IGNORED_TARGET = -100
"""A target that is not looked up, as everywhere in torch and transformers; its log-probability is NaN."""


def token_stats(
    logits: "torch.Tensor",
    targets: "torch.Tensor | None" = None,
    *,
    temperature: float = 1.0,
    varentropy: bool = True,
    backend: str = "auto",
) -> TokenStats:
    """Describe the next-token distributions softmax(logits / temperature), without building them.

    A logit of -inf is a token that cannot occur and contributes nothing. A row with NaN or +inf, or of -inf only, gives
    NaN. Reductions are in float32 whatever the dtype, to which float64 is rounded first; no gradient flows. Source:
    docs/method.md, "Generative entropy".

    Args:
        logits: (..., V), floating point, any strides; not copied as long as the logits of a row lie side by side and
            two strides reach all rows.
        targets: (...) integer token ids in 0..V-1, or -100 for positions to ignore, beside the other tensors or on the
            CPU, where their range is checked without waiting for a GPU.
        temperature: in 1e-30..1e30.
        varentropy: False leaves that field None and saves its cost.
        backend: "cpp" (CPU) and "triton" (CUDA), both for float32, bfloat16 and float16, "torch" (anything), or "auto",
            the first of them that fits.

    Returns:
        Fields of shape logits.shape[:-1], float32, on the logits' device.

    Raises:
        InvalidType: logits are no dense floating-point tensor; targets are no dense integer tensor.
        InvalidArgument: V is 0; targets have another shape or device, or lie outside 0..V-1; the temperature is out of
            its range; the back end is unknown.
        BackendUnavailable: the back end asked for does not take this device or dtype.
    """
    import torch

    temperature = _number_within("temperature", temperature, LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE)
    _check_floating("logits", logits)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise InvalidArgument(f"logits: must have shape (..., V) with V >= 1, got {tuple(logits.shape)}")
    lead, vocabulary = logits.shape[:-1], logits.shape[-1]
    _check_targets(targets, lead, logits.device)
    kernel = _kernel("token_stats", backend, logits)
    with torch.no_grad():
        index, ignored, check_range = _indices(targets, vocabulary, logits.device)
        results, logprob = kernel(_rows(_plain(logits)), index, temperature, varentropy)
        stats = _stats(results, logprob, ignored, lead, varentropy)
    check_range()
    return stats


def token_entropy(logits: "torch.Tensor", *, temperature: float = 1.0, backend: str = "auto") -> "torch.Tensor":
    """Return the entropy of the next-token distributions softmax(logits / temperature).

    Args:
        logits: (..., V), floating point, as for `token_stats`.
        temperature: in 1e-30..1e30.
        backend: "cpp" (CPU), "triton" (CUDA), "torch" (anything), or "auto", the first of them that fits.

    Returns:
        Nats, in 0..ln V, float32 of shape logits.shape[:-1], on the logits' device: the entropy of `token_stats`.

    Raises:
        InvalidType: logits are no dense floating-point tensor.
        InvalidArgument: V is 0; the temperature is out of its range; the back end is unknown.
        BackendUnavailable: the back end asked for does not take this device or dtype.
    """
    return token_stats(logits, temperature=temperature, varentropy=False, backend=backend).entropy


def linear_token_stats(
    hidden: "torch.Tensor",
    weight: "torch.Tensor",
    targets: "torch.Tensor | None" = None,
    *,
    bias: "torch.Tensor | None" = None,
    softcap: float | None = None,
    temperature: float = 1.0,
    varentropy: bool = True,
    backend: str = "auto",
) -> TokenStats:
    """Describe the next-token distributions of an output projection without ever holding the (N, V) logits.

    The logits are softcap * tanh((hidden @ weight.T + bias) / softcap), or the plain projection without a soft cap.
    Otherwise as `token_stats`; products are made in the dtype of hidden, those of the library in float32 as
    `torch.set_float32_matmul_precision` says. Extra memory is one small tile of logits and a few numbers a row,
    whatever V is.

    Args:
        hidden: (..., H), floating point.
        weight: (V, H), dtype and device of hidden.
        targets: (...) integer token ids in 0..V-1, or -100 for positions to ignore, beside the other tensors or on the
            CPU, where their range is checked without waiting for a GPU.
        bias: (V,) or None.
        softcap: 1e-30 to 1e38, or None; "triton" takes up to 128.
        temperature: in 1e-30..1e30.
        varentropy: False leaves that field None and saves its cost.
        backend: "cpp" (CPU) and "triton" (CUDA), both for float32, bfloat16 and float16, "torch" (anything), or "auto",
            the first of them that fits. "triton" is one of two by dtype, width, alignment and card, which can be named
            too: "triton_fused", whose logits are the float32 accumulators of one kernel, and "triton_tiles", library
            products in tiles.

    Returns:
        Fields of shape hidden.shape[:-1], float32, on the device of hidden.

    Raises:
        InvalidType: an argument is no dense floating-point tensor; hidden and weight differ in dtype; targets are no
            dense integer tensor.
        InvalidArgument: H or V is 0; shapes or devices do not fit together; targets lie outside 0..V-1; the soft cap is
            not positive, or the temperature out of its range; the back end is unknown.
        BackendUnavailable: the back end asked for does not take this device, dtype or soft cap, or "triton_fused" a
            temperature so low.
    """
    import torch

    temperature = _number_within("temperature", temperature, LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE)
    _check_projection(hidden, weight, bias)
    softcap = None if softcap is None else _number_within("softcap", softcap, LOWEST_SOFTCAP, HIGHEST_SOFTCAP)
    lead = hidden.shape[:-1]
    _check_targets(targets, lead, hidden.device)
    kernel = _kernel("linear_token_stats", backend, hidden, softcap, temperature)
    with torch.no_grad():
        index, ignored, check_range = _indices(targets, weight.shape[0], hidden.device)
        results, logprob = kernel(
            _plain(hidden).reshape(-1, hidden.shape[-1]),
            _plain(weight),
            index,
            None if bias is None else _plain(bias),
            softcap,
            temperature,
            varentropy,
        )
        stats = _stats(results, logprob, ignored, lead, varentropy)
    check_range()
    return stats


def logits_dtype(device: "torch.device", dtype: "torch.dtype") -> "torch.dtype":
    """Return the dtype in which `linear_token_stats` sees a language model's logits by "auto".

    It is that of the hidden states, but for 2-byte dtypes on cards whose kernel reads its float32 accumulators:
    rounding logits to bfloat16 moves entropies by hundredths of a nat, so that scores of both do not mix. Only
    the card is asked: widths below 64, or no multiple of 16 bytes, and soft caps and temperatures that the kernel does
    not take, are not known here.
    """
    import torch

    if device.type != "cuda" or dtype.itemsize != 2 or find_spec("triton") is None or torch.version.hip is not None:
        return dtype
    from euds.kernels.linear_token_stats_paths import is_tuned_for

    return torch.float32 if is_tuned_for(device) else dtype


def usable_backends(
    op: str, tensor: "torch.Tensor", softcap: float | None = None, temperature: float = 1.0
) -> dict[str, Backend]:
    """Return the back ends of "token_stats" or "linear_token_stats", with the reason where one does not take a call.

    The first in `ORDER` without a reason is what "auto" takes.
    """
    backends = {"token_stats": BACKENDS, "linear_token_stats": LINEAR_BACKENDS}[op]
    triton = _why_not_triton(tensor, None if softcap is None else softcap / min(temperature, 1.0))
    reasons = {"cpp": _why_not_cpp(tensor), "triton": triton, "triton_tiles": triton, "torch": None}
    if "triton_fused" in backends:
        reasons["triton_fused"] = triton or _why_not_fused((softcap or 1.0) / temperature)
    return {name: replace(candidate, unavailable_because=reasons[name]) for name, candidate in backends.items()}


def _kernel(
    op: str, backend: str, tensor: "torch.Tensor", softcap: float | None = None, temperature: float = 1.0
) -> Any:
    """Return the launcher, named like the op, of the back end to use for this call."""
    usable = usable_backends(op, tensor, softcap, temperature)
    return getattr(import_module(usable[choose(op, backend, usable, ORDER)].module), op)


def _why_not_cpp(tensor: "torch.Tensor") -> str | None:
    if tensor.device.type != "cpu":
        return f"it needs tensors on the CPU, got one on {tensor.device}"
    if find_spec("euds._core") is None:
        return "the C++ extension is not built; run: pip install -e ."
    return _why_not_dtype(tensor)


def _why_not_triton(tensor: "torch.Tensor", softcap: float | None) -> str | None:
    import torch

    if find_spec("triton") is None:
        return "triton is not installed"
    # Triton's interpreter runs on the CPU; it is how the kernels are tested without a GPU.
    if tensor.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"it needs tensors on a CUDA device, got one on {tensor.device}"
    if torch.version.hip is not None:
        return "it is written for NVIDIA's GPUs"
    if tensor.is_cuda and torch.cuda.get_device_capability(tensor.device) < MIN_CAPABILITY:
        return f"it needs compute capability 8.0 or newer, {torch.cuda.get_device_name(tensor.device)} is older"
    if softcap is not None and softcap > MOST_SOFTCAP:
        return f"it takes soft caps, over temperatures below 1, up to {MOST_SOFTCAP:g}; got {softcap:g}"
    return _why_not_dtype(tensor)


def _why_not_fused(nats: float) -> str | None:
    from euds.kernels.linear_token_stats_triton import MOST_NATS

    if nats <= MOST_NATS:
        return None
    return f"it takes a soft cap (or 1) over temperature up to {MOST_NATS:g}, got {nats:g}; take 'triton'"


def _why_not_dtype(tensor: "torch.Tensor") -> str | None:
    import torch

    if tensor.dtype in (torch.float32, torch.bfloat16, torch.float16):
        return None
    return f"it takes float32, bfloat16 and float16, got {tensor.dtype}"


def _plain(tensor: "torch.Tensor") -> "torch.Tensor":
    """Return a tensor whose memory holds its numbers: without gradients, and without a sign still to be changed."""
    return tensor.detach().resolve_neg()


def _rows(logits: "torch.Tensor") -> "torch.Tensor":
    """View logits (..., V) as (n, m, V); copies only where two strides do not reach all rows."""
    if logits.ndim > 3:
        # Leading dimensions that lie behind each other merge into the first or the second of the two.
        for split in range(1, logits.ndim - 1):
            shape = (math.prod(logits.shape[:split]), math.prod(logits.shape[split:-1]), logits.shape[-1])
            try:
                return logits.view(shape)
            except RuntimeError:
                continue
        return logits.reshape(1, -1, logits.shape[-1])
    return logits[(None,) * (3 - logits.ndim)]


def _stats(
    results: "torch.Tensor",
    target_logprob: "torch.Tensor | None",
    ignored: "torch.Tensor | None",
    lead: "torch.Size",
    varentropy: bool,
) -> TokenStats:
    """Shape (4, N) results and (N,) log-probabilities, NaN where ignored (N,), as the caller's positions."""
    entropy, variance, logsumexp, max_prob = (row.reshape(lead) for row in results)
    if target_logprob is not None and ignored is not None:
        # Rounding must not make a certain token more than certain.
        target_logprob = target_logprob.clamp(max=0.0).masked_fill(ignored, float("nan")).reshape(lead)
    return TokenStats(entropy, variance if varentropy else None, logsumexp, max_prob, target_logprob)


def _number_within(name: str, value: object, lowest: float, highest: float) -> float:
    # Kernels are compiled for floats.
    number = real_number(name, value)
    if not lowest <= number <= highest:
        raise InvalidArgument(f"{name}: must lie in {lowest:g}..{highest:g}, got {value!r}")
    return number


def _check_floating(name: str, tensor: object) -> None:
    import torch

    # Logits of others, such as float8, would be rounded to them.
    floats = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
    if not isinstance(tensor, torch.Tensor) or tensor.dtype not in floats:
        found = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        raise InvalidType(f"{name}: must be a tensor of float32, bfloat16, float16 or float64, got {found}")
    _check_dense(name, tensor)


def _check_dense(name: str, tensor: "torch.Tensor") -> None:
    import torch

    if tensor.is_nested:
        raise InvalidType(f"{name}: must be dense, got a nested tensor; give its tensors one by one, or padded")
    if tensor.layout != torch.strided:
        raise InvalidType(f"{name}: must be dense, got a tensor of layout {tensor.layout}; give {name}.to_dense()")


def _check_projection(hidden: "torch.Tensor", weight: "torch.Tensor", bias: "torch.Tensor | None") -> None:
    _check_floating("hidden", hidden)
    _check_floating("weight", weight)
    if weight.ndim != 2 or 0 in weight.shape:
        raise InvalidArgument(f"weight: must have shape (V, H) with V and H >= 1, got {tuple(weight.shape)}")
    if hidden.ndim == 0 or hidden.shape[-1] != weight.shape[1]:
        raise InvalidArgument(f"hidden: last dimension must be H = {weight.shape[1]}, got {tuple(hidden.shape)}")
    if hidden.dtype != weight.dtype:
        raise InvalidType(f"hidden is {hidden.dtype}, weight is {weight.dtype}; they must agree")
    if hidden.device != weight.device:
        raise InvalidArgument(f"hidden is on {hidden.device}, weight is on {weight.device}; they must agree")
    if bias is None:
        return
    _check_floating("bias", bias)
    if tuple(bias.shape) != (weight.shape[0],) or bias.device != weight.device:
        raise InvalidArgument(
            f"bias: must have shape ({weight.shape[0]},) on {weight.device}, got {tuple(bias.shape)} on {bias.device}"
        )


def _check_targets(targets: "torch.Tensor | None", lead: "torch.Size", device: "torch.device") -> None:
    import torch

    if targets is None:
        return
    numbers = isinstance(targets, torch.Tensor) and not (targets.is_floating_point() or targets.is_complex())
    # The largest of uint64 would become negative: one of them, the target to ignore.
    if not numbers or targets.dtype in (torch.bool, torch.uint64):
        found = targets.dtype if isinstance(targets, torch.Tensor) else type(targets).__name__
        raise InvalidType(f"targets: must be a tensor of integers that int64 holds, got {found}")
    _check_dense("targets", targets)
    if targets.shape != lead:
        raise InvalidArgument(f"targets: must have shape {tuple(lead)}, got {tuple(targets.shape)}")
    if targets.device.type != "cpu" and targets.device != device:
        raise InvalidArgument(f"targets: must be on {device} or on the CPU, got {targets.device}")


def _indices(
    targets: "torch.Tensor | None", vocabulary: int, device: "torch.device"
) -> "tuple[torch.Tensor | None, torch.Tensor | None, Callable[[], None]]":
    """Return the token ids (N,) int64, within 0..V-1, to look up, which to ignore, both on the device, and a check.

    The check raises if a target lay outside. Targets on the CPU are checked at once. A GPU's answer is on its way while
    the kernel is launched: waiting for it first would leave the GPU with nothing to do.
    """
    import torch

    if targets is None:
        return None, None, lambda: None
    ids = targets.reshape(-1).long()
    index = ids.clamp(0, vocabulary - 1)
    ignored = ids == IGNORED_TARGET
    outside = (index != ids) & ~ignored
    found, arrived = outside.any(), None
    if found.is_cuda:
        found = torch.empty((), dtype=torch.bool, device="cpu", pin_memory=True).copy_(found, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(ids.device))

    def check() -> None:
        if arrived is not None:
            arrived.synchronize()
        if bool(found):
            raise InvalidArgument(f"targets: {int(ids[outside][0])} lies outside 0..{vocabulary - 1}")

    if arrived is None:
        check()
    if index.device != device:
        pinned = (own.pin_memory() if device.type == "cuda" else own for own in (index, ignored))
        index, ignored = (own.to(device, non_blocking=True) for own in pinned)
    return index, ignored, check
