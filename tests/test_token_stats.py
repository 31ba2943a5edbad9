"""Token statistics against the float64 reference on planted rows, odd sizes and every dtype."""

import math

import numpy as np
import pytest
import torch

import euds
from euds.errors import BackendUnavailable, InvalidArgument
from euds.kernels import linear_token_stats_torch
from euds.ops.token_stats import BACKENDS, LINEAR_BACKENDS
from euds.reference import entropy as reference

FIELDS = ("entropy", "varentropy", "logsumexp", "max_prob", "target_logprob")
VOCABULARIES = [1, 2, 3, 127, 128, 1000, 1025, 5003]


def planted(vocabulary: int) -> torch.Tensor:
    """Rows that break careless kernels: peaked, flat, far offsets, -inf, one-hot."""
    generator = torch.Generator().manual_seed(vocabulary)
    base = 3 * torch.randn(vocabulary, generator=generator)
    peaked = base.clone()
    peaked[vocabulary // 2] += 40
    masked = base.clone()
    masked[torch.rand(vocabulary, generator=generator) < 0.3] = -math.inf
    masked[0] = 0.0
    one_hot = torch.full((vocabulary,), -math.inf)
    one_hot[vocabulary - 1] = 5.0
    rows = [base, peaked, torch.zeros(vocabulary), base + 1000, base - 1000, base - 60000, masked, one_hot, base * 30]
    return torch.stack(rows)


def expected(logits: torch.Tensor, targets: torch.Tensor) -> dict[str, np.ndarray]:
    rows = [
        reference.token_stats(row.double().numpy(), target)
        for row, target in zip(logits, targets.tolist(), strict=True)
    ]
    return {field: np.array([row[field] for row in rows]) for field in FIELDS}


@pytest.mark.parametrize("backend", list(BACKENDS))
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_token_stats_equal_the_reference(vocabulary: int, dtype: torch.dtype, backend: str) -> None:
    logits = planted(vocabulary).clamp(min=-60000).to(dtype)
    logits[6:8] = planted(vocabulary)[6:8].to(dtype)
    targets = torch.full((len(logits),), vocabulary - 1)
    found = euds.token_stats(logits, targets, backend=backend)
    oracle = expected(logits, targets)
    eager = torch.log_softmax(logits.float(), -1)
    eager_entropy = -(eager.exp() * eager.masked_fill(eager == -math.inf, 0)).sum(-1).numpy()
    allowed = np.maximum(1e-5, np.abs(eager_entropy - oracle["entropy"]))
    assert (np.abs(found.entropy.numpy() - oracle["entropy"]) <= allowed).all()
    np.testing.assert_allclose(found.varentropy, oracle["varentropy"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.logsumexp, oracle["logsumexp"], rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(found.max_prob, oracle["max_prob"], rtol=1e-5)
    assert found.target_logprob is not None
    np.testing.assert_allclose(found.target_logprob, oracle["target_logprob"], rtol=1e-6, atol=2e-3)


@pytest.mark.parametrize("backend", list(LINEAR_BACKENDS))
@pytest.mark.parametrize("rows", [0, 1, 7, 513])
@pytest.mark.parametrize("vocabulary", [1, 130, 4099])
def test_linear_token_stats_equal_the_reference(rows: int, vocabulary: int, backend: str) -> None:
    generator = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, 24, generator=generator)
    weight = torch.randn(vocabulary, 24, generator=generator)
    bias = torch.randn(vocabulary, generator=generator)
    targets = torch.randint(0, vocabulary, (rows,), generator=generator)
    for softcap, temperature in ((None, 1.0), (5.0, 1.0), (None, 0.7)):
        found = euds.linear_token_stats(
            hidden, weight, targets, bias=bias, softcap=softcap, temperature=temperature, backend=backend
        )
        logits = hidden.double() @ weight.double().T + bias.double()
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        oracle = expected(logits / temperature, targets)
        for field in FIELDS:
            np.testing.assert_allclose(getattr(found, field), oracle[field], rtol=2e-5, atol=1e-4, err_msg=field)


def test_tiles_merge_to_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(70, 16, generator=generator), 20 * torch.randn(999, 16, generator=generator)
    whole = euds.linear_token_stats(hidden, weight)
    monkeypatch.setattr(linear_token_stats_torch, "TILE_ROWS", 11)
    monkeypatch.setattr(linear_token_stats_torch, "TILE_COLUMNS", 37)
    tiled = euds.linear_token_stats(hidden, weight)
    for field in FIELDS[:4]:
        np.testing.assert_allclose(getattr(tiled, field), getattr(whole, field), rtol=1e-4, atol=1e-5)


def test_a_tile_of_impossible_tokens_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_token_stats_torch, "TILE_COLUMNS", 8)
    hidden, weight = torch.randn(2, 4), torch.randn(24, 4)
    for dead in (slice(0, 8), slice(8, 16), slice(16, 24)):
        bias = torch.zeros(24)
        bias[dead] = -math.inf
        found = euds.linear_token_stats(hidden, weight, bias=bias)
        oracle = expected(hidden.double() @ weight.double().T + bias, torch.zeros(2, dtype=torch.long))
        np.testing.assert_allclose(found.entropy, oracle["entropy"], atol=1e-5)
        np.testing.assert_allclose(found.varentropy, oracle["varentropy"], atol=1e-5)


@pytest.mark.parametrize("row", [[math.nan, 1.0], [math.inf, 1.0], [-math.inf, -math.inf]])
def test_a_row_that_is_no_distribution_is_nan_and_spoils_no_other(row: list[float]) -> None:
    found = euds.token_stats(torch.tensor([row, [0.0, 0.0]]), torch.tensor([0, 1]))
    for field in FIELDS:
        value = getattr(found, field)
        assert math.isnan(value[0])
        assert math.isfinite(value[1])


def test_shapes_strides_and_ignored_targets() -> None:
    logits = torch.randn(3, 5, 2, 11).permute(2, 0, 1, 3)
    targets = torch.zeros(2, 3, 5, dtype=torch.int32)
    targets[0, 0, 0] = -100
    found = euds.token_stats(logits, targets)
    assert found.target_logprob is not None
    assert found.entropy.shape == found.target_logprob.shape == (2, 3, 5)
    assert found.entropy.dtype == torch.float32
    assert torch.isnan(found.target_logprob).nonzero().tolist() == [[0, 0, 0]]
    torch.testing.assert_close(found.entropy, euds.token_stats(logits.contiguous()).entropy)
    assert euds.token_stats(torch.randn(0, 4)).entropy.shape == (0,)
    assert euds.token_entropy(torch.zeros(4)).item() == pytest.approx(math.log(4))


def test_temperature_divides_the_logits_and_no_gradient_flows() -> None:
    logits = torch.randn(4, 50, requires_grad=True)
    found = euds.token_stats(logits, temperature=2.0)
    assert not found.entropy.requires_grad
    torch.testing.assert_close(found.entropy, euds.token_stats(logits.detach() / 2).entropy)


def test_inputs_are_left_as_they_were() -> None:
    logits = planted(130)
    before = logits.clone()
    euds.token_stats(logits, temperature=0.5)
    assert torch.equal(logits, before)


def test_a_shifted_row_keeps_its_entropy() -> None:
    logits = torch.randn(8, 1000, dtype=torch.float64)
    shifted = (logits.float() + 1e5).double()
    oracle = expected(shifted, torch.zeros(8, dtype=torch.long))["entropy"]
    assert np.abs(euds.token_entropy(shifted.float()).numpy() - oracle).max() < 1e-5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: euds.token_stats(torch.zeros(2, 3, dtype=torch.int32)), "logits: must be a floating-point tensor"),
        (lambda: euds.token_stats(torch.zeros(2, 0)), "V >= 1"),
        (lambda: euds.token_stats(torch.zeros(2, 3), temperature=0.0), "temperature: must be finite"),
        (lambda: euds.token_stats(torch.zeros(2, 3), torch.zeros(3, dtype=torch.long)), r"must have shape \(2,\)"),
        (lambda: euds.token_stats(torch.zeros(2, 3), torch.tensor([0, 3])), "3 lies outside 0..2"),
        (lambda: euds.token_stats(torch.zeros(2, 3), torch.zeros(2)), "must be an integer tensor"),
        (lambda: euds.token_stats(torch.zeros(2, 3), backend="trch"), "did you mean 'torch'"),
        (lambda: euds.linear_token_stats(torch.zeros(2, 3), torch.zeros(5, 4)), "H = 4"),
        (lambda: euds.linear_token_stats(torch.zeros(2, 3), torch.zeros(5, 3).half()), "must agree"),
        (lambda: euds.linear_token_stats(torch.zeros(2, 3), torch.zeros(5, 3), softcap=-1.0), "softcap"),
        (lambda: euds.linear_token_stats(torch.zeros(2, 3), torch.zeros(5, 3), bias=torch.zeros(4)), "bias"),
    ],
)
def test_bad_arguments_are_named(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(InvalidArgument, match=message):
        call()


def test_a_named_back_end_is_obeyed_or_refused_with_the_reason() -> None:
    from euds.backends import Backend, choose

    table = {"fast": Backend("somewhere", "needs a GPU"), "slow": Backend("elsewhere")}
    assert choose("op", "auto", table, ("fast", "slow")) == "slow"
    with pytest.raises(BackendUnavailable, match="needs a GPU"):
        choose("op", "fast", table, ("fast", "slow"))
    with pytest.raises(BackendUnavailable, match="no back end can run here"):
        choose("op", "auto", {"fast": table["fast"]}, ("fast",))
