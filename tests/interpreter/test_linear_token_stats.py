"""The Triton kernel fused with the projection against the float64 reference, under Triton's interpreter."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from euds.kernels.linear_token_stats_plan import Plan, Tiles, fits_descriptor
from euds.kernels.linear_token_stats_triton import linear_token_stats
from euds.reference import entropy as reference
from euds.types import Float64Array

# The interpreter is NumPy, which warns of infinities that the kernel means.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

FIELDS = ("entropy", "varentropy", "logsumexp", "max_prob", "target_logprob")
COLUMNS = 128
SMALL = Tiles(64, COLUMNS, 32, 4, 1)
POINTERS = Plan(SMALL, tma=False, tiles_per_share=8, neighbours=1)
TMA = Plan(SMALL, tma=True, tiles_per_share=3, neighbours=2)
"""Of three blocks of rows, two run side by side and one is left over; of eight tiles, the last share has two."""


@dataclass(frozen=True, eq=False)
class Case:
    """Arguments of one call; targets (N,), bias (V,) or None."""

    hidden: torch.Tensor
    weight: torch.Tensor
    targets: torch.Tensor
    bias: torch.Tensor | None = None
    softcap: float | None = None
    temperature: float = 1.0

    def logits(self, dtype: torch.dtype) -> torch.Tensor:
        """The (N, V) logits of the inputs as they are stored, computed in dtype."""
        z = self.hidden.to(dtype) @ self.weight.to(dtype).T
        if self.bias is not None:
            z += self.bias.to(dtype)
        if self.softcap is not None:
            z = self.softcap * torch.tanh(z / self.softcap)
        return z / self.temperature

    def run(self, plan: Plan) -> Float64Array:
        """The kernel's answer, (5, N) in the order of FIELDS."""
        found, logprob = linear_token_stats(
            self.hidden, self.weight, self.targets, self.bias, self.softcap, self.temperature, plan=plan
        )
        assert logprob is not None
        assert found.dtype == logprob.dtype == torch.float32
        return torch.cat([found, logprob[None]]).double().numpy()


