"""Products through oneDNN are torch's own, and a model made ready for inference computes what it did before."""

import copy

import pytest
import torch
from torch import nn

from euds.kernels import products_onednn
from euds.measures import inference


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the oneDNN path on every processor."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(products_onednn, "is_faster_here", lambda: True)


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("shape", [(0, 5, 7), (1, 1, 1), (1, 576, 49), (33, 17, 129), (130, 64, 31)])
@pytest.mark.parametrize("biased", [False, True])
def test_products_equal_float64(shape: tuple[int, int, int], biased: bool) -> None:
    n, width, columns = shape
    torch.manual_seed(0)
    # Every second row and a column slice: strides that a packed copy would hide.
    rows = torch.randn(2 * n, width + 3)[::2, :width]
    weight = torch.randn(columns + 2, width)[1:-1]
    bias = torch.randn(columns) if biased else None
    found = products_onednn.linear(rows, weight, bias)
    expected = rows.double() @ weight.double().T + (0 if bias is None else bias.double())
    assert found.shape == (n, columns)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6 * max(1, width))


@pytest.mark.usefixtures("served")
def test_a_model_for_inference_keeps_outputs_and_tied_weights() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(11, 8)
            self.inner = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8, bias=False))
            self.head = nn.Linear(8, 11, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(self.inner(self.embed(ids)))
            return logits

    torch.manual_seed(1)
    model = Tied().eval()
    fast = copy.deepcopy(model)
    inference.for_inference(fast)
    ids = torch.arange(11).repeat(3, 2)
    with torch.inference_mode():
        torch.testing.assert_close(fast(ids), model(ids), rtol=1e-5, atol=1e-5)
    assert fast.head.weight is fast.embed.weight
    assert all(type(layer) is inference.OneDnnLinear for layer in fast.modules() if isinstance(layer, nn.Linear))


@pytest.mark.usefixtures("served")
def test_other_dtypes_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 4)).to(torch.bfloat16)
    inference.for_inference(model)
    assert type(model[0]) is nn.Linear


def test_slower_machines_keep_torchs_own_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products_onednn, "is_faster_here", lambda: False)
    model = nn.Sequential(nn.Linear(4, 4))
    inference.for_inference(model)
    assert type(model[0]) is nn.Linear
