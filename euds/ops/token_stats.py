"""Entropy, varentropy, log-sum-exp, largest and target probability of next-token distributions."""

import math
from typing import TYPE_CHECKING

from euds.backends import Backend, choose
from euds.errors import InvalidArgument
from euds.types import TokenStats

if TYPE_CHECKING:
    import torch

BACKENDS = {"torch": Backend("euds.kernels.token_stats_torch")}
LINEAR_BACKENDS = {"torch": Backend("euds.kernels.linear_token_stats_torch")}
ORDER = ("torch",)

IGNORED_TARGET = -100
"""A target that is not looked up, as everywhere in torch and transformers; its log-probability is NaN."""


def token_stats(
    logits: "torch.Tensor",
    targets: "torch.Tensor | None" = None,
    *,
    temperature: float = 1.0,
    backend: str = "auto",
) -> TokenStats:
    """Describe the next-token distributions softmax(logits / temperature), without building them.

    A logit of -inf is a token that cannot occur and contributes nothing. A row with NaN or +inf, or of -inf only, gives
    NaN. Reductions are in float32 whatever the dtype; no gradient flows. Source: method.md, "Generative entropy".

    Args:
        logits: (..., V), floating point, any strides.
        targets: (...) integer token ids in 0..V-1, or -100 for positions to ignore.
        temperature: > 0 and finite.
        backend: "auto" or "torch".

    Returns:
        Fields of shape logits.shape[:-1], float32, on the logits' device.

    Raises:
        InvalidArgument: logits are no floating-point tensor or V is 0; targets have another shape, no integer dtype, or
            lie outside 0..V-1; the temperature is not positive; the back end is unknown.
    """
    import torch

    _check_temperature(temperature)
    _check_floating("logits", logits)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise InvalidArgument(f"logits: must have shape (..., V) with V >= 1, got {tuple(logits.shape)}")
    lead, vocabulary = logits.shape[:-1], logits.shape[-1]
    _check_targets(targets, lead, vocabulary)
    choose("token_stats", backend, BACKENDS, ORDER)
    from euds.kernels.token_stats_torch import token_stats as kernel

    with torch.no_grad():
        flat = logits.detach().reshape(-1, vocabulary)
        results = torch.stack(kernel(flat, temperature))
        looked_up = None
        if targets is not None:
            index = targets.reshape(-1).long()
            looked_up = flat.gather(1, index.clamp(min=0)[:, None])[:, 0].float() / temperature
        return _stats(results, looked_up, targets, lead)


def token_entropy(logits: "torch.Tensor", *, temperature: float = 1.0, backend: str = "auto") -> "torch.Tensor":
    """Return the entropy of next-token distributions, nats, float32 of shape logits.shape[:-1].

    The same as `token_stats(...).entropy`, with the same arguments and errors.
    """
    return token_stats(logits, temperature=temperature, backend=backend).entropy


