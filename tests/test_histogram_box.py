"""Boxes from histograms against boxes from the rows, whole and merged from parts, and against brute force."""

from contextlib import nullcontext
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import euds
from euds.errors import InvalidArgument
from euds.ops.histogram import Histogram, equal_mass_edges
from euds.ops.ranks import MAX_ROWS


def merged(
    scores: np.ndarray, edges: list[np.ndarray], utility: np.ndarray | None, rng: np.random.Generator
) -> Histogram:
    """The histogram of the rows, merged from parts in any order."""
    whole = Histogram(edges, utilities=utility is not None)
    for rows in np.array_split(rng.permutation(len(scores)), int(rng.integers(1, 5))):
        part = Histogram(edges, utilities=utility is not None)
        part.add(scores[rows], None if utility is None else utility[rows])
        whole.merge(part)
    return whole


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.sampled_from(["volume", "lift", "utility"]))
@settings(max_examples=150, deadline=None)
def test_the_box_of_merged_parts_is_that_of_the_rows(seed: int, d: int, objective: str) -> None:
    rng = np.random.default_rng(seed)
    n, bins = int(rng.integers(1, 60)), int(rng.integers(1, 7))
    scores = rng.integers(0, rng.integers(1, 20), (n, d)).astype(float)
    utility = rng.integers(-3, 4, n).astype(float) if objective == "utility" else None
    edges = [equal_mass_edges(axis, bins) for axis in scores.T]
    left_out = np.concatenate([scores, np.full((2, d), np.nan)])
    weights = None if utility is None else np.append(utility, [1.0, 1.0])
    keep = int(rng.integers(1, n + 1))
    rows = euds.find_box(scores, keep=keep, bins=bins, objective=objective, utility=utility, max_keep=n)
    found = euds.find_box(merged(left_out, edges, weights, rng), keep=keep, objective=objective, max_keep=n)
    for name in ("low_rank", "high_rank", "n_scores", "n_in_region", "volume", "lift", "utility", "objective"):
        assert getattr(found, name) == getattr(rows, name), name
    assert found.n_left_out == 2
    assert found.indices.tolist() == []
    assert all(
        low <= least and most <= high
        for low, least, most, high in zip(found.low, rows.low, rows.high, found.high, strict=True)
    )
    again = euds.find_box(merged(left_out, edges, weights, rng), keep=keep, objective=objective, n_threads=1)
    assert (again.low, again.high) == (found.low, found.high)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_bins_of_any_width_against_all_boxes(d: int) -> None:
    rng = np.random.default_rng(d)
    for _ in range(30):
        edges = [np.unique(rng.choice(30, int(rng.integers(2, 6)), replace=False)).astype(float) for _ in range(d)]
        histogram = Histogram(edges)
        histogram.add(rng.uniform(0, 30, (40, d)))
        n = histogram.n_counted
        if n == 0:
            continue
        keep = int(rng.integers(1, n + 1))
        found = euds.find_box(histogram, keep=keep)
        best = min(
            (volume, -inside)
            for volume, inside in (describe(histogram, sides, n) for sides in all_sides(histogram))
            if inside >= keep
        )
        assert found.volume == pytest.approx(best[0])
        assert found.n_in_region == -best[1]
        assert found.bins == max(histogram.counts.shape)
        places = [
            slice(int(np.searchsorted(axis, low)), int(np.searchsorted(axis, high)))
            for axis, low, high in zip(edges, found.low, found.high, strict=True)
        ]
        assert histogram.counts[tuple(places)].sum() == found.n_in_region


def all_sides(histogram: Histogram) -> list[tuple[tuple[int, int], ...]]:
    """First bin and the one after the last, of every box."""
    return list(product(*(combinations(range(bins + 1), 2) for bins in histogram.counts.shape)))


def describe(histogram: Histogram, sides: tuple[tuple[int, int], ...], n: int) -> tuple[float, int]:
    """Rank volume and rows of a box."""
    counts = histogram.counts
    shares = [np.moveaxis(counts, axis, 0)[first:end].sum() / n for axis, (first, end) in enumerate(sides)]
    return float(np.prod(shares)), int(counts[tuple(slice(*side) for side in sides)].sum())


def test_an_interval_of_a_histogram_has_the_same_door() -> None:
    histogram = Histogram([0.0, 1.0, 2.0, 4.0])
    histogram.add([0.5, 1.5, 1.6, 3.0])
    found = euds.find_interval(histogram, keep=2, rule="densest")
    assert (found.low, found.high, found.n_in_region) == (1.0, 2.0, 2)


