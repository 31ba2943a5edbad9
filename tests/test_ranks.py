"""Ranks and grids in C++ against fractions and NumPy, on ties, signed zeros, extremes and several threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from euds.errors import InvalidArgument
from euds.ops.ranks import mid_ranks, rank_rows
from euds.reference.search import mid_rank

SPECIAL = [0.0, -0.0, 5e-324, -5e-324, 1.7976931348623157e308, -1.7976931348623157e308, 1.0, np.nextafter(1.0, 2.0)]


@given(st.lists(st.one_of(st.sampled_from(SPECIAL), st.floats(allow_nan=False, allow_infinity=False)), max_size=40))
@settings(max_examples=300, deadline=None)
def test_mid_ranks_equal_fractions(values: list[float]) -> None:
    assert mid_ranks(np.array(values, np.float64)).tolist() == [float(mid_rank(values, value)) for value in values]


def doubled_ranks(scores: np.ndarray) -> np.ndarray:
    """2 x below + equal, by sorting the different values."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    doubled: np.ndarray = (2 * (np.cumsum(counts) - counts) + counts)[place]
    return doubled


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 1000, 200_003])
def test_rows_rank_the_same_on_any_number_of_threads(dtype: type[np.floating], n: int) -> None:
    rng = np.random.default_rng(n)
    # One axis of all bits, one of few values, one that is equal throughout.
    scores = np.column_stack([rng.normal(size=n) ** 5, np.round(rng.normal(size=n), 1), np.full(n, -3.0)]).astype(dtype)
    scores[rng.random(n) < 0.1, 0] = np.nan
    scores[rng.random(n) < 0.1, 1] = -np.inf
    kept = np.isfinite(scores).all(1)
    expected = np.zeros((3, n), np.int64)
    for axis in range(3):
        expected[axis, kept] = doubled_ranks(scores[kept, axis])
    for n_threads in (1, 2, 3):
        ranks = rank_rows(scores, n_threads=n_threads)
        assert ranks.n_ranked == kept.sum()
        assert np.array_equal(ranks.doubled, expected)
        assert np.array_equal(ranks.is_ranked(), kept)


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_cells_hold_the_rows_of_their_ranks(n_threads: int) -> None:
    from euds import _core

    rng = np.random.default_rng(3)
    scores = np.round(rng.normal(size=(200_003, 2)), 2)
    scores[5] = np.nan
    ranks = rank_rows(scores)
    groups = rng.integers(0, 3, len(scores)).astype(np.int32)
    utility = rng.integers(-9, 10, len(scores)) / 4.0
    counts, sums = _core.count_rows(ranks.doubled, ranks.n_ranked, 7, groups, 3, utility, 4.0, n_threads)
    codes = 7 * ranks.doubled.astype(np.int64) // (2 * ranks.n_ranked)
    kept = ranks.is_ranked()
    expected = np.zeros((3, 7, 7), np.int64)
    np.add.at(expected, (groups[kept], codes[0, kept], codes[1, kept]), 1)
    worth = np.zeros((7, 7))
    np.add.at(worth, (codes[0, kept], codes[1, kept]), 4.0 * utility[kept])
    assert np.array_equal(counts, expected)
    assert np.array_equal(sums, worth)


def test_more_rows_than_ranks_can_count_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="rows are more than"):
        rank_rows(np.broadcast_to(np.float32(0), ((1 << 31) - 1, 1)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_without_a_finite_one_have_no_rank(dtype: type[np.floating]) -> None:
    # Leaves used memory behind, so that what is not written shows.
    used = [np.full(6000, 7, np.uint32) for _ in range(8)]
    del used
    ranks = rank_rows(np.full((2000, 3), np.nan, dtype))
    assert ranks.n_ranked == 0
    assert not ranks.doubled.any()
    assert not mid_ranks(np.full(6000, np.inf)).any()
