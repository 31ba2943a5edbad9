"""Information entropy against scipy and the float64 reference."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import euds
from euds.errors import InvalidArgument
from euds.kernels.information_numba import PLUGIN, ragged_count_entropy_dense
from euds.ops.information import smoothed_mass, unigram_surprisal
from euds.reference import entropy as reference

# Up to 32 ids take their logarithms from a table, more do not.
Ragged = st.lists(st.lists(st.integers(0, 9), max_size=45), max_size=12)


def ragged(samples: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    ids = np.array([token for sample in samples for token in sample], np.int64)
    return ids, np.cumsum([0, *map(len, samples)])


@given(Ragged)
@settings(max_examples=150, deadline=None)
def test_information_entropy_equals_scipy(samples: list[list[int]]) -> None:
    found = euds.information_entropy(*ragged(samples))
    assert found.shape == (len(samples),)
    for sample, value in zip(samples, found, strict=True):
        oracle = scipy.stats.entropy(np.unique(sample, return_counts=True)[1]) if sample else 0.0
        assert value == pytest.approx(oracle, abs=1e-12)
        assert not math.copysign(1, value) < 0


@pytest.mark.parametrize("estimator", ["plugin", "miller_madow", "chao_shen"])
@given(samples=Ragged)
@settings(max_examples=100, deadline=None)
def test_estimators_equal_the_reference(estimator: str, samples: list[list[int]]) -> None:
    found = euds.information_entropy(*ragged(samples), estimator=estimator)
    oracle = [reference.information_entropy(sample, estimator) for sample in samples]
    np.testing.assert_allclose(found, oracle, atol=1e-12)


@given(samples=Ragged)
@settings(max_examples=50, deadline=None)
def test_every_way_of_counting_gives_the_same(samples: list[list[int]]) -> None:
    ids, offsets = ragged(samples)
    counted = euds.information_entropy(ids, offsets)
    by_sorting = euds.information_entropy(10**12 * (ids - 4), offsets)
    np.testing.assert_allclose(by_sorting, counted, atol=1e-14)
    if len(ids):
        in_pieces = ragged_count_entropy_dense(ids, offsets, 10, 3, PLUGIN)
        np.testing.assert_array_equal(in_pieces, counted)


def test_long_samples_and_all_different_tokens() -> None:
    ids = np.random.default_rng(0).permutation(100_003)
    assert euds.information_entropy(ids, [0, len(ids)])[0] == pytest.approx(math.log(len(ids)))
    # Every token is seen with the chance 1 - (1 - p)^n, p = 1/n^2, which is near 1/n: digits go if it is written so.
    n = len(ids)
    p = 1 / n**2
    seen = 1 / n - p * (n - 1) / (2 * n)
    found = euds.information_entropy(ids, [0, n], estimator="chao_shen")[0]
    assert found == pytest.approx(n * p * math.log(n**2) / seen, rel=1e-9)


@given(Ragged)
@settings(max_examples=100, deadline=None)
def test_surprisal_equals_the_reference(samples: list[list[int]]) -> None:
    ids, offsets = ragged(samples)
    counts = np.bincount(ids, minlength=10)
    found = unigram_surprisal(ids, offsets, counts)
    oracle = [reference.unigram_surprisal(sample, counts.tolist()) for sample in samples]
    used, own = np.unique(np.array(ids, np.int64), return_inverse=True)
    of_some = unigram_surprisal(own.astype(np.int64), offsets, counts[used], mass=smoothed_mass(counts))
    np.testing.assert_array_equal(of_some, found)
    np.testing.assert_allclose(found, oracle, atol=1e-12)


@pytest.mark.parametrize(
    ("ids", "offsets", "message"),
    [
        ([1.5], [0, 1], "token_ids: must be a flat array of integers"),
        ([[1]], [0, 1], "token_ids: must be a flat array"),
        ([1, 2], [0, 1], "offsets: must rise from 0 to 2"),
        ([1, 2], [0, 2, 1, 2], "offsets: must rise"),
        ([1, 2], [], "offsets: must rise"),
        # Differences of these wrap around to rises.
        ([1, 2, 3, 4], [0, 2**63 - 1, -(2**63), -1, 4], "offsets: must rise"),
        ([[1], [1, 2]], [0, 1], "token_ids: must be a flat array"),
    ],
)
def test_bad_ragged_arrays_are_named(ids: list[object], offsets: list[int], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        euds.information_entropy(ids, offsets)  # type: ignore[arg-type]  # Wrong on purpose.


def test_surprisal_refuses_ids_without_a_count() -> None:
    with pytest.raises(InvalidArgument, match=r"must lie in 0\.\.1"):
        unigram_surprisal([0, 2], [0, 2], [1, 1])
