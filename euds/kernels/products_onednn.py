"""Float32 matrix products on the CPU through oneDNN, where MKL would leave half of the vector width unused.

MKL, which torch's CPU products use, takes 256-bit kernels on processors that are not Intel's. Where such a processor
has AVX-512, oneDNN's kernels are 1.1 to 1.6 times as fast from 32 rows on (AMD EPYC, 2 cores).
"""

from functools import cache
from pathlib import Path

import torch


@cache
def is_faster_here() -> bool:
    """Tell whether this machine's processor is one that oneDNN serves better; the same in every process on it."""
    try:
        facts = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return (
        torch.backends.mkldnn.is_available()
        and "GenuineIntel" not in facts
        and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    )


def linear(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return rows @ weight.T + bias, (..., V) float32, without a gradient.

    rows (..., H), weight (V, H) and bias (V,) are float32 CPU tensors.
    """
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return product
