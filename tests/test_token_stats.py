"""Token statistics against the float64 reference on planted rows, odd sizes, every dtype and every back end."""

import math
import re
from functools import cache, partial
from typing import cast

import numpy as np
import pytest
import torch
from planted import FIELDS, allowed_entropy_error, check_logprob, expected, planted

import euds
from euds import _core
from euds.errors import BackendUnavailable, EudsError, InvalidArgument, InvalidType
from euds.kernels import linear_token_stats_cpp, linear_token_stats_torch, token_stats_cpp
from euds.ops.token_stats import BACKENDS, LINEAR_BACKENDS

VOCABULARIES = [1, 2, 3, 127, 128, 1000, 1025, 5003]
LINEAR_KERNELS = (linear_token_stats_cpp, linear_token_stats_torch)


@pytest.fixture(params=["torch", *(f"cpp-{isa}" for isa in _core.usable_isas())])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every back end, the one in C++ once with every instruction set of this processor."""
    name, _, isa = str(request.param).partition("-")
    if isa:
        monkeypatch.setattr(token_stats_cpp, "ISA", isa)
    assert name in BACKENDS
    assert name in LINEAR_BACKENDS
    return name


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_token_stats_equal_the_reference(vocabulary: int, dtype: torch.dtype, backend: str) -> None:
    logits = planted(vocabulary, dtype)
    targets = torch.full((len(logits),), vocabulary - 1)
    found = euds.token_stats(logits, targets, backend=backend)
    oracle = expected(logits, targets)
    allowed = allowed_entropy_error(logits, oracle["entropy"])
    assert (np.abs(found.entropy.numpy() - oracle["entropy"]) <= allowed).all()
    assert found.varentropy is not None
    np.testing.assert_allclose(found.varentropy, oracle["varentropy"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.logsumexp, oracle["logsumexp"], rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(found.max_prob, oracle["max_prob"], rtol=1e-5)
    check_logprob(found.target_logprob, logits, targets)


@cache
def linear_problem(
    rows: int, vocabulary: int, softcap: float | None, temperature: float
) -> tuple[list[torch.Tensor], dict[str, np.ndarray]]:
    """Hidden states, weight, targets, bias, and the reference's statistics."""
    generator = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, 24, generator=generator)
    weight = torch.randn(vocabulary, 24, generator=generator)
    bias = torch.randn(vocabulary, generator=generator)
    targets = torch.randint(0, vocabulary, (rows,), generator=generator)
    logits = hidden.double() @ weight.double().T + bias.double()
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return [hidden, weight, targets, bias], expected(logits / temperature, targets)


@pytest.mark.parametrize("rows", [0, 1, 7, 513])
@pytest.mark.parametrize("vocabulary", [1, 130, 4099])
@pytest.mark.parametrize(("softcap", "temperature"), [(None, 1.0), (5.0, 1.0), (None, 0.7)])
def test_linear_token_stats_equal_the_reference(
    rows: int, vocabulary: int, softcap: float | None, temperature: float, backend: str
) -> None:
    (hidden, weight, targets, bias), oracle = linear_problem(rows, vocabulary, softcap, temperature)
    found = euds.linear_token_stats(
        hidden, weight, targets, bias=bias, softcap=softcap, temperature=temperature, backend=backend
    )
    for field in FIELDS:
        np.testing.assert_allclose(getattr(found, field), oracle[field], rtol=2e-5, atol=2e-5, err_msg=field)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_linear_token_stats_of_16_bits_are_those_of_its_products(dtype: torch.dtype, backend: str) -> None:
    generator = torch.Generator().manual_seed(3)
    hidden, weight = (
        torch.randn(9, 32, generator=generator).to(dtype),
        torch.randn(2100, 32, generator=generator).to(dtype),
    )
    bias = torch.randn(2100, generator=generator)
    product = hidden @ weight.T
    for added in (None, bias):
        found = euds.linear_token_stats(hidden, weight, bias=added, backend=backend)
        logits = product if added is None else product.float() + added
        oracle = expected(logits, torch.zeros(9, dtype=torch.long))
        # A tile may round a product to the other neighbour.
        np.testing.assert_allclose(found.entropy, oracle["entropy"], atol=2e-3)
        np.testing.assert_allclose(found.logsumexp, oracle["logsumexp"], atol=2e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_sure_token_is_sure_where_products_are_rounded(dtype: torch.dtype, backend: str) -> None:
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(900, 64, generator=generator).to(dtype)
    targets = torch.arange(0, 900, 10)
    hidden = (0.6 * weight[targets].float() + 0.05 * torch.randn(90, 64, generator=generator)).to(dtype)
    found = euds.linear_token_stats(hidden, weight, targets, backend=backend)
    assert found.max_prob.min() > 0.99
    assert found.target_logprob is not None
    np.testing.assert_allclose(found.target_logprob, found.max_prob.double().log(), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int8, torch.int16, torch.int32, torch.int64])
