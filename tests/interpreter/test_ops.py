"""The public functions with the Triton back ends: the wiring, both paths of the projection, tiles that merge."""

import math

import numpy as np
import pytest
import torch
import triton.language as tl
from planted import FIELDS, expected

import euds
from euds.errors import BackendUnavailable
from euds.kernels import linear_token_stats_triton_tiles, token_stats_triton
from euds.kernels.linear_token_stats_paths import takes_fused_kernel

# The interpreter is NumPy, which warns of infinities that the kernel means.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

LINEAR = ["triton", "triton_fused", "triton_tiles"]


def compare(found: euds.TokenStats, logits: torch.Tensor, targets: torch.Tensor, tolerance: float) -> None:
    ignored = targets == -100
    oracle = expected(logits, targets.clamp(min=0))
    oracle["target_logprob"][ignored.numpy()] = math.nan
    for field in FIELDS:
        np.testing.assert_allclose(getattr(found, field), oracle[field], rtol=1e-5, atol=tolerance, err_msg=field)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_logits_of_any_strides_and_ignored_targets(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(2, 3, 401, generator=generator)).to(dtype)
    targets = torch.randint(0, 401, (2, 3), generator=generator)
    targets[1, 1] = -100
    for view in (logits, logits.transpose(0, 1).contiguous().transpose(0, 1), logits.mT.contiguous().mT):
        found = euds.token_stats(view, targets, temperature=0.7, backend="triton")
        assert found.entropy.shape == (2, 3)
        flat = logits.reshape(6, 401).double() / 0.7
        compare(euds.TokenStats(*(getattr(found, name).flatten() for name in FIELDS)), flat, targets.flatten(), 2e-5)


@pytest.mark.parametrize("backend", LINEAR)
@pytest.mark.parametrize(
    ("softcap", "temperature", "biased"), [(None, 1, False), (5, 1.0, True), (None, 2, True), (None, 0.7, True)]
)
def test_projections_by_either_path(
    backend: str, softcap: float | None, temperature: float, biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several tiles each way, the last ones narrower.
    monkeypatch.setattr(linear_token_stats_triton_tiles, "COLUMN_STEP", 256)
    monkeypatch.setattr(linear_token_stats_triton_tiles, "TILE_BYTES", 5 * 4 * 256)
    generator = torch.Generator().manual_seed(1)
    hidden, weight = torch.randn(13, 24, generator=generator), torch.randn(601, 24, generator=generator)
    bias = torch.randn(1202, generator=generator)[::2] if biased else None
    targets = torch.randint(0, 601, (13,), generator=generator)
    targets[4] = -100
    found = euds.linear_token_stats(
        hidden, weight, targets, bias=bias, softcap=softcap, temperature=temperature, backend=backend
    )
    logits = hidden.double() @ weight.double().T + (0 if bias is None else bias.double())
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    compare(found, logits / temperature, targets, 3e-5)


@pytest.mark.parametrize("backend", LINEAR)
def test_without_varentropy_and_without_rows(backend: str) -> None:
    found = euds.linear_token_stats(torch.randn(3, 8), torch.randn(9, 8), varentropy=False, backend=backend)
    assert found.varentropy is None
    assert found.target_logprob is None
    assert torch.isfinite(found.entropy).all()
    assert euds.linear_token_stats(torch.zeros(0, 8), torch.zeros(9, 8), backend=backend).entropy.shape == (0,)


def test_the_path_follows_from_dtype_and_width() -> None:
    half = [torch.zeros(1, width, dtype=torch.bfloat16) for width in (32, 64, 576, 4096)]
    assert [takes_fused_kernel(hidden, hidden, None, 1.0) for hidden in half] == [False, True, True, True]
    assert not takes_fused_kernel(half[-1].float(), half[-1].float(), None, 1.0)
    assert not takes_fused_kernel(half[-1], half[-1], None, 1e-4)
    assert not takes_fused_kernel(half[-1], half[-1], 30.0, 0.01)


@pytest.mark.parametrize("backend", LINEAR)
@pytest.mark.parametrize("temperature", [1e-30, 1e-8, 0.01, 1e30])
def test_temperatures_at_the_ends_of_their_range(backend: str, temperature: float) -> None:
    torch.manual_seed(0)
    hidden, weight = 3 * torch.randn(4, 64), torch.randn(40, 64)
    targets = (hidden @ weight.T).argmax(1)
    if backend == "triton_fused" and temperature < 1e-3:
        with pytest.raises(BackendUnavailable, match=r"over temperature up to 1000, got 1e\+"):
            euds.linear_token_stats(hidden, weight, targets, temperature=temperature, backend=backend)
        return
    found = euds.linear_token_stats(hidden, weight, targets, temperature=temperature, backend=backend)
    logprob = -math.log(40) if temperature > 1 else 0.0
    for name, right, atol in (
        ("entropy", -logprob, 1e-5),
        ("max_prob", math.exp(logprob), 1e-5),
        # A target's logit is summed in an order of its own, and the temperature divides the difference, too.
        ("target_logprob", logprob, 1e-5 * max(1.0, 1 / temperature)),
    ):
        torch.testing.assert_close(getattr(found, name), torch.full((4,), right), atol=atol, rtol=0)


@pytest.mark.parametrize("backend", LINEAR)
def test_the_smallest_soft_cap_at_the_highest_temperature_is_flat(backend: str) -> None:
    torch.manual_seed(0)
    found = euds.linear_token_stats(
        torch.randn(2, 64), torch.randn(40, 64), softcap=1e-30, temperature=1e30, backend=backend
    )
    torch.testing.assert_close(found.entropy, torch.full((2,), math.log(40)), atol=1e-5, rtol=0)


def test_large_soft_caps_are_left_to_a_back_end_that_keeps_their_digits() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(4, 64), torch.randn(40, 64)
    logits, targets = hidden.double() @ weight.double().T, torch.arange(4)
    for softcap in (1e3, 1e6, 1e8):
        with pytest.raises(BackendUnavailable, match="it takes soft caps, over temperatures below 1, up to 128; got 1"):
            euds.linear_token_stats(hidden, weight, softcap=softcap, backend="triton")
        found = euds.linear_token_stats(hidden, weight, targets, softcap=softcap)
        compare(found, softcap * torch.tanh(logits / softcap), targets, 3e-5)
    # A low temperature raises the error of a cap's tanh as a large cap does.
    with pytest.raises(BackendUnavailable, match="up to 128; got 300"):
        euds.linear_token_stats(hidden, weight, softcap=30.0, temperature=0.1, backend="triton")
    euds.linear_token_stats(hidden, weight, softcap=30.0, temperature=4.0, backend="triton")


@pytest.mark.parametrize("backend", LINEAR)
def test_torchs_default_dtype_changes_nothing(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where a row begins within a cache line is chance on a CPU, and none on a GPU; memory here begins at 64 bytes.
    monkeypatch.setattr(token_stats_triton, "LINE", tl.constexpr(64))
    generator = torch.Generator().manual_seed(3)
    hidden, weight = torch.randn(5, 24, generator=generator), torch.randn(301, 24, generator=generator)
    targets = torch.randint(0, 301, (5,), generator=generator)
    before = euds.linear_token_stats(hidden, weight, targets, backend=backend)
    torch.set_default_dtype(torch.bfloat16)
    try:
        after = euds.linear_token_stats(hidden, weight, targets, backend=backend)
    finally:
        torch.set_default_dtype(torch.float32)
    for name in FIELDS:
        torch.testing.assert_close(getattr(after, name), getattr(before, name), rtol=0, atol=0)
