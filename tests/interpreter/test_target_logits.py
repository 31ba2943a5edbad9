"""The kernel that looks up target logits in hidden states, in Triton's interpreter, against float64."""

import pytest
import torch

from euds.kernels.target_logits_triton import target_logits


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("softcap", [None, 4.0])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("width", [1, 64, 570, 2100])
def test_target_logits_of_any_width(width: int, biased: bool, softcap: float | None, rounded: bool) -> None:
    generator = torch.Generator().manual_seed(width)
    # The interpreter cuts bfloat16 off where a GPU rounds it.
    dtype = torch.float16 if rounded else torch.bfloat16
    # Strides of neither operand are those of a matrix of its own.
    hidden = torch.randn(7, 2 * width, generator=generator).to(dtype)[:, ::2]
    weight = torch.randn(width, 31, generator=generator).to(dtype).T
    bias = torch.randn(31, generator=generator) if biased else None
    targets = torch.tensor([0, 30, 5, 5, 17, 1, 29])
    found = target_logits(hidden, weight, targets, bias, softcap, rounded)
    expected = (hidden.double() * weight[targets].double()).sum(1)
    if rounded:
        expected = expected.half().double()
    if bias is not None:
        expected = expected + bias[targets].double()
    if softcap is not None:
        expected = torch.tanh(expected / softcap)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=2e-5)


def test_a_saturated_cap_and_no_rows() -> None:
    hidden, weight = torch.full((2, 64), 3.0), torch.stack([torch.full((64,), 3.0), torch.full((64,), -3.0)])
    assert target_logits(hidden, weight, torch.tensor([0, 1]), None, 30.0, False).tolist() == [1.0, -1.0]
    assert target_logits(hidden[:0], weight, torch.tensor([], dtype=torch.long), None, None, False).shape == (0,)
