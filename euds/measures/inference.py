"""Make a loaded model read faster on this machine, without changing what it computes."""

import torch
from torch import nn

from euds.kernels import products_onednn


class OneDnnLinear(nn.Linear):
    """A linear layer whose products go through oneDNN; for inference only."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's name
        """Return input @ weight.T + bias without a gradient."""
        return products_onednn.linear(input, self.weight, self.bias)


def for_inference(model: nn.Module) -> None:
    """Turn the float32 linear layers of a CPU model into `OneDnnLinear` where that is faster; gradients end there."""
    if not products_onednn.is_faster_here():
        return
    for layer in model.modules():
        if type(layer) is nn.Linear and layer.weight.dtype == torch.float32 and layer.weight.device.type == "cpu":
            # The class alone changes: weights, tied ones too, stay where they are.
            layer.__class__ = OneDnnLinear