def test_the_typical_set_is_the_low_end_of_the_distances() -> None:
    rng = np.random.default_rng(3)
    nll, expected = rng.normal(size=(2, 500))
    distance = Histogram(equal_mass_edges(np.abs(nll - expected), 500))
    distance.add(np.abs(nll - expected))
    rows = euds.find_interval(nll, keep=100, rule="typical", expected=expected)
    found = euds.find_interval(distance, keep=100, rule="low")
    assert found.n_in_region == rows.n_in_region
    assert found.high > max(-rows.low, rows.high) >= found.low


def test_what_a_histogram_cannot_answer_is_named() -> None:
    plain, empty = Histogram([[0.0, 1.0], [0.0, 1.0]]), Histogram([[0.0, 1.0], [0.0, 1.0]])
    plain.add([[0.5, 0.5], [0.1, 0.2]])
    huge = Histogram([[0.0, 1.0]])
    huge.counts[:] = 1 << 31
    for call, message in (
        (lambda: euds.find_box(empty, keep=1), "no row is in a bin"),
        (lambda: euds.find_box(plain, keep=3), "keep: give a fraction"),
        (lambda: euds.find_box(plain, keep=2, max_keep=1), "max_keep: no box of the histogram holds 2 to 1"),
        (lambda: euds.find_box(plain, keep=1, objective="utility"), "objective: 'utility' needs a utility"),
        (lambda: euds.find_box(plain, keep=1, objective="volum"), "objective: unknown value 'volum'"),
        (lambda: euds.find_box(plain, keep=1, utility=[1.0, 1.0]), "utility: a histogram has no rows"),
        (lambda: euds.find_box(plain, keep=1, groups=[0, 1]), "groups: a histogram has no rows"),
        (lambda: euds.find_interval(huge, keep=1, ids=[1]), "ids: a histogram has no rows"),
        (lambda: euds.find_interval(plain, keep=1), "histogram: must be of one axis"),
        (lambda: euds.find_box(huge, keep=1), "histogram: 2147483648 rows in 1 cells"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            call()


def test_a_histogram_may_have_as_many_rows_and_cells_as_the_search_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    most = Histogram([[0.0, 1.0]])
    most.counts[:] = MAX_ROWS
    assert euds.find_box(most, keep=1).n_in_region == MAX_ROWS == (1 << 31) - 2
    monkeypatch.setattr("euds.ops.histogram_box.MAX_CELLS", 2)
    for bins, refused in ((2, False), (3, True)):
        histogram = Histogram([list(range(bins + 1))])
        histogram.add(np.arange(bins) + 0.5)
        with pytest.raises(InvalidArgument, match="histogram: 3 rows in 3 cells") if refused else nullcontext():
            assert euds.find_box(histogram, keep=1).n_in_region == 1


@pytest.mark.parametrize("worth", [0.1, 1 / 3, 0.7, 2.0**-40])
def test_equal_utilities_tie_as_those_of_the_rows(worth: float) -> None:
    rng = np.random.default_rng(1)
    for _ in range(40):
        scores = rng.random((int(rng.integers(20, 200)), 2))
        utility = np.full(len(scores), worth)
        most: dict[str, Any] = {"keep": 0.2, "max_keep": 0.4}
        rows = euds.find_box(scores, bins=6, utility=utility, **most)
        found = euds.find_box(merged(scores, [equal_mass_edges(axis, 6) for axis in scores.T], utility, rng), **most)
        assert (found.low_rank, found.high_rank) == (rows.low_rank, rows.high_rank)
        own = equal_mass_edges(scores[:, 0], 50)
        interval = euds.find_interval(merged(scores[:, :1], [own], utility, rng), rule="utility", **most)
        # As many rows as may be, of those the lowest bins.
        assert interval.utility == pytest.approx(worth * interval.n_in_region)
        assert interval.n_in_region <= int(0.4 * len(scores)) + 1


def test_utilities_of_which_none_is_a_multiple_still_compare() -> None:
    histogram = Histogram(np.arange(5.0), utilities=True)
    histogram.add(np.arange(4.0) + 0.5, np.array([2.0**30, -(2.0**30), 1 / 3, 0.0]))
    for _ in range(12):
        other = Histogram(np.arange(5.0), utilities=True)
        other.merge(histogram)
        histogram.merge(other)
    sums = histogram.comparable_utilities
    assert sums is not None
    assert int(np.abs(sums).sum()) <= (1 << 60) + 4
    assert sums[0] == -sums[1] > sums[2] > 0 == sums[3]


@pytest.mark.parametrize("edges", [[np.arange(50_000.0)] * 3, [np.arange(3_000_000.0)] * 3])
def test_more_cells_than_memory_has_are_refused(edges: list[np.ndarray]) -> None:
    with pytest.raises(InvalidArgument, match=r"^edges: [\d,]+ cells are more than memory has; take fewer"):
        Histogram(edges)
    with pytest.raises(InvalidArgument, match=r"^bins: 1,000,000,000,000 are more than memory has; take fewer"):
        euds.equal_width_edges(0, 1, 10**12)
