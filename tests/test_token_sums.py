"""What the token sums in C++ promise beyond the right numbers: accuracy, memory, strides, threads, size."""

import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

import euds
from euds import _core
from euds.kernels import token_stats_cpp
from euds.reference import entropy as reference

ROOT = Path(__file__).parents[1]
DTYPES = list(token_stats_cpp.DTYPES)


@pytest.fixture(autouse=True, params=_core.usable_isas())
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name = str(request.param)
    monkeypatch.setattr(token_stats_cpp, "ISA", name)
    torch.manual_seed(0)
    return name


def numbers(logits: torch.Tensor) -> np.ndarray:
    """The (4, ...) results of the back end in C++."""
    found = euds.token_stats(logits, backend="cpp")
    assert found.varentropy is not None
    return torch.stack([found.entropy, found.varentropy, found.logsumexp, found.max_prob]).numpy()


def test_the_plain_build_is_always_there() -> None:
    assert _core.usable_isas()[-1] == "plain"


@pytest.mark.parametrize("vocabulary", [1000, 50257, 151936])
def test_entropy_of_ordinary_rows_is_within_a_float32_rounding(vocabulary: int) -> None:
    logits = 3 * torch.randn(12, vocabulary, generator=torch.Generator().manual_seed(vocabulary))
    rows = [reference.token_stats(row.double().numpy()) for row in logits]
    entropy, varentropy, logsumexp, max_prob = numbers(logits)
    assert np.abs(entropy - [row["entropy"] for row in rows]).max() <= 1.4e-6
    np.testing.assert_allclose(varentropy, [row["varentropy"] for row in rows], rtol=5e-6)
    np.testing.assert_allclose(logsumexp, [row["logsumexp"] for row in rows], rtol=2e-7)
    np.testing.assert_allclose(max_prob, [row["max_prob"] for row in rows], rtol=1e-6)


