"""Make a loaded model read faster on this machine; what it computes changes by rounding at most."""

from typing import Any

import torch
from torch import nn

from euds.kernels import products_onednn

PROBE_ROWS = 8


class OneDnnLinear(nn.Linear):
    """A linear layer whose products go through oneDNN; for inference only."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's name
        """Return input @ weight.T + bias without a gradient."""
        return products_onednn.linear(input, self.weight, self.bias)


class FusedRMSNorm(nn.Module):
    """Root-mean-square normalisation by torch, in one kernel where it has one; transformers' models launch six."""

    weight: torch.Tensor
    variance_epsilon: float

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return hidden_states / rms(hidden_states) * weight, (..., H), rounded once."""
        return nn.functional.rms_norm(hidden_states, self.weight.shape, self.weight, self.variance_epsilon)


def for_inference(model: nn.Module) -> None:
    """Give a model the layers that are faster on its device: `OneDnnLinear` or `FusedRMSNorm`."""
    # The class alone changes: weights, tied ones too, stay where they are.
    if next(model.parameters()).device.type == "cuda":
        for layer in model.modules():
            if is_rms_norm(layer):
                layer.__class__ = FusedRMSNorm
    elif products_onednn.is_faster_here():
        for layer in model.modules():
            if type(layer) is nn.Linear and layer.weight.dtype == torch.float32:
                layer.__class__ = OneDnnLinear


@torch.inference_mode()
def is_rms_norm(layer: Any) -> bool:
    """Tell a layer of transformers that computes what `FusedRMSNorm` does, by its attributes and by trying it."""
    weight = getattr(layer, "weight", None)
    if not type(layer).__name__.endswith("RMSNorm") or not hasattr(layer, "variance_epsilon") or weight is None:
        return False
    generator = torch.Generator().manual_seed(0)
    probe = (3 * torch.randn(PROBE_ROWS, len(weight), generator=generator)).to(weight)
    fused = nn.functional.rms_norm(probe, weight.shape, weight, layer.variance_epsilon)
    tolerance = 4 * torch.finfo(weight.dtype).eps
    return torch.allclose(layer(probe), fused, rtol=tolerance, atol=tolerance)
