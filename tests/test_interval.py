"""Searches on one axis, from values and from histograms, against brute force."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import euds
from euds.errors import InvalidArgument
from euds.ops.histogram import Histogram
from euds.reference import search as reference
from euds.types import Box, Interval

ROOT = Path(__file__).parents[1]


def tied_scores(rng: np.random.Generator) -> np.ndarray:
    """Few different dyadic scores, so that sums, widths and ratios are exact."""
    scores: np.ndarray = rng.integers(0, rng.integers(1, 12), int(rng.integers(1, 14))) / 4.0
    return scores


def as_pieces(scores: np.ndarray, utility: np.ndarray) -> list[tuple[float, float, int, float]]:
    """The different scores with their rows and utility."""
    counts = Counter(scores.tolist())
    return [(score, score, n, float(utility[scores == score].sum())) for score, n in sorted(counts.items())]


def test_density_and_utility_equal_brute_force() -> None:
    rng = np.random.default_rng(0)
    n_impossible = 0
    for _ in range(3000):
        scores = tied_scores(rng)
        n = len(scores)
        utility = rng.integers(-3, 4, n) / 2.0
        keep = int(rng.integers(1, n + 1))
        most = int(rng.integers(keep, n + 1))
        width = float(rng.choice([0.0, 0.25, 0.5, 1.0, 5.0]))
        pieces = as_pieces(scores, utility)
        first, last = reference.best_interval(pieces, keep, n, "density", width) or (-1, -1)
        found = euds.find_interval(scores, keep=keep, rule="density", min_width=width)
        assert (found.low, found.high) == (pieces[first][0], pieces[last][1])
        assert found.n_kept == keep
        expected = reference.best_interval(pieces, keep, most, "utility")
        if expected is None:
            n_impossible += 1
            with pytest.raises(InvalidArgument, match="no interval holds"):
                euds.find_interval(scores, keep=keep, rule="utility", utility=utility, max_keep=most)
            continue
        found = euds.find_interval(scores, keep=keep, rule="utility", utility=utility, max_keep=most)
        assert (found.low, found.high) == (pieces[expected[0]][0], pieces[expected[1]][1])
        inside = (scores >= found.low) & (scores <= found.high)
        assert found.utility == utility[inside].sum()
        assert found.indices.tolist() == np.flatnonzero(inside).tolist()
    assert 50 < n_impossible < 1500


def test_intervals_of_histograms_equal_brute_force() -> None:
    rng = np.random.default_rng(1)
    for _ in range(1500):
        edges = np.unique(rng.integers(0, 40, int(rng.integers(2, 9)))) / 4.0
        if len(edges) < 2:
            continue
        scores = rng.uniform(edges[0], edges[-1], int(rng.integers(1, 20)))
        utility = rng.integers(-3, 4, len(scores)) / 2.0
        histogram = Histogram(edges, utilities=True)
        histogram.add(scores, utility)
        sums = histogram.utilities
        assert sums is not None
        pieces = list(zip(edges[:-1], edges[1:], histogram.counts.tolist(), sums.tolist(), strict=True))
        keep = int(rng.integers(1, len(scores) + 1))
        for rule, objective in (("densest", "shortest"), ("density", "density"), ("utility", "utility")):
            width = 1.0 if rule == "density" else None
            first, last = reference.best_interval(pieces, keep, len(scores), objective, 1.0) or (-1, -1)
            found = euds.find_interval(histogram, keep=keep, rule=rule, min_width=width)
            assert (found.low, found.high) == (edges[first], edges[last + 1])
            assert found.n_in_region == histogram.counts[first : last + 1].sum() >= keep


@pytest.mark.parametrize("rule", ["low", "middle", "high"])
def test_rank_rules_of_a_fine_histogram_equal_those_of_the_values(rule: str) -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        scores = tied_scores(rng)
        histogram = Histogram(np.arange(13) / 4.0 - 0.125)
        histogram.add(scores)
        keep = int(rng.integers(1, len(scores) + 1))
        found = euds.find_interval(histogram, keep=keep, rule=rule)
        expected = euds.find_interval(scores, keep=keep, rule=rule)
        assert found.n_in_region == expected.n_in_region
        assert (found.low_rank, found.high_rank) == (expected.low_rank, expected.high_rank)
        assert (found.low + 0.125, found.high - 0.125) == (expected.low, expected.high)


def test_typical_keeps_the_scores_nearest_to_what_is_expected() -> None:
    rng = np.random.default_rng(3)
    for seed in range(300):
        scores, expected = tied_scores(rng), 1.0
        keep = int(rng.integers(1, len(scores) + 1))
        found = euds.find_interval(
            scores, keep=keep, rule="typical", expected=np.full(len(scores), expected), seed=seed
        )
        radius = sorted(abs(score - expected) for score in scores.tolist())[keep - 1]
        inside = np.abs(scores - expected) <= radius
        assert found.n_in_region == inside.sum()
        assert (found.low, found.high) == ((scores - expected)[inside].min(), (scores - expected)[inside].max())
        assert inside[found.indices].all()
        assert found.n_kept == keep
    found = euds.find_interval([1.0, 2.0, np.inf], keep=1.0, rule="typical", expected=[np.inf, 2.0, np.inf])
    assert found.indices.tolist() == [1]


def test_nulls_are_left_out_and_counted() -> None:
    for scores in (
        [3.0, None, 1, np.nan],
        np.ma.masked_array([3.0, 0.0, 1.0, 0.0], [False, True, False, True]),
        np.ma.masked_array([3, 0, 1, 0], [False, True, False, True]),
        np.ma.masked_array([3, 0, 1, None], [False, True, False, True], object),
    ):
        found = euds.find_interval(scores, keep=1.0, rule="low")  # type: ignore[arg-type]  # What users have.
        assert (found.indices.tolist(), found.n_scores, found.n_left_out) == ([0, 2], 2, 2)
    box = euds.find_box([[1.0, None], [2.0, 3.0]], keep=1)  # type: ignore[arg-type]  # What users have.
    assert (box.indices.tolist(), box.n_left_out) == ([1], 1)
    with pytest.raises(InvalidArgument, match="scores: must be real numbers"):
        euds.find_interval([1.0, None, "2.0"], keep=1)  # type: ignore[arg-type]  # Wrong on purpose.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "density"}, "min_width: rule 'density' needs it"),
        ({"rule": "density", "min_width": -1.0}, "min_width: must be at least 0"),
        ({"rule": "density", "min_width": np.nan}, "min_width: must be at least 0"),
        ({"rule": "utility"}, "utility: rule 'utility' needs it"),
        ({"rule": "utility", "utility": [1.0, np.nan, 2.0]}, "utility: must be 3 finite"),
        ({"rule": "utility", "utility": [1.0, 2.0, 2.0], "keep": 2, "max_keep": 1}, "fewer than"),
        ({"rule": "typical"}, "expected: rule 'typical' needs it"),
        ({"rule": "typical", "expected": [1.0]}, "expected: must have shape"),
        ({"rule": "low", "max_keep": 2}, "max_keep: rule 'low' has no use"),
        ({"scores": [np.nan, 1.0, 2.0], "keep": 3}, r"count in 1\.\.2"),
        ({"scores": []}, "no row has finite"),
        ({"scores": [[1, 2], [3]]}, "scores: must be real numbers in rows of one length"),
        ({"scores": [10**400, 1, 2]}, "scores: must be real numbers"),
        ({"seed": 2**63}, "seed: must be an integer of 64 bits"),
        ({"scores": np.broadcast_to(np.float32(0), 1 << 31)}, "rows are more than"),
        ({"n_threads": 0}, "n_threads: must be at least 1"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        euds.find_interval(**({"scores": [1.0, 2.0, 3.0], "keep": 1} | arguments))  # type: ignore[arg-type]  # Wrong on purpose.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "typical"}, "rule: unknown value"),
        ({"rule": "density"}, "min_width: rule 'density'"),
        ({"rule": "density", "min_width": "0.5"}, "min_width: must be a number"),
        ({"rule": "low", "min_width": 1.0}, "min_width: rule 'density'"),
        ({"rule": "low", "max_keep": 1}, "max_keep: rule 'low' has no use"),
        ({"rule": "utility"}, "needs one with utilities"),
        ({"keep": 3}, r"count in 1\.\.2"),
        ({"keep": 1, "max_keep": 1}, "no range of bins holds 1 to 1"),
        ({"scores": Histogram([0.0, 1.0])}, "no row is in a bin"),
        ({"scores": Histogram([[0.0, 1.0], [0.0, 1.0]])}, "must be of one axis"),
    ],
)
def test_impossible_arguments_for_a_histogram_are_named(arguments: dict[str, object], message: str) -> None:
    histogram = Histogram([0.0, 1.0, 2.0])
    histogram.add([0.5, 0.5])
    with pytest.raises(InvalidArgument, match=message):
        euds.find_interval(**({"scores": histogram, "keep": 1} | arguments))  # type: ignore[arg-type]  # Wrong on purpose.


def test_results_print_on_a_line_and_survive_json() -> None:
    rng = np.random.default_rng(4)
    scores = rng.normal(size=(5000, 2))
    utility = rng.normal(size=5000)
    interval = euds.find_interval(scores[:, 0], keep=0.5)
    box = euds.find_box(scores, keep=0.2, bins=8, objective="lift", utility=utility)
    for found, kind in ((interval, Interval), (box, Box)):
        assert len(str(found)) < 200
        assert str(found.n_kept) in str(found)
        assert len(repr(found)) < 500
        again = kind.from_json(found.to_json())
        assert again.indices.tolist() == found.indices.tolist()
        assert again.to_json() == found.to_json()
        assert repr(again) == repr(found)
        small = kind.from_json(found.to_json(indices=False))
        assert len(found.to_json(indices=False)) < 500
        assert (repr(small), small.n_kept) == (repr(found), 0)


def test_numpys_numbers_beside_nulls_are_taken() -> None:
    scores = [np.float64(0.1), None, np.float32(0.25), np.int16(3), 0.3]
    found = euds.find_interval(scores, keep=2, rule="low")  # type: ignore[arg-type]  # Nulls become NaN.
    assert found.indices.tolist() == [0, 2]
    assert found.n_left_out == 1
    with pytest.raises(InvalidArgument, match="scores: must be real numbers, got object"):
        euds.find_interval([True, None, 1.0], keep=1)  # type: ignore[arg-type]  # Wrong on purpose.


def test_the_calls_of_the_documentation_run() -> None:
    (calls,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "rules.md").read_text(), re.DOTALL)
    names = dict(
        zip(("scores", "worth", "nll", "entropy"), np.random.default_rng(0).normal(size=(4, 200)), strict=True)
    )
    lines = calls.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert eval(line, {"euds": euds, **names}).n_kept >= 32
