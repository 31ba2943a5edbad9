"""Products through oneDNN are torch's own, and a model made ready for inference computes what it did before."""

import copy

import pytest
import torch
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

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


def test_the_fused_norm_is_taken_for_what_it_computes_only() -> None:
    torch.manual_seed(2)
    llama = LlamaRMSNorm(48, eps=1e-5)
    gemma = GemmaRMSNorm(48)
    for layer in (llama, gemma):
        nn.init.normal_(layer.weight, mean=1.0, std=0.3)
    for dtype in (torch.float32, torch.bfloat16):
        assert inference.is_rms_norm(llama.to(dtype))
    # It scales by one more than its weight, and calls its epsilon otherwise.
    vars(gemma)["variance_epsilon"] = gemma.eps
    assert not inference.is_rms_norm(gemma)
    assert not inference.is_rms_norm(nn.LayerNorm(48))
    llama = llama.float()
    hidden = 5 * torch.randn(3, 7, 48)
    expected = llama(hidden)
    fused = copy.deepcopy(llama)
    fused.__class__ = inference.FusedRMSNorm  # type: ignore[assignment]  # As `for_inference` does on a GPU.
    torch.testing.assert_close(fused(hidden), expected)