def linear_token_stats(
    hidden: "torch.Tensor",
    weight: "torch.Tensor",
    targets: "torch.Tensor | None" = None,
    *,
    bias: "torch.Tensor | None" = None,
    softcap: float | None = None,
    temperature: float = 1.0,
    backend: str = "auto",
) -> TokenStats:
    """Describe the next-token distributions of an output projection without ever holding the (N, V) logits.

    The logits are softcap * tanh((hidden @ weight.T + bias) / softcap), or the plain projection without a soft cap.
    Otherwise as `token_stats`; extra memory is one tile of logits, 2 MiB, whatever N and V are.

    Args:
        hidden: (..., H), floating point.
        weight: (V, H), dtype and device of hidden.
        targets: (...) integer token ids in 0..V-1, or -100 for positions to ignore.
        bias: (V,) or None.
        softcap: > 0 and finite, or None.
        temperature: > 0 and finite.
        backend: "auto" or "torch".

    Returns:
        Fields of shape hidden.shape[:-1], float32, on the device of hidden.

    Raises:
        InvalidArgument: shapes, dtypes or devices do not fit together; targets lie outside 0..V-1; the soft cap or the
            temperature is not positive; the back end is unknown.
    """
    import torch

    _check_temperature(temperature)
    _check_projection(hidden, weight, bias)
    if softcap is not None and not (math.isfinite(softcap) and softcap > 0):
        raise InvalidArgument(f"softcap: must be finite and above 0, got {softcap}")
    lead = hidden.shape[:-1]
    _check_targets(targets, lead, weight.shape[0])
    choose("linear_token_stats", backend, LINEAR_BACKENDS, ORDER)
    from euds.kernels.linear_token_stats_torch import linear_token_stats as kernel

    with torch.no_grad():
        index = None if targets is None else targets.reshape(-1).long().clamp(min=0)
        results, looked_up = kernel(
            hidden.detach().reshape(-1, hidden.shape[-1]),
            weight.detach(),
            index,
            None if bias is None else bias.detach(),
            softcap,
            temperature,
        )
        return _stats(results, looked_up, targets, lead)


def _stats(
    results: "torch.Tensor",
    target_logits: "torch.Tensor | None",
    targets: "torch.Tensor | None",
    lead: "torch.Size",
) -> TokenStats:
    """Shape (4, N) results as the caller's positions; target log-probability = target logit - logsumexp."""
    entropy, varentropy, logsumexp, max_prob = (row.reshape(lead) for row in results)
    target_logprob = None
    if targets is not None and target_logits is not None:
        # Rounding must not make a certain token more than certain.
        target_logprob = (target_logits.reshape(lead) - logsumexp).clamp(max=0.0)
        target_logprob = target_logprob.masked_fill(targets == IGNORED_TARGET, float("nan"))
    return TokenStats(entropy, varentropy, logsumexp, max_prob, target_logprob)


def _check_temperature(temperature: float) -> None:
    if not (math.isfinite(temperature) and temperature > 0):
        raise InvalidArgument(f"temperature: must be finite and above 0, got {temperature}")


def _check_floating(name: str, tensor: object) -> None:
    import torch

    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        found = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        raise InvalidArgument(f"{name}: must be a floating-point tensor, got {found}")


def _check_projection(hidden: "torch.Tensor", weight: "torch.Tensor", bias: "torch.Tensor | None") -> None:
    _check_floating("hidden", hidden)
    _check_floating("weight", weight)
    if weight.ndim != 2 or weight.shape[0] == 0:
        raise InvalidArgument(f"weight: must have shape (V, H) with V >= 1, got {tuple(weight.shape)}")
    if hidden.ndim == 0 or hidden.shape[-1] != weight.shape[1]:
        raise InvalidArgument(f"hidden: last dimension must be H = {weight.shape[1]}, got {tuple(hidden.shape)}")
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        raise InvalidArgument(f"bias: must have shape ({weight.shape[0]},), got {tuple(bias.shape)}")
    if hidden.dtype != weight.dtype or hidden.device != weight.device:
        raise InvalidArgument(
            f"hidden is {hidden.dtype} on {hidden.device}, weight is {weight.dtype} on {weight.device}; they must agree"
        )


def _check_targets(targets: "torch.Tensor | None", lead: "torch.Size", vocabulary: int) -> None:
    import torch

    if targets is None:
        return
    if not isinstance(targets, torch.Tensor) or targets.is_floating_point() or targets.dtype == torch.bool:
        raise InvalidArgument("targets: must be an integer tensor")
    if targets.shape != lead:
        raise InvalidArgument(f"targets: must have shape {tuple(lead)}, got {tuple(targets.shape)}")
    outside = (targets != IGNORED_TARGET) & ((targets < 0) | (targets >= vocabulary))
    if bool(outside.any()):
        raise InvalidArgument(f"targets: {int(targets[outside][0])} lies outside 0..{vocabulary - 1}")