@pytest.mark.parametrize("vocabulary", [32001, 151936])
@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_equal_logits_are_not_rounded_the_same_way_each(vocabulary: int, dtype: torch.dtype) -> None:
    # In a row with one likely token the others hold half of the entropy, or more.
    below = torch.arange(8, 14, 0.237)
    logits = (-below[:, None]).repeat(1, vocabulary).to(dtype)
    logits[:, 0] = 0
    rows = [reference.token_stats(row.double().numpy()) for row in logits]
    entropy, varentropy, _, _ = numbers(logits)
    # The common error of an exponential is 1.6e-6 of it; 128 additions in a row made it 1.8e-5.
    assert np.abs(entropy - [row["entropy"] for row in rows]).max() <= 5e-6
    np.testing.assert_allclose(varentropy, [row["varentropy"] for row in rows], rtol=1.5e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vocabulary", [1, 7, 31, 33, 4096, 4099])
def test_nothing_outside_a_row_is_read(vocabulary: int, dtype: torch.dtype) -> None:
    for offset in range(1, 4):
        buffer = torch.full((3, vocabulary + 5), math.nan, dtype=dtype)
        logits = buffer.as_strided((3, vocabulary), (vocabulary + 5, 1), offset)
        logits.copy_(torch.randn(3, vocabulary))
        assert np.isfinite(numbers(logits)).all()
        np.testing.assert_array_equal(numbers(logits), numbers(logits.clone()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_strides_give_the_numbers_of_a_copy(dtype: torch.dtype) -> None:
    logits = torch.randn(4, 6, 5, 77).to(dtype)
    row = torch.randn(77).to(dtype)
    for view in (
        logits[:, :-1],
        logits[:, 1:, ::2],
        logits[:, :, 0, 1:],
        logits.transpose(0, 1),
        logits.permute(2, 1, 0, 3)[1:],
        logits[..., ::3],
        logits.transpose(2, 3),
        row.expand(3, 4, 77),
        row[:, None, None],
    ):
        np.testing.assert_array_equal(numbers(view), numbers(view.contiguous()))


def test_a_shifted_window_of_a_batch_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = torch.randn(3, 9, 50)
    seen = []
    add = _core.add_logits

    def spy(logits: np.ndarray, *rest: object) -> None:
        seen.append(np.shares_memory(logits, batch.numpy()))
        add(logits, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(_core, "add_logits", spy)
    for view in (
        batch,
        batch[:, :-1],
        batch[:, 1:, :17],
        batch.view(3, 3, 3, 50)[:, :, 1:].transpose(0, 1)[0],
        batch[0],
    ):
        euds.token_stats(view, backend="cpp")
    assert seen == [True] * 5


@pytest.mark.parametrize("shape", [(1, 300_001), (2, 300_001), (700, 1003)])
def test_results_depend_neither_on_the_run_nor_on_the_threads(shape: tuple[int, int]) -> None:
    logits = 4 * torch.randn(shape)
    logits[0, :40_000] -= 100
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3, 8, 8):
            torch.set_num_threads(threads)
            found.append(numbers(logits))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("at", [0, 4095, 4096, 40_000, 70_000])
def test_one_bad_logit_anywhere_makes_its_row_nan(at: int, value: float) -> None:
    logits = torch.zeros(3, 70_001)
    logits[1, at] = value
    assert np.isnan(numbers(logits)).all(0).tolist() == [False, True, False]
    logits[1] = -math.inf
    logits[1, at] = value
    assert np.isnan(numbers(logits)).all(0).tolist() == [False, True, False]


def test_long_runs_of_impossible_tokens_change_nothing() -> None:
    row = torch.full((100_000,), -math.inf)
    row[50_000:50_100] = torch.randn(100)
    np.testing.assert_allclose(numbers(row), numbers(row[50_000:50_100]), rtol=1e-6)
    row[50_001:] = -math.inf
    entropy, varentropy, logsumexp, max_prob = numbers(row)
    assert (entropy, varentropy, max_prob) == (0.0, 0.0, 1.0)
    assert logsumexp == row[50_000]


def test_sums_carry_over_tiles() -> None:
    logits = 5 * torch.randn(4, 9001)
    logits[2, 5000:] += 300
    sums = token_stats_cpp.empty_sums(4)
    for start in range(0, 9001, 1111):
        token_stats_cpp.add_logits(logits[None, :, start : start + 1111], sums, 1.0, True)
    found, logprob = token_stats_cpp.finished(sums, 1.0, logits[:, 7])
    np.testing.assert_allclose(found, numbers(logits), rtol=5e-6)
    torch.testing.assert_close(logprob, torch.log_softmax(logits.double(), -1)[:, 7].float(), rtol=0, atol=1e-5)


def test_the_binding_refuses_what_would_be_misread() -> None:
    logits = np.zeros((1, 2, 3), np.float32)
    sums = token_stats_cpp.empty_sums(2)
    fixed = (1.0, True, 1, "plain")
    for bad, dtype, into, message in (
        (logits[0], "float32", sums, r"shape \(n, m, V\)"),
        (logits[:, :, ::2], "float32", sums, "side by side"),
        (logits, "float32", sums[:1], "one row for each"),
        (logits, "float32", np.zeros((2, 3)), "n x 4"),
        (logits, "bfloat16", sums, "uint16 for"),
        (logits.astype(np.uint16), "float32", sums, "must be float32"),
        (logits.astype(np.uint16), "int16", sums, "one of the three"),
    ):
        with pytest.raises(ValueError, match=message):
            _core.add_logits(bad, dtype, into, *fixed)
    with pytest.raises(ValueError, match="isa"):
        _core.add_logits(logits, "float32", sums, 1.0, True, 1, "sse9")


@pytest.mark.slow
def test_rows_behind_the_two_billionth_logit(isa: str) -> None:
    if isa != _core.usable_isas()[0]:
        pytest.skip("once is enough")
    vocabulary = 151_936
    n_rows = 2**31 // vocabulary + 3
    if psutil.virtual_memory().available < 2.5 * n_rows * vocabulary:
        pytest.skip("needs 5.4 GB of memory")
    last = 3 * torch.randn(3, vocabulary)
    logits = torch.zeros(n_rows, vocabulary, dtype=torch.bfloat16)
    logits[-3:] = last.bfloat16()
    found = numbers(logits)
    for row in range(-3, 0):
        oracle = reference.token_stats(logits[row].double().numpy())
        assert found[0, row] == pytest.approx(oracle["entropy"], abs=1.4e-6)
    np.testing.assert_allclose(found[0, :-3], math.log(vocabulary), rtol=1e-6)


@pytest.mark.slow
def test_cpp_tests_pass_under_the_address_sanitizer(isa: str, tmp_path: Path) -> None:
    if isa != _core.usable_isas()[0]:
        pytest.skip("one program runs every instruction set")
    cmake, ctest = shutil.which("cmake"), shutil.which("ctest")
    if cmake is None or ctest is None:
        pytest.skip("needs CMake")
    for command in (
        [cmake, "-S", str(ROOT), "-B", str(tmp_path), "-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DEUDS_CPP_TESTS=ON"],
        [cmake, "--build", str(tmp_path), "--parallel", "2"],
        [ctest, "--test-dir", str(tmp_path), "--output-on-failure"],
    ):
        finished = subprocess.run(command, capture_output=True, text=True)
        assert finished.returncode == 0, finished.stdout + finished.stderr
