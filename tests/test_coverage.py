"""Coverage and near-duplicates against brute force."""

import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from euds.errors import InvalidArgument
from euds.selection import duplicates
from euds.selection.coverage import equal_budget, equal_shares, facility_location, k_center
from euds.selection.duplicates import near_duplicates
from euds.types import Float32Array, Int64Array


def unit(n: int, width: int, seed: int) -> Float32Array:
    rows = np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)
    found: Float32Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def radius(rows: Float32Array, chosen: Int64Array) -> float:
    return float((1 - rows @ rows[chosen].T).min(1).max())


def coverage(rows: Float32Array, chosen: Int64Array) -> float:
    return float(((1 + rows @ rows[chosen].T) / 2).max(1).sum(dtype=np.float64))


@pytest.mark.parametrize("budget", [1, 2, 3, 9])
def test_k_center_is_within_its_bound_of_the_best(budget: int) -> None:
    for seed in range(20):
        rows = unit(9, 3, seed)
        chosen = k_center(rows, budget, seed=seed)
        assert len(set(chosen.tolist())) == budget
        best = min(radius(rows, np.array(some)) for some in combinations(range(9), budget))
        # Distances 1 - cos are half of squared ones, where the factor two becomes four.
        assert radius(rows, chosen) <= 4 * best + 1e-6


def test_facility_location_is_the_greedy_choice_and_within_its_bound() -> None:
    clear = 0
    for seed in range(20):
        rows = unit(12, 4, seed)
        plain: list[int] = []
        lead = np.inf
        for _ in range(4):
            gains = {at: coverage(rows, np.array([*plain, at])) for at in range(12) if at not in plain}
            best, second = sorted(gains, key=lambda at: -gains[at])[:2]
            lead = min(lead, gains[best] - gains[second])
            plain.append(best)
        chosen = facility_location(rows, 4)
        assert coverage(rows, chosen) >= (1 - 1 / np.e) * max(
            coverage(rows, np.array(some)) for some in combinations(range(12), 4)
        )
        if lead > 1e-4:
            # Equals may go either way.
            clear += 1
            assert chosen.tolist() == sorted(plain)
    assert clear > 5


def test_repeated_rows_are_chosen_last() -> None:
    rows = unit(6, 4, 0)
    pool = np.concatenate([rows, rows[:1].repeat(5, axis=0)])
    for chosen in (k_center(pool, 6, seed=1), facility_location(pool, 6)):
        assert len(np.unique(pool[chosen], axis=0)) == 6
    assert k_center(pool, 11, seed=0).tolist() == facility_location(pool, 11).tolist() == list(range(11))


def test_facility_location_holds_the_similarities_once() -> None:
    rows = unit(1000, 4, 0)
    tracemalloc.start()
    try:
        facility_location(rows, 2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * 4 * 1000**2


def test_k_center_says_how_far_it_is() -> None:
    moved: list[float] = []
    k_center(unit(9, 3, 0), 4, seed=0, advance=moved.append)
    assert moved == [1] * 4


def test_k_center_begins_at_a_row_of_the_seed() -> None:
    rows = np.eye(8, dtype=np.float32)
    assert len({k_center(rows, 1, seed=seed).item() for seed in range(20)}) > 1


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any), st.data())
def test_equal_budgets_are_as_even_as_the_groups_allow(sizes: list[int], data: st.DataObject) -> None:
    budget = data.draw(st.integers(1, sum(sizes)))
    shares = equal_budget(sizes, budget, seed=data.draw(st.integers(0, 3)))
    assert sum(shares) == budget
    assert all(0 <= share <= size for share, size in zip(shares, sizes, strict=True))
    open_shares = [share for share, size in zip(shares, sizes, strict=True) if share < size]
    if open_shares:
        # A group that could give more gives no less than any other, but for one row.
        assert max(shares) - min(open_shares) <= 1


def test_many_groups_share_what_one_at_a_time_would_get() -> None:
    sizes = [1] * 50 + [3] * 20 + [400]
    level, left = 0, 300
    while (gain := sum(size > level for size in sizes)) <= left:
        level, left = level + 1, left - gain
    shares = equal_budget(sizes, 300, seed=0)
    assert [shares[0], shares[50], shares[70]] == [1, 3, level + left] == [1, 3, 190]
    assert equal_budget([0, 2, 5], 7, seed=0) == [0, 2, 5]


def test_which_of_equal_groups_gives_the_odd_row_is_settled_by_the_seed() -> None:
    assert len({tuple(equal_budget([5] * 4, 9, seed=seed)) for seed in range(20)}) == 4


def test_equal_shares_draw_within_groups_by_the_seed() -> None:
    groups = np.array(["a"] * 50 + ["b"] * 3 + ["c"] * 20)
    chosen = equal_shares(groups, 23, seed=0)
    assert [int((groups[chosen] == name).sum()) for name in "abc"] == [10, 3, 10]
    assert equal_shares(groups, 23, seed=0).tolist() == chosen.tolist()
    assert equal_shares(groups, 23, seed=1).tolist() != chosen.tolist()


@pytest.mark.parametrize("budget", [0, 6])
def test_budgets_out_of_range_are_refused(budget: int) -> None:
    rows = unit(5, 2, 0)
    refused = pytest.raises(InvalidArgument, match=r"budget: must be in 1\.\.5")
    with refused:
        k_center(rows, budget, seed=0)
    with refused:
        facility_location(rows, budget)
    with refused:
        equal_shares([0] * 5, budget, seed=0)


def jaccard(one: str, other: str) -> float:
    def runs(text: str) -> set[tuple[str, ...]]:
        words = text.lower().split()
        return {tuple(words[at : at + 3]) for at in range(len(words) - 2)} or {tuple(words)}

    return len(runs(one) & runs(other)) / len(runs(one) | runs(other))


def test_near_duplicates_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abc"), size=int(rng.integers(1, 8)))) for _ in range(300)]
    others = [" ".join(rng.choice(list("abc"), size=int(rng.integers(1, 8)))) for _ in range(40)]
    expected = [at for at, text in enumerate(texts) if any(jaccard(text, other) >= 0.5 for other in others)]
    assert near_duplicates(texts, others).tolist() == expected
    kept: list[str] = []
    repeated = []
    for at, text in enumerate(texts):
        if any(jaccard(text, other) >= 0.5 for other in kept):
            repeated.append(at)
        else:
            kept.append(text)
    assert near_duplicates(texts).tolist() == repeated
    assert near_duplicates(["A b c d", "a B c d e"]).tolist() == [1]
    assert near_duplicates([]).tolist() == near_duplicates(["a"], []).tolist() == []


def test_near_duplicates_are_found_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "BLOCK_ROWS", 4)
    texts = [f"{at} a{at} b{at} c{at}" for at in range(10)]
    texts[6] = texts[9] = texts[1]
    assert near_duplicates(texts).tolist() == [6, 9]
    assert near_duplicates(texts, texts[9:]).tolist() == [1, 6, 9]