def test_targets_of_every_integer_dtype(dtype: torch.dtype, backend: str) -> None:
    # 156 and 65,436 are what -100 is to unsigned integers.
    vocabulary = 65_500 if dtype.itemsize > 1 else 300
    ids = [0, 100, 156 if dtype != torch.int8 else 3, 65_436 if dtype.itemsize > 2 or dtype == torch.uint16 else 127]
    logits = torch.randn(4, vocabulary, generator=torch.Generator().manual_seed(0))
    expected_logprob = torch.log_softmax(logits, -1)[torch.arange(4), ids]
    targets = torch.tensor(ids).to(dtype)
    found = euds.token_stats(logits, targets, backend=backend).target_logprob
    torch.testing.assert_close(found, expected_logprob, rtol=0, atol=1e-5)


def test_tiles_merge_to_the_same_numbers(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(70, 16, generator=generator), 20 * torch.randn(999, 16, generator=generator)
    whole = euds.linear_token_stats(hidden, weight, backend=backend)
    small_tiles(monkeypatch, 11, 37)
    tiled = euds.linear_token_stats(hidden, weight, backend=backend)
    for field in FIELDS[:4]:
        np.testing.assert_allclose(getattr(tiled, field), getattr(whole, field), rtol=1e-4, atol=1e-5)


def test_a_tile_of_impossible_tokens_changes_nothing(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    small_tiles(monkeypatch, 512, 8)
    hidden, weight = torch.randn(2, 4), torch.randn(24, 4)
    for dead in (slice(0, 8), slice(8, 16), slice(16, 24)):
        bias = torch.zeros(24)
        bias[dead] = -math.inf
        found = euds.linear_token_stats(hidden, weight, bias=bias, backend=backend)
        oracle = expected(hidden.double() @ weight.double().T + bias, torch.zeros(2, dtype=torch.long))
        np.testing.assert_allclose(found.entropy, oracle["entropy"], atol=1e-5)
        assert found.varentropy is not None
        np.testing.assert_allclose(found.varentropy, oracle["varentropy"], atol=1e-5)


@pytest.mark.parametrize("at", [0, 9, 23])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_tile_with_an_impossible_number_spoils_its_row_only(
    at: int, value: float, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    small_tiles(monkeypatch, 512, 8)
    weight = torch.ones(24, 1)
    weight[at] = value
    found = euds.linear_token_stats(torch.tensor([[1.0], [0.0]])[:1], weight, backend=backend)
    assert all(torch.isnan(getattr(found, field)).all() for field in FIELDS[:4])
    bias = torch.zeros(24)
    hidden = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    columns = torch.zeros(24, 2)
    columns[at, 0] = torch.finfo(torch.float32).max
    # 2 * the largest number overflows in the first row alone.
    found = euds.linear_token_stats(2 * hidden, columns, bias=bias, backend=backend)
    assert torch.isnan(found.entropy).tolist() == [True, False]


def small_tiles(monkeypatch: pytest.MonkeyPatch, rows: int, columns: int) -> None:
    for kernel in LINEAR_KERNELS:
        monkeypatch.setattr(kernel, "TILE_ROWS", rows)
        monkeypatch.setattr(kernel, "TILE_COLUMNS", columns)


@pytest.mark.parametrize("row", [[math.nan, 1.0], [math.inf, 1.0], [-math.inf, -math.inf]])
def test_a_row_that_is_no_distribution_is_nan_and_spoils_no_other(row: list[float], backend: str) -> None:
    found = euds.token_stats(torch.tensor([row, [0.0, 0.0]]), torch.tensor([0, 1]), backend=backend)
    for field in FIELDS:
        value = getattr(found, field)
        assert math.isnan(value[0])
        assert math.isfinite(value[1])


def test_shapes_strides_and_ignored_targets(backend: str) -> None:
    logits = torch.randn(3, 5, 2, 11).permute(2, 0, 1, 3)
    targets = torch.zeros(2, 3, 5, dtype=torch.int32)
    targets[0, 0, 0] = -100
    found = euds.token_stats(logits, targets, backend=backend)
    assert found.target_logprob is not None
    assert found.entropy.shape == found.target_logprob.shape == (2, 3, 5)
    assert found.entropy.dtype == torch.float32
    assert torch.isnan(found.target_logprob).nonzero().tolist() == [[0, 0, 0]]
    torch.testing.assert_close(found.entropy, euds.token_stats(logits.contiguous(), backend=backend).entropy)
    for shape in ((4,), (0, 4), (2, 0, 4), (2, 3, 2, 2, 4)):
        assert euds.token_stats(torch.randn(shape), backend=backend).entropy.shape == shape[:-1]
    assert euds.token_entropy(torch.zeros(4), backend=backend).item() == pytest.approx(math.log(4))


def test_varentropy_is_left_out_on_request(backend: str) -> None:
    hidden, weight = torch.randn(5, 8), torch.randn(300, 8)
    logits = hidden @ weight.T
    for with_it, without in (
        (euds.token_stats(logits, backend=backend), euds.token_stats(logits, varentropy=False, backend=backend)),
        (
            euds.linear_token_stats(hidden, weight, backend=backend),
            euds.linear_token_stats(hidden, weight, varentropy=False, backend=backend),
        ),
    ):
        assert without.varentropy is None
        for field in ("entropy", "logsumexp", "max_prob"):
            torch.testing.assert_close(getattr(without, field), getattr(with_it, field))


def test_temperature_divides_the_logits_and_no_gradient_flows(backend: str) -> None:
    logits = torch.randn(4, 50, requires_grad=True)
    for temperature in (2.0, 0.7, 1e-30, 1e30):
        found = euds.token_stats(logits, temperature=temperature, backend=backend)
        assert not found.entropy.requires_grad
        oracle = expected(logits.detach().double() / temperature, torch.zeros(4, dtype=torch.long))
        np.testing.assert_allclose(found.entropy, oracle["entropy"], atol=1e-5)
        np.testing.assert_allclose(found.logsumexp, oracle["logsumexp"], rtol=1e-6, atol=1e-5)


def test_inputs_are_left_as_they_were(backend: str) -> None:
    logits = planted(130, torch.float32)
    before = logits.clone()
    euds.token_stats(logits, temperature=0.5, backend=backend)
    assert torch.equal(logits, before)


def test_a_shifted_row_keeps_its_entropy(backend: str) -> None:
    logits = torch.randn(8, 1000, dtype=torch.float64)
    shifted = (logits.float() + 1e5).double()
    targets = torch.arange(8)
    for temperature in (1.0, 0.7):
        oracle = expected(shifted / temperature, targets)
        found = euds.token_stats(shifted.float(), targets, temperature=temperature, backend=backend)
        assert np.abs(found.entropy.numpy() - oracle["entropy"]).max() < 1e-5
        assert np.abs(found.target_logprob.numpy() - oracle["target_logprob"]).max() < 1e-5  # type: ignore[union-attr]  # Targets were given.


def test_the_lowest_numbers_do_not_overflow_at_a_low_temperature(backend: str) -> None:
    logits = torch.full((2, 5001), torch.finfo(torch.float32).min)
    logits[1, 3:] = -math.inf
    found = euds.token_stats(logits, temperature=1e-3, backend=backend)
    np.testing.assert_allclose(found.entropy, [math.log(5001), math.log(3)], atol=1e-5)
    np.testing.assert_allclose(found.max_prob, [1 / 5001, 1 / 3], rtol=1e-5)
    # Further apart than float32 reaches, until the temperature divides them.
    ends = torch.tensor([[3e38, -3e38]])
    apart = euds.token_stats(ends, torch.tensor([1]), temperature=1e3, backend=backend).target_logprob
    assert apart is not None
    np.testing.assert_allclose(apart, [-6e35], rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: euds.token_stats(torch.zeros(2, 0)), "V >= 1"),
        (lambda: euds.token_stats(torch.zeros(2, 3), temperature=0.0), "temperature: must lie in 1e-30..1e\\+30"),
        (lambda: euds.token_stats(torch.zeros(2, 3), temperature=1e-38), "got 1e-38"),
        (lambda: euds.token_stats(torch.zeros(2, 3), temperature=1e31), "got 1e"),
        (
            lambda: euds.token_stats(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long, device="meta")),
            "targets: must be on cpu",
        ),
        (lambda: euds.token_stats(torch.zeros(2, 3), temperature="a"), "got 'a'"),  # type: ignore[arg-type]
        (lambda: euds.linear_token_stats(torch.zeros(2, 0), torch.zeros(5, 0)), "V and H >= 1"),
        (lambda: euds.token_stats(torch.zeros(2, 3), torch.zeros(3, dtype=torch.long)), r"must have shape \(2,\)"),
        (lambda: euds.token_stats(torch.zeros(2, 3), torch.tensor([0, 3])), "3 lies outside 0..2"),
        (lambda: euds.token_stats(torch.zeros(2, 3), backend="trch"), "did you mean 'torch'"),
        (lambda: euds.token_stats(torch.zeros(2, 3), backend=None), "unknown backend None; known: auto"),  # type: ignore[arg-type]
        (lambda: euds.linear_token_stats(torch.zeros(2, 3), torch.zeros(5, 3), softcap=True), "softcap: .* got True"),
        (lambda: euds.linear_token_stats(torch.zeros(2, 3), torch.zeros(5, 4)), "H = 4"),
        (lambda: euds.linear_token_stats(torch.zeros(2, 3), torch.zeros(5, 3), softcap=-1.0), "softcap"),
        (lambda: euds.linear_token_stats(torch.zeros(2, 3), torch.zeros(5, 3), softcap="30"), "softcap: .* got '30'"),  # type: ignore[arg-type]
        (lambda: euds.linear_token_stats(torch.zeros(2, 3), torch.zeros(5, 3), bias=torch.zeros(4)), "bias"),
    ],
)
def test_bad_arguments_are_named(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(InvalidArgument, match=message):
        call()


def test_signs_that_torch_has_still_to_change_are_changed(backend: str) -> None:
    logits, weight = torch.randn(3, 5), torch.randn(7, 5)
    negated, of_weight = torch._neg_view(logits), torch._neg_view(weight)
    targets = torch.tensor([0, 1, 4])
    found, expected = (euds.token_stats(own, targets, backend=backend) for own in (negated, -logits))
    assert torch.equal(found.entropy, expected.entropy)
    assert found.target_logprob is not None
    assert expected.target_logprob is not None
    assert torch.equal(found.target_logprob, expected.target_logprob)
    found = euds.linear_token_stats(negated, of_weight, backend=backend)
    assert torch.equal(found.entropy, euds.linear_token_stats(-logits, -weight, backend=backend).entropy)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: euds.token_stats(torch.zeros(2, 3, dtype=torch.int32)), "float16 or float64, got torch.int32"),
        (
            lambda: euds.token_stats(cast("torch.Tensor", np.zeros((2, 3)))),
            "logits: must be a tensor of float32.*, got ndarray",
        ),
        (
            lambda: euds.linear_token_stats(*(torch.zeros(2, 4).to(torch.float8_e4m3fn) for _ in range(2))),
            "hidden: must be a tensor of float32.*, got torch.float8_e4m3fn",
        ),
        *(
            (
                partial(euds.token_stats, torch.zeros(2, 3), torch.zeros(2).to(dtype)),
                f"must be a tensor of integers that int64 holds, got {dtype}",
            )
            for dtype in (torch.float32, torch.complex64, torch.bool, torch.uint64)
        ),
        (
            lambda: euds.token_stats(torch.zeros(2, 3).to_sparse()),
            r"logits: must be dense, got .* torch.sparse_coo; give logits.to_dense\(\)",
        ),
        (lambda: euds.token_stats(torch.zeros(2, 3), torch.zeros(2).long().to_sparse()), "targets: must be dense"),
        (lambda: euds.linear_token_stats(torch.zeros(2, 3), torch.zeros(5, 3).to_sparse()), "weight: must be dense"),
        (lambda: euds.linear_token_stats(torch.zeros(2, 3), torch.zeros(5, 3).half()), "must agree"),
        (lambda: euds.linear_token_stats(torch.zeros(2, 3), torch.zeros(5, 3), bias=torch.zeros(5).int()), "bias"),
    ],
)
def test_wrong_types_are_named(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(InvalidType, match=message) as raised:
        call()
    assert isinstance(raised.value, TypeError)
    assert isinstance(raised.value, EudsError)


def test_a_targets_logit_is_that_of_the_products_in_float64_too() -> None:
    hidden = torch.tensor([[1e4, 1e4]], dtype=torch.float64)
    weight = torch.tensor([[1.00001, -1.0], [0.0, 0.0]], dtype=torch.float64)
    found = euds.linear_token_stats(hidden, weight, torch.tensor([0]))
    right = torch.log_softmax(hidden @ weight.T, 1)[0, 0]
    assert found.target_logprob is not None
    torch.testing.assert_close(found.target_logprob[0].double(), right, atol=1e-6, rtol=0)


def test_the_back_end_in_cpp_says_what_it_cannot_take() -> None:
    doubles = torch.randn(2, 3, dtype=torch.float64)
    with pytest.raises(BackendUnavailable, match=r"float32, bfloat16 and float16, got torch\.float64"):
        euds.token_stats(doubles, backend="cpp")
    with pytest.raises(BackendUnavailable, match="on the CPU, got one on meta"):
        euds.linear_token_stats(torch.zeros(2, 3, device="meta"), torch.zeros(4, 3, device="meta"), backend="cpp")
    torch.testing.assert_close(euds.token_entropy(doubles), euds.token_entropy(doubles, backend="torch"))


def test_a_named_back_end_is_obeyed_or_refused_with_the_reason() -> None:
    from euds.backends import Backend, choose

    table = {"fast": Backend("somewhere", "needs a GPU"), "slow": Backend("elsewhere")}
    assert choose("op", "auto", table, ("fast", "slow")) == "slow"
    with pytest.raises(BackendUnavailable, match="needs a GPU"):
        choose("op", "fast", table, ("fast", "slow"))
    with pytest.raises(BackendUnavailable, match="no back end can run here"):
        choose("op", "auto", {"fast": table["fast"]}, ("fast",))


@pytest.mark.parametrize("default", [torch.bfloat16, torch.float64])
def test_torchs_default_dtype_changes_nothing(default: torch.dtype, backend: str) -> None:
    (hidden, weight, targets, bias), _ = linear_problem(9, 1025, None, 1.0)
    logits = hidden @ weight.T
    plain = [euds.token_stats(logits, targets, backend=backend)]
    plain.append(euds.linear_token_stats(hidden, weight, targets, bias=bias, backend=backend))
    torch.set_default_dtype(default)
    try:
        again = [euds.token_stats(logits, targets, backend=backend)]
        again.append(euds.linear_token_stats(hidden, weight, targets, bias=bias, backend=backend))
    finally:
        torch.set_default_dtype(torch.float32)
    for before, after in zip(plain, again, strict=True):
        for name in ("entropy", "varentropy", "logsumexp", "max_prob", "target_logprob"):
            torch.testing.assert_close(getattr(after, name), getattr(before, name), rtol=0, atol=0)


def test_a_soft_cap_that_float32_lacks_is_refused(backend: str) -> None:
    (hidden, weight, _, _), _ = linear_problem(3, 33, None, 1.0)
    largest = euds.linear_token_stats(hidden, weight, softcap=1e38, backend=backend)
    torch.testing.assert_close(largest.entropy, euds.linear_token_stats(hidden, weight, backend=backend).entropy)
    least = euds.linear_token_stats(hidden, weight, softcap=1e-30, backend=backend)
    torch.testing.assert_close(least.entropy, torch.full_like(least.entropy, math.log(33)))
    for wrong in (1e39, 1e-31):
        said = re.escape(f"softcap: must lie in 1e-30..1e+38, got {wrong}")
        with pytest.raises(InvalidArgument, match=said):
            euds.linear_token_stats(hidden, weight, softcap=wrong, backend=backend)


def test_without_the_extension_torch_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(3, 40)
    expected = euds.token_stats(logits, backend="torch")
    monkeypatch.setattr("euds.ops.token_stats.find_spec", lambda name: None)
    torch.testing.assert_close(euds.token_stats(logits).entropy, expected.entropy, rtol=0, atol=0)
    with pytest.raises(BackendUnavailable, match="the C\\+\\+ extension is not built"):
        euds.token_stats(logits, backend="cpp")
