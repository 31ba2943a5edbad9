"""The Triton kernel for token statistics against the float64 reference, under Triton's interpreter."""

import math

import numpy as np
import pytest
import torch
from planted import FIELDS, allowed_entropy_error, check_logprob, expected, hopeless, planted

from euds.kernels import token_stats_triton
from euds.kernels.finish_triton import finish
from euds.kernels.token_stats_triton import LINE, STEP, token_stats, update_sums

# The interpreter is NumPy, which warns of infinities that the kernel means.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
WORK = STEP.value


def check(found: torch.Tensor, logprob: torch.Tensor | None, logits: torch.Tensor, targets: torch.Tensor) -> None:
    """Compare (4, N) statistics and log-probabilities with those of the scaled logits (N, V)."""
    oracle = expected(logits, targets)
    stats = found.double().numpy()
    assert found.shape == (4, len(logits))
    error = np.abs(stats[0] - oracle["entropy"])
    assert (error <= allowed_entropy_error(logits, oracle["entropy"])).all(), error
    np.testing.assert_allclose(stats[1], oracle["varentropy"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(stats[2], oracle["logsumexp"], rtol=3e-7, atol=3e-6)
    np.testing.assert_allclose(stats[3], oracle["max_prob"], rtol=3e-6)
    if logprob is not None:
        check_logprob(logprob, logits, targets)


@pytest.mark.parametrize(
    ("dtype", "vocabulary"),
    [
        *((torch.float32, vocabulary) for vocabulary in (1, 2, 3, 127, 128, 1000, 1025, 5003)),
        *((dtype, vocabulary) for dtype in DTYPES[1:] for vocabulary in (3, 128, 1025, 5003)),
    ],
)
def test_planted_rows_equal_the_reference(vocabulary: int, dtype: torch.dtype) -> None:
    logits = planted(vocabulary, dtype)
    targets = torch.full((len(logits),), vocabulary - 1)
    found, logprob = token_stats(logits, targets, 1.0)
    check(found, logprob, logits, targets)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vocabulary", [WORK - 1, WORK, WORK + 1, 2 * WORK, 2 * WORK + 9, 3 * WORK - 1])
def test_vocabularies_around_the_tile_equal_the_reference(vocabulary: int, dtype: torch.dtype) -> None:
    logits = planted(vocabulary, dtype)[[0, 6]]
    targets = torch.tensor([0, vocabulary - 1])
    found, logprob = token_stats(logits, targets, 1.0)
    check(found, logprob, logits, targets)


@pytest.mark.parametrize("temperature", [0.3, 2.5])
def test_temperature_divides_the_logits(temperature: float) -> None:
    logits = planted(1000, torch.float32)
    targets = torch.arange(len(logits))
    found, logprob = token_stats(logits, targets, temperature)
    check(found, logprob, logits.double() / temperature, targets)


def test_without_targets_or_varentropy_the_rest_stays() -> None:
    logits = planted(1025, torch.bfloat16)
    whole, _ = token_stats(logits, None, 1.0)
    found, logprob = token_stats(logits, None, 1.0, varentropy=False)
    assert logprob is None
    assert torch.isnan(found[1]).all()
    assert torch.equal(found[[0, 2, 3]], whole[[0, 2, 3]])


@pytest.mark.parametrize("n_multiprocessors", [1, 1000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_that_is_no_distribution_is_nan_and_spoils_no_other(
    dtype: torch.dtype, n_multiprocessors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_stats_triton, "_multiprocessors", lambda _: n_multiprocessors)
    vocabulary = 2 * WORK + 3
    bad = hopeless(vocabulary, dtype)
    logits = torch.stack([torch.zeros(vocabulary, dtype=dtype), *bad, torch.zeros(vocabulary, dtype=dtype)])
    found, _ = token_stats(logits, None, 1.0)
    assert torch.isnan(found[:, 1:-1]).all()
    for row in (0, -1):
        np.testing.assert_allclose(found[:, row], [math.log(vocabulary), 0, math.log(vocabulary), 1 / vocabulary])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vocabulary", [2, 71, 131])
def test_any_alignment_reads_its_own_row_only(vocabulary: int, dtype: torch.dtype) -> None:
    # Every neighbour of every row is NaN, and rows start at all distances from a cache line.
    in_line = LINE.value // dtype.itemsize
    n_rows, stride = in_line, in_line * (vocabulary // in_line) + in_line + 9
    buffer = torch.full((n_rows * stride + in_line,), math.nan, dtype=dtype)
    logits = buffer.as_strided((n_rows, vocabulary), (stride, 1), 4)
    logits.copy_(planted(vocabulary, dtype).repeat(in_line, 1)[:n_rows])
    assert len({row.data_ptr() % LINE.value for row in logits}) == in_line
    targets = torch.zeros(n_rows, dtype=torch.long)
    found, logprob = token_stats(logits, targets, 1.0)
    check(found, logprob, logits, targets)


def test_batches_of_any_stride_are_read_in_place() -> None:
    batch, time, vocabulary = 2, 3, 131
    wide = torch.full((time, batch, vocabulary + 5), math.nan)
    logits = wide.transpose(0, 1)[:, :, 2:-3]
    logits.copy_(torch.randn(batch, time, vocabulary, generator=torch.Generator().manual_seed(0)))
    targets = torch.arange(batch * time)
    found, logprob = token_stats(logits, targets, 1.0)
    check(found, logprob, logits.reshape(-1, vocabulary), targets)


def test_no_rows_give_no_statistics() -> None:
    found, logprob = token_stats(torch.zeros(0, 5), torch.zeros(0, dtype=torch.long), 1.0)
    assert found.shape == (4, 0)
    assert logprob is not None
    assert logprob.shape == (0,)


@pytest.mark.parametrize("n_multiprocessors", [2, 4, 1000])
def test_a_split_row_gives_the_same_statistics(n_multiprocessors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_stats_triton, "_multiprocessors", lambda _: n_multiprocessors)
    vocabulary = 4 * WORK + 5
    logits = planted(vocabulary, torch.float32)[[3, 6, 7]]
    assert token_stats_triton._split(len(logits), vocabulary, n_multiprocessors)[0] > 1
    targets = torch.tensor([0, 1, vocabulary - 1])
    found, logprob = token_stats(logits, targets, 0.7)
    check(found, logprob, logits.double() / 0.7, targets)


@pytest.mark.parametrize("n_rows", [1, 7, 131, 1055, 1056, 10**6])
@pytest.mark.parametrize("vocabulary", [1, WORK, WORK + 1, 50257, 256000])
def test_parts_cover_the_row_and_fill_the_multiprocessors(n_rows: int, vocabulary: int) -> None:
    n_parts, part_steps = token_stats_triton._split(n_rows, vocabulary, 132)
    assert (n_parts - 1) * part_steps * WORK < vocabulary <= n_parts * part_steps * WORK
    assert n_parts == 1 or n_rows < token_stats_triton.PROGRAMS_PER_MULTIPROCESSOR * 132


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("width", [131, 500])
@pytest.mark.parametrize("dtype", DTYPES)
def test_tiles_one_after_another_equal_the_whole(
    dtype: torch.dtype, width: int, with_bias: bool, softcap: float | None
) -> None:
    generator = torch.Generator().manual_seed(width)
    products = (4 * torch.randn(2, 500, generator=generator)).to(dtype)
    bias = torch.randn(500, generator=generator).to(dtype) if with_bias else None
    # The sums of some rows of many, as a caller that works on chunks of rows holds them.
    sums = torch.full((4, 4), math.nan)
    # With a soft cap the tile's logits and the temperature are in units of it.
    temperature = 0.8 if softcap is None else 0.8 / softcap
    for start in range(0, 500, width):
        part = slice(start, start + width)
        tile_bias = None if bias is None else bias[part]
        update_sums(products[:, part], sums[:, 1:3], start == 0, temperature, bias=tile_bias, softcap=softcap)
    assert torch.isnan(sums[:, [0, 3]]).all()
    logits = products.double() if bias is None else products.double() + bias.double()
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    check(finish(sums[:, 1:3].contiguous(), temperature), None, logits / 0.8, torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize("dtype", DTYPES)
def test_tiles_of_whole_turns_of_the_main_loop_equal_the_whole(dtype: torch.dtype) -> None:
    vocabulary = 4 * WORK + 71
    logits = planted(vocabulary, dtype)[[0, 6, 7]]
    sums = torch.empty(4, len(logits))
    for start in range(0, vocabulary, 2 * WORK):
        # A tile of the projection is contiguous.
        update_sums(logits[:, start : start + 2 * WORK].contiguous(), sums, start == 0, 1.0)
    check(finish(sums, 1.0), None, logits, torch.zeros(len(logits), dtype=torch.long))


def test_a_tile_of_impossible_tokens_changes_nothing() -> None:
    logits = torch.randn(3, 90, generator=torch.Generator().manual_seed(0))
    for row in range(3):
        logits[row, 30 * row : 30 * row + 30] = -math.inf
    sums = torch.empty(4, 3)
    for start in (0, 30, 60):
        update_sums(logits[:, start : start + 30], sums, start == 0, 1.0)
    check(finish(sums, 1.0), None, logits, torch.zeros(3, dtype=torch.long))


def test_tiles_without_varentropy() -> None:
    logits = planted(100, torch.float16)
    sums = torch.empty(4, len(logits))
    for start in (0, 50):
        update_sums(logits[:, start : start + 50], sums, start == 0, 1.0, varentropy=False)
    found = finish(sums, 1.0)
    oracle = expected(logits, torch.zeros(len(logits), dtype=torch.long))
    assert torch.isnan(found[1]).all()
    for row in (0, 2, 3):
        np.testing.assert_allclose(found[row], oracle[FIELDS[row]], rtol=3e-6, atol=1e-5)