def make(n_rows: int, vocabulary: int, width: int, dtype: torch.dtype = torch.float32) -> Case:
    """A case of plain rows, the first ones peaked, flat, large; every third target in the last column."""
    generator = torch.Generator().manual_seed(n_rows * vocabulary + width)
    hidden = 3 * torch.randn(n_rows, width, generator=generator) / math.sqrt(width)
    weight = torch.randn(vocabulary, width, generator=generator)
    hidden[1:2] = weight[vocabulary // 2] * 2
    hidden[2:3] = 0
    hidden[3:4] *= 30
    targets = torch.randint(0, vocabulary, (n_rows,), generator=generator)
    targets[::3] = vocabulary - 1
    return Case(hidden.to(dtype), weight.to(dtype), targets)


def expected(case: Case) -> Float64Array:
    """The reference's answer, (5, N)."""
    rows = zip(case.logits(torch.float64).numpy(), case.targets.tolist(), strict=True)
    stats = [reference.token_stats(row, target) for row, target in rows]
    return np.array([[row[field] for row in stats] for field in FIELDS])


def eager(case: Case) -> Float64Array:
    """The answer of plain torch in float32, (5, N)."""
    z = case.logits(torch.float32)
    logp = torch.log_softmax(z, -1)
    p = logp.exp()
    finite = logp.masked_fill(logp == -math.inf, 0)
    entropy = -(p * finite).sum(-1)
    varentropy = (p * (finite + entropy[:, None]) ** 2).sum(-1)
    looked_up = z.gather(1, case.targets[:, None])[:, 0]
    logsumexp = z.logsumexp(-1)
    return torch.stack([entropy, varentropy, logsumexp, p.amax(-1), looked_up - logsumexp]).double().numpy()


def check(case: Case, plan: Plan) -> None:
    """Compare with the reference: within 1e-5, the error of plain torch, or two steps of float32 of what is summed."""
    found, oracle = case.run(plan), expected(case)
    with np.errstate(invalid="ignore"):
        torch_error = np.abs(eager(case) - oracle)
        step = 2 * np.spacing(np.abs(oracle).astype(np.float32)).astype(np.float64)
        # A logit is a sum, whose terms may be much larger; how it is ordered differs between processors.
        terms = (case.hidden.double().abs() @ case.weight.double().abs().T).amax(1).numpy() / case.temperature
        step[2] = np.fmax(step[2], 2 * np.spacing(terms.astype(np.float32)))
        # The probability of the target is a difference of two such numbers, each of which may be off.
        step[4] += 2 * step[2]
        allowed = np.fmax(np.fmax(1e-5, torch_error), step)
        agrees = (np.abs(found - oracle) <= allowed) | (found == oracle) | (np.isnan(found) & np.isnan(oracle))
    assert agrees.all(), np.abs(found - oracle).max(1)


@pytest.mark.parametrize("plan", [POINTERS, TMA], ids=["pointers", "tma"])
@pytest.mark.parametrize("vocabulary", [1, 130, COLUMNS - 1, COLUMNS, COLUMNS + 1, 999])
@pytest.mark.parametrize(
    ("n_rows", "width", "dtype"),
    [
        (1, 64, torch.bfloat16),
        (7, 16, torch.float16),
        (64, 24, torch.float32),
        (65, 72, torch.bfloat16),
        (130, 72, torch.float16),
    ],
)
def test_shapes_and_dtypes(n_rows: int, vocabulary: int, width: int, dtype: torch.dtype, plan: Plan) -> None:
    check(make(n_rows, vocabulary, width, dtype), plan)


@pytest.mark.parametrize("tiles_per_share", [1, 2, 3])
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("biased", [False, True])
def test_bias_softcap_temperature_and_shares(biased: bool, softcap: float | None, tiles_per_share: int) -> None:
    case = replace(make(33, 300, 72, torch.bfloat16), softcap=softcap, temperature=0.7 if biased else 2.5)
    if biased:
        bias = 2 * torch.randn(600, generator=torch.Generator().manual_seed(0))
        # Not contiguous, and of another dtype than the weight.
        case = replace(case, bias=bias[::2])
    check(case, replace(TMA, tiles_per_share=tiles_per_share))
    check(case, replace(POINTERS, tiles_per_share=tiles_per_share))


def test_float32_accumulators_do_not_see_the_rounding_of_the_logits() -> None:
    case = make(65, 999, 72, torch.bfloat16)
    case = replace(case, hidden=case.hidden * 4)
    rounded = torch.stack([case.logits(torch.float64)]).bfloat16()[0].double().numpy()
    through_bfloat16 = np.array([reference.token_stats(row)["entropy"] for row in rounded])
    oracle = expected(case)[0]
    assert np.abs(through_bfloat16 - oracle).max() > 1e-2
    assert np.abs(case.run(TMA)[0] - oracle).max() < 1e-5


@pytest.mark.parametrize("plan", [POINTERS, TMA], ids=["pointers", "tma"])
def test_a_hopeless_row_spoils_only_itself(plan: Plan) -> None:
    case = make(40, 150, 24)
    case.weight[:, 0] = case.weight[:, 0].abs() + 0.1
    clean = case.run(plan)
    case.hidden[5, 3] = math.nan
    # Every logit is +inf, then -inf.
    case.hidden[17, 0] = math.inf
    case.hidden[33, 0] = -math.inf
    found = case.run(plan)
    hopeless = [5, 17, 33]
    assert np.isnan(found[:, hopeless]).all()
    np.testing.assert_array_equal(np.delete(found, hopeless, 1), np.delete(clean, hopeless, 1))


def test_one_positive_infinity_or_nan_among_the_logits_is_enough() -> None:
    for value in (math.inf, math.nan):
        for at in (0, 70, 149):
            case = make(3, 150, 24)
            bias = torch.zeros(150)
            bias[at] = value
            assert np.isnan(replace(case, bias=bias).run(replace(TMA, tiles_per_share=2))).all()


@pytest.mark.parametrize("tiles_per_share", [1, 2, 3])
@pytest.mark.parametrize("span", [(0, COLUMNS), (COLUMNS, 2 * COLUMNS), (2 * COLUMNS, 300), (0, 299)])
def test_impossible_tokens_over_whole_tiles_count_nothing(span: tuple[int, int], tiles_per_share: int) -> None:
    case = make(7, 300, 24)
    bias = torch.zeros(300)
    bias[span[0] : span[1]] = -math.inf
    targets = torch.tensor([0, 127, 128, 191, 255, 256, 299])
    check(replace(case, bias=bias, targets=targets), replace(TMA, tiles_per_share=tiles_per_share))


def test_scattered_impossible_tokens_count_nothing() -> None:
    case = make(64, 300, 24)
    bias = torch.zeros(300)
    bias[torch.rand(300, generator=torch.Generator().manual_seed(1)) < 0.3] = -math.inf
    check(replace(case, bias=bias), TMA)


def test_only_impossible_tokens_are_no_distribution() -> None:
    case = replace(make(3, 100, 16), bias=torch.full((100,), -math.inf))
    assert np.isnan(case.run(TMA)).all()


def test_a_certain_token_is_certain() -> None:
    bias = torch.full((200,), -math.inf)
    bias[137] = 5.0
    case = replace(make(5, 200, 16), bias=bias, targets=torch.full((5,), 137))
    found = case.run(TMA)
    assert (found[:2] >= 0).all()
    np.testing.assert_allclose(found[:2], 0, atol=1e-6)
    np.testing.assert_array_equal(found[3], 1)
    # Its logit is looked up by a sum of its own, in another order: two roundings of a number as large as the logit.
    assert (np.abs(found[4]) <= 2 * np.finfo(np.float32).eps * np.abs(found[2])).all()


@pytest.mark.parametrize("offset", [1000.0, -1000.0, -60000.0, 1e6])
@pytest.mark.parametrize("temperature", [1.0, 0.37])
def test_logits_far_from_zero(offset: float, temperature: float) -> None:
    case = make(33, 300, 8)
    # Multiples of 1/16, which float32 holds exactly at every offset: what is off is the kernel's doing.
    case = replace(
        case,
        hidden=(case.hidden * 4).round() / 4,
        weight=(case.weight * 4).round() / 4,
        bias=torch.full((300,), offset),
        temperature=temperature,
    )
    found, oracle = case.run(replace(TMA, tiles_per_share=2)), expected(case)
    np.testing.assert_allclose(found[[0, 1, 3]], oracle[[0, 1, 3]], rtol=3e-6, atol=1e-5)
    np.testing.assert_allclose(found[2], oracle[2], rtol=2.0**-23)
    # A difference of two numbers as large as the offset.
    np.testing.assert_allclose(found[4], oracle[4], atol=max(1e-5, abs(offset / temperature) * 2.0**-22))


@pytest.mark.parametrize("offset", [-1000.0, 1000.0])
def test_a_saturated_softcap_is_flat(offset: float) -> None:
    case = replace(make(3, 300, 24), bias=torch.full((300,), offset), softcap=3.0)
    found = case.run(TMA)
    np.testing.assert_allclose(found[0], math.log(300), rtol=1e-6)
    np.testing.assert_allclose(found[2], math.log(300) + math.copysign(3.0, offset), rtol=1e-6)


def test_without_targets_or_varentropy_the_rest_stays() -> None:
    case = make(65, 300, 72, torch.float16)
    whole, _ = linear_token_stats(case.hidden, case.weight, case.targets, None, None, 1.0, plan=TMA)
    found, logprob = linear_token_stats(case.hidden, case.weight, None, None, None, 1.0, varentropy=False, plan=TMA)
    assert logprob is None
    assert torch.isnan(found[1]).all()
    assert torch.equal(found[[0, 2, 3]], whole[[0, 2, 3]])


def test_a_plan_is_found_without_being_told() -> None:
    case = make(130, 300, 72, torch.bfloat16)
    found, _ = linear_token_stats(case.hidden, case.weight, None, None, None, 1.0)
    np.testing.assert_allclose(found, expected(case)[:4], rtol=1e-5, atol=1e-5)


def test_no_rows() -> None:
    case = make(0, 100, 16)
    found, logprob = linear_token_stats(case.hidden, case.weight, case.targets, None, None, 1.0)
    assert found.shape == (4, 0)
    assert logprob is not None
    assert logprob.shape == (0,)


def test_rows_may_lie_anywhere(tmp_path: Path) -> None:
    plain = make(3, 130, 24, torch.float16)
    wanted = plain.run(POINTERS)
    wide = torch.full((3, 61), math.nan, dtype=torch.float16)
    wide[:, 1:49:2] = plain.hidden
    sliced = replace(plain, hidden=wide[:, 1:49:2], weight=plain.weight.T.contiguous().T)
    np.testing.assert_array_equal(sliced.run(POINTERS), wanted)
    # Past 2^31 elements; the file has holes and takes no space.
    rows_apart = 2**30 + 8
    far = np.memmap(tmp_path / "hidden", np.float16, "w+", shape=(2 * rows_apart + 24,))
    hidden = torch.from_numpy(far).as_strided((3, 24), (rows_apart, 1))
    hidden.copy_(plain.hidden)
    for plan in (POINTERS, TMA):
        np.testing.assert_array_equal(replace(plain, hidden=hidden).run(plan), plain.run(plan))


@pytest.mark.parametrize(
    ("matrix", "fits"),
    [
        (torch.zeros(5, 64), True),
        (torch.zeros(5, 66)[:, :64], False),
        (torch.zeros(5, 68)[:, :64], True),
        (torch.zeros(5, 68)[:, 1:65], False),
        (torch.zeros(64, 8).T, False),
        (torch.zeros(1, 64).expand(5, 64), False),
    ],
)
def test_what_a_descriptor_can_address(matrix: torch.Tensor, fits: bool) -> None:
    assert fits_descriptor(matrix) == fits
