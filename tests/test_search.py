"""Interval and box searches against brute force on thousands of small cases full of ties."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import euds
from euds.errors import InvalidArgument
from euds.ops.keep import parse_keep, split_budget, tie_hash
from euds.ops.ranks import equal_mass_bins
from euds.reference import search as reference


def small_scores(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Scores with few different values, so that most cases have ties."""
    scores: np.ndarray = rng.integers(0, rng.integers(1, 9), size=(n, d)) / rng.choice([1.0, 4.0])
    return scores


def test_densest_interval_equals_brute_force() -> None:
    rng = np.random.default_rng(0)
    for _ in range(3000):
        scores = small_scores(rng, int(rng.integers(1, 13)), 1)[:, 0]
        keep = int(rng.integers(1, len(scores) + 1))
        found = euds.find_interval(scores, keep=keep)
        assert (found.low, found.high) == reference.densest_interval(scores.tolist(), keep)
        assert found.n_kept == keep
        assert found.n_in_region == ((scores >= found.low) & (scores <= found.high)).sum()
        assert ((scores[found.indices] >= found.low) & (scores[found.indices] <= found.high)).all()


@pytest.mark.parametrize("rule", ["low", "middle", "high"])
def test_rank_intervals_equal_brute_force(rule: str) -> None:
    rng = np.random.default_rng(1)
    for seed in range(1000):
        scores = small_scores(rng, int(rng.integers(1, 13)), 1)[:, 0]
        keep = int(rng.integers(1, len(scores) + 1))
        found = euds.find_interval(scores, keep=keep, rule=rule, seed=seed)
        ranks = [float(reference.mid_rank(scores.tolist(), score)) for score in scores]
        key = {"low": ranks, "middle": [abs(rank - 0.5) for rank in ranks], "high": [1 - rank for rank in ranks]}[rule]
        hashes = tie_hash(np.arange(len(scores)), seed)
        expected = sorted(sorted(range(len(scores)), key=lambda at: (key[at], hashes[at]))[:keep])
        assert found.indices.tolist() == expected
        assert found.low_rank == min(rank for rank, k in zip(ranks, key, strict=True) if k <= sorted(key)[keep - 1])


def test_trimming_drops_the_rows_farthest_from_the_centre() -> None:
    scores = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]])
    found = euds.find_box(scores, keep=2, bins=1)
    assert found.n_in_region == 6
    assert found.indices.tolist() == [2, 3]


def test_surplus_at_both_ends_of_a_searched_interval_is_dropped_by_hash() -> None:
    # Both ends are equally far from the centre, however many rows lie there; of 16 rows ranks are exact floats.
    scores = np.array([0.0] * 4 + [1.0] + [2.0] * 2 + [50.0 * 2**at for at in range(9)])
    dropped = []
    for seed in range(20):
        found = euds.find_interval(scores, keep=6, seed=seed)
        assert found.n_in_region == 7
        hashes = tie_hash(np.arange(7), seed)
        hashes[4] = 0
        dropped.append(int(hashes.argmax()))
        assert found.indices.tolist() == [at for at in range(7) if at != dropped[-1]]
    assert min(dropped) < 4 < max(dropped)


def test_ranks_are_those_among_the_finite_scores() -> None:
    found = euds.find_interval([1.0, np.nan, 3.0, np.inf], keep=1.0)
    assert (found.low_rank, found.high_rank) == (0.25, 0.75)


def test_sums_of_equal_utilities_do_not_overflow() -> None:
    n = 1023
    worth = np.full(n, 1.9)
    interval = euds.find_interval(np.arange(n), keep=1, rule="utility", utility=worth, max_keep=1.0)
    assert interval.n_kept == n
    assert euds.find_box(np.arange(n)[:, None], keep=1, bins=8, utility=worth, max_keep=1.0).n_kept == n


