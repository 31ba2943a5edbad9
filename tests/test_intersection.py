"""The intersection with its common quantile against brute force, with ties, nulls and hashes."""

import math
from collections.abc import Callable
from datetime import date

import numpy as np
import pytest

import euds
from euds.errors import InvalidArgument
from euds.ops.keep import split_budget
from euds.reference import search as reference
from euds.types import Box, Intersection, Interval


@pytest.mark.parametrize("d", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [1, 2, 7, 31])
@pytest.mark.parametrize("values", [3, 1000])
def test_it_is_the_smallest_common_quantile(d: int, n: int, values: int) -> None:
    rng = np.random.default_rng(1000 * d + n + values)
    scores = rng.integers(0, values, (n, d)).astype(np.float64)
    mid_ranks = ((scores[:, None] > scores).sum(1) + (scores[:, None] >= scores).sum(1)) / (2 * n)
    for keep in {1, (n + 1) // 2, n}:
        found = euds.find_intersection(scores, keep=keep, seed=3)
        reach, inside = reference.intersection_reach(scores.tolist(), keep)
        assert found.reach == pytest.approx(float(reach), abs=1e-15)
        assert found.n_in_region == len(inside)
        assert found.n_kept == keep
        assert set(found.indices.tolist()) <= set(inside)
        assert found.low == tuple(scores[inside].min(0))
        assert found.high == tuple(scores[inside].max(0))
        assert found.low_rank == pytest.approx(tuple(mid_ranks[inside].min(0)))
        assert found.high_rank == pytest.approx(tuple(mid_ranks[inside].max(0)))


def test_surplus_rows_are_dropped_from_the_edge_and_by_hash() -> None:
    # Mid-ranks 1/8, 1/2, 1/2, 7/8.
    scores = np.array([[0.0], [1.0], [1.0], [2.0], [math.nan], [math.inf]])
    found = euds.find_intersection(scores, keep=3, seed=0)
    assert {1, 2} < set(found.indices.tolist()) < {0, 1, 2, 3}
    assert (found.n_in_region, found.n_scores, found.n_left_out) == (4, 4, 2)
    kept = {tuple(euds.find_intersection(scores, keep=3, seed=seed).indices) for seed in range(20)}
    assert kept == {(0, 1, 2), (1, 2, 3)}
    # The ids decide, wherever their rows stand.
    ids = np.array([70, 71, 72, 73])
    for seed in range(20):
        first, second = (
            set(own[euds.find_intersection(rows, keep=3, seed=seed, ids=own).indices].tolist())
            for rows, own in ((scores[:4], ids), (scores[3::-1], ids[::-1]))
        )
        assert first == second


def test_lift_is_one_when_axes_are_crossed_and_more_when_they_agree() -> None:
    grid = np.array([(a, b) for a in range(21) for b in range(21)], np.float64)
    assert euds.find_intersection(grid, keep=0.2).lift == pytest.approx(1.0)
    agreeing = np.column_stack([np.arange(441.0)] * 2)
    found = euds.find_intersection(agreeing, keep=0.2)
    assert found.lift == pytest.approx(1 / found.volume**0.5)
    again = Intersection.from_json(found.to_json())
    assert again.to_json() == found.to_json()
    assert "of the median" in str(found)


@pytest.mark.parametrize(
    ("scores", "message"),
    [([1.0, 2.0], "shape"), ([[math.nan]], "no row"), ([["a"]], "real numbers"), (np.empty((3, 0)), "shape")],
)
def test_bad_scores_are_named(scores: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        euds.find_intersection(scores, keep=1)  # type: ignore[arg-type]  # Wrong on purpose.


def test_groups_are_searched_one_by_one_with_budgets_in_proportion() -> None:
    rng = np.random.default_rng(0)
    scores = np.round(rng.normal(size=(97, 2)), 1)
    scores[5, 0] = math.nan
    labels = np.array(["b", "a", "c", "a"])[rng.integers(0, 4, 97)]
    ids = rng.permutation(97)
    searches: tuple[Callable[..., Box | Intersection], ...] = (euds.find_intersection, euds.find_box)
    for search in searches:
        found = euds.find_by_group(search, scores, labels, keep=0.3, ids=ids)
        finite = np.isfinite(scores).all(1)
        assert sum(region.n_kept for region in found.values()) == math.ceil(0.3 * 96)
        for label, region in found.items():
            rows = np.flatnonzero((labels == label) & finite)
            alone = search(scores[rows], keep=region.n_kept, ids=ids[rows])
            assert region.indices.tolist() == rows[alone.indices].tolist()
            assert region.low == alone.low
    intervals = euds.find_by_group(euds.find_interval, scores[:, 0], labels, keep=3, rule="low")
    assert list(intervals) == sorted(intervals)
    with pytest.raises(InvalidArgument, match="groups: must have shape"):
        euds.find_by_group(euds.find_box, scores, labels[1:], keep=3)
    for empty in ([], np.zeros((0, 2)), [math.nan]):
        with pytest.raises(InvalidArgument, match="scores: no row has finite scores"):
            euds.find_by_group(euds.find_interval, empty, [0] * len(empty), keep=1)
    for shape in ((), (1, 1, 1)):
        with pytest.raises(InvalidArgument, match=r"scores: must have shape \(n,\) or \(n, d\), got \("):
            euds.find_by_group(euds.find_interval, np.zeros(shape), [0], keep=1)


def test_groups_take_their_own_part_of_what_belongs_to_rows() -> None:
    rng = np.random.default_rng(2)
    scores, utility, expected = rng.normal(size=(3, 90))
    expected[::9] = math.nan
    labels = rng.integers(0, 3, 90)
    searches: list[tuple[Callable[..., Interval | Box], dict[str, object], np.ndarray]] = [
        (euds.find_interval, {"rule": "utility", "utility": utility, "max_keep": 0.9}, scores),
        (euds.find_interval, {"rule": "typical", "expected": expected}, scores),
        (euds.find_box, {"utility": utility, "bins": 8}, scores[:, None]),
    ]
    for search, extra, values in searches:
        found = euds.find_by_group(search, values, labels, keep=0.4, **extra)  # type: ignore[arg-type]  # Of several kinds.
        known = np.isfinite(expected) if "expected" in extra else np.ones(90, bool)
        if "max_keep" not in extra:
            assert sum(region.n_kept for region in found.values()) == 0.4 * known.sum()
        for label, region in found.items():
            rows = np.flatnonzero((labels == label) & known)
            own = {name: value[rows] if isinstance(value, np.ndarray) else value for name, value in extra.items()}
            share = region.n_kept if "max_keep" not in extra else split_budget(36, np.bincount(labels).tolist())[label]
            alone = search(values[rows], keep=share, ids=rows, **own)
            assert region.indices.tolist() == rows[alone.indices].tolist()
            assert region.utility == alone.utility
    # At most so many is no contradiction in a group of fewer.
    limited = euds.find_by_group(euds.find_box, scores[:, None], labels, keep=0.4, bins=8, max_keep=80)
    assert limited.keys() == {0, 1, 2}
    with pytest.raises(
        InvalidArgument, match=r"max_keep: give a fraction in \(0, 1\] or a count of rows from 1, got 0"
    ):
        euds.find_by_group(euds.find_box, scores[:, None], labels, keep=0.4, bins=8, max_keep=0)
    with pytest.raises(InvalidArgument, match=r"utility: must have shape \(90,\), got \(3,\)"):
        euds.find_by_group(euds.find_box, scores[:, None], labels, keep=3, utility=[1.0, 2.0, 3.0])


def test_regions_stand_under_the_times_that_were_given() -> None:
    for unit in ("ns", "D"):
        days = np.array(["2020-01-01"] * 4 + ["2021-01-01"] * 4, f"M8[{unit}]")
        found = euds.find_by_group(euds.find_interval, np.arange(8.0), days, keep=4)
        assert list(found) == (list(np.unique(days)) if unit == "ns" else [date(2020, 1, 1), date(2021, 1, 1)])