def test_earlier_groups_get_the_rows_that_are_left_over() -> None:
    assert split_budget(4, [5, 5, 5]) == [2, 1, 1]
    assert split_budget(1, [3, 3]) == [1, 0]


def test_equal_rows_are_kept_by_a_seeded_hash_of_their_id() -> None:
    scores = np.zeros(1000)
    ids = np.arange(1000) * 7
    first = euds.find_interval(scores, keep=100, ids=ids, seed=1)
    again = euds.find_interval(scores, keep=100, ids=ids, seed=1)
    other = euds.find_interval(scores, keep=100, ids=ids, seed=2)
    assert first.indices.tolist() == again.indices.tolist()
    overlap = len(set(first.indices.tolist()) & set(other.indices.tolist()))
    assert overlap < 30
    # The same ids in another order keep the same ids.
    order = np.random.default_rng(0).permutation(1000)
    shuffled = euds.find_interval(scores, keep=100, ids=ids[order], seed=1)
    assert sorted(ids[order][shuffled.indices]) == ids[first.indices].tolist()


def test_agreeing_axes_have_a_lift_and_independent_ones_have_none() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(20_000, 2))
    agreeing = np.column_stack([noise[:, 0], noise[:, 0] + 0.1 * noise[:, 1]])
    assert euds.find_box(agreeing, keep=0.16).lift > 4
    assert euds.find_box(noise, keep=0.16).lift < 1.2


def test_rows_without_finite_scores_are_never_kept() -> None:
    scores = np.array([0.0, np.nan, 1.0, np.inf, 2.0, -np.inf])
    found = euds.find_interval(scores, keep=1.0)
    assert found.indices.tolist() == [0, 2, 4]
    assert (found.n_scores, found.n_left_out) == (3, 3)
    box = euds.find_box(np.column_stack([scores, np.arange(6.0)]), keep=1.0)
    assert box.indices.tolist() == [0, 2, 4]
    with pytest.raises(InvalidArgument, match="no row has finite scores"):
        euds.find_interval([np.nan, np.inf], keep=1)


@given(
    st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=40),
    st.integers(1, 70),
)
@settings(max_examples=300, deadline=None)
def test_bins_keep_order_and_never_part_equals(values: list[float], bins: int) -> None:
    scores = np.array(values)
    codes, used = equal_mass_bins(scores, bins)
    assert sorted(set(codes.tolist())) == list(range(used))
    assert used <= bins
    order = np.argsort(scores, kind="stable")
    assert (np.diff(codes[order]) >= 0).all()
    for a, b in pairwise(order):
        assert scores[a] != scores[b] or codes[a] == codes[b]


def test_a_full_grid_on_many_rows_matches_its_own_bounds() -> None:
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(50_000, 3))
    found = euds.find_box(scores, keep=0.16)
    inside = ((scores >= found.low) & (scores <= found.high)).all(1)
    assert inside.sum() == found.n_in_region >= found.n_kept == 8000


@pytest.mark.parametrize(
    ("keep", "n", "expected"),
    [
        (0.16, 100, 16),
        (0.07, 100, 7),
        (0.161, 100, 17),
        (1.0, 9, 9),
        (1, 9, 1),
        ("0.5", 9, 5),
        ("3", 9, 3),
        (1e-9, 9, 1),
        (np.float32(0.07), 100, 7),
        (0.07, 10**11, 7 * 10**9),
        (5 / 6, 6, 5),
        (1 - 0.99, 1000, 10),
    ],
)
def test_keep_is_a_fraction_or_a_count(keep: float | str, n: int, expected: int) -> None:
    assert parse_keep(keep, n) == expected


@pytest.mark.parametrize("seed", [0.5, "1", None, 1 << 63])
def test_a_seed_is_an_integer_of_64_bits(seed: object) -> None:
    with pytest.raises(InvalidArgument, match=r"seed: must be an integer"):
        tie_hash(np.arange(3), seed)  # type: ignore[arg-type]  # What users type is of any type.


@pytest.mark.parametrize("keep", [0, -1, 0.0, 1.5, 10, "many", "", float("nan"), True, None, "1.01", [3]])
def test_an_impossible_keep_is_refused(keep: object) -> None:
    with pytest.raises(InvalidArgument, match=r"keep: give a fraction in \(0, 1\] or a count in 1\.\.9"):
        parse_keep(keep, 9)  # type: ignore[arg-type]  # What users type is of any type.


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.data())
@settings(max_examples=200, deadline=None)
def test_budgets_split_in_proportion(sizes: list[int], data: st.DataObject) -> None:
    budget = data.draw(st.integers(1, sum(sizes)))
    shares = split_budget(budget, sizes)
    assert sum(shares) == budget
    assert all(abs(share - budget * size / sum(sizes)) < 1 for share, size in zip(shares, sizes, strict=True))
    assert all(share <= size for share, size in zip(shares, sizes, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": np.zeros((3, 4)), "keep": 1}, "must have shape"),
        ({"scores": np.zeros(3), "keep": 1}, "must have shape"),
        ({"scores": np.zeros((3, 1)), "keep": 1, "bins": 0}, "bins: must be at least 1"),
        ({"scores": np.zeros((3, 3)), "keep": 1, "bins": 2000}, "too large"),
        ({"scores": np.zeros((3, 1)), "keep": 2, "max_keep": 1}, "fewer than"),
        ({"scores": np.zeros((3, 1)), "keep": 1, "utility": [1.0, np.nan, 0.0]}, "utility: must be 3 finite"),
        ({"scores": np.zeros((3, 1)), "keep": 1, "groups": [1]}, "groups: must have shape"),
        ({"scores": np.zeros((3, 1)), "keep": 1, "ids": [1, 2]}, "ids: must be 3 integers"),
        ({"scores": np.array([["a"]]), "keep": 1}, "must be real numbers"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        euds.find_box(**arguments)  # type: ignore[arg-type]  # Wrong on purpose.


def test_an_unknown_rule_suggests_the_nearest() -> None:
    with pytest.raises(InvalidArgument, match="did you mean 'dens"):
        euds.find_interval([1.0], keep=1, rule="dense")


def test_the_extension_checks_what_memory_safety_needs() -> None:
    from euds import _core

    counts = np.ones((1, 1, 1, 2), np.int32)
    needs = np.ones(1, np.int64)
    rest = (2, "volume", 1, 0.5, 1, None)
    assert _core.find_boxes(counts, None, needs, *rest) == [([0, 0, 0], [0, 0, 0], 1)]
    with pytest.raises(ValueError, match="counts: a bin is empty"):
        _core.find_boxes(counts * np.array([0, 1], np.int32), None, needs, *rest)
    with pytest.raises(ValueError, match="counts: must sum to less"):
        _core.find_boxes(counts << 30, None, needs, *rest)
    with pytest.raises(ValueError, match="needs: one must be > 0"):
        _core.find_boxes(counts, None, needs * 0, *rest)
    ranks = np.array([[1, 3]], np.uint32)
    assert _core.count_rows(ranks, 2, 2, None, 1, None, 1.0, 1)[0].tolist() == [[1, 1]]
    with pytest.raises(ValueError, match="ranks: must be below"):
        _core.count_rows(ranks + 1, 2, 2, None, 1, None, 1.0, 1)
    with pytest.raises(ValueError, match="groups: must be in"):
        _core.count_rows(ranks, 2, 2, np.array([0, -1], np.int32), 1, None, 1.0, 1)
    pieces = (np.array([2.0, 1.0]), np.array([2.0, 1.0]), np.ones(2, np.int64), None)
    with pytest.raises(ValueError, match="low: must ascend"):
        _core.find_interval(*pieces, "shortest", 1, 2, 0.0)
    with pytest.raises(TypeError):
        _core.nearest(np.zeros(3, np.float32), np.zeros(3, np.uint64), 1)
