"""The stability of regions against a bootstrap of the rows themselves."""

from collections.abc import Callable

import numpy as np
import pytest

import euds
from euds.errors import InvalidArgument
from euds.ops.stability import quantile_stability
from euds.types import BoolArray, Box, Float64Array, Intersection, Interval, Stability

Find = Callable[[Float64Array], Interval | Box | Intersection]


def bootstrap_of_rows(scores: Float64Array, find: Find, replicates: int) -> tuple[Float64Array, Float64Array, float]:
    """Return low and high bounds (replicates, d) of the regions of resampled rows, and their mean overlap."""
    rng = np.random.default_rng(99)
    own = _inside(scores, find(scores))
    lows, highs, overlaps = [], [], []
    for _ in range(replicates):
        found = find(scores[rng.integers(0, len(scores), len(scores))])
        other = _inside(scores, found)
        lows.append(np.atleast_1d(found.low))
        highs.append(np.atleast_1d(found.high))
        overlaps.append((own & other).sum() / (own | other).sum())
    return np.array(lows), np.array(highs), float(np.mean(overlaps))


def _inside(scores: Float64Array, region: Interval | Box | Intersection) -> BoolArray:
    inside: BoolArray = np.all((scores >= region.low) & (scores <= region.high), axis=1)
    return inside


def interval(rule: str) -> Find:
    return lambda scores: euds.find_interval(scores[:, 0], keep=0.2, rule=rule)


FINDS: dict[str, tuple[int, Find]] = {
    **{rule: (1, interval(rule)) for rule in ("low", "middle", "high", "densest")},
    "box": (2, lambda scores: euds.find_box(scores, keep=0.2)),
    "intersection": (3, lambda scores: euds.find_intersection(scores, keep=0.2)),
}


@pytest.mark.parametrize("d", [1, 2])
def test_fixed_quantiles_move_as_those_of_resampled_rows(d: int) -> None:
    rng = np.random.default_rng(8)
    scores = rng.normal(size=(1501, 1)) + 0.4 * rng.normal(size=(1501, d))
    low, high = np.quantile(scores, 0.3, axis=0), np.quantile(scores, 0.7, axis=0)
    own = np.all((scores >= low) & (scores <= high), axis=1)
    lows, highs, overlaps = [], [], []
    for _ in range(200):
        drawn = scores[rng.integers(0, len(scores), len(scores))]
        lows.append(np.quantile(drawn, 0.3, axis=0))
        highs.append(np.quantile(drawn, 0.7, axis=0))
        other = np.all((scores >= lows[-1]) & (scores <= highs[-1]), axis=1)
        overlaps.append((own & other).sum() / (own | other).sum())
    found = quantile_stability(scores, [(0.3, 0.7)] * d, n_replicates=200, seed=1)
    assert found.overlap == pytest.approx(np.mean(overlaps), abs=0.02)
    for axis, side in enumerate(found.sides):
        for quantiles, bounds in ((side.low, np.array(lows)[:, axis]), (side.high, np.array(highs)[:, axis])):
            assert quantiles == pytest.approx(np.quantile(bounds, [0.05, 0.5, 0.95]), abs=0.06)
        # The pool's own quantiles; bins of 1/64 of the rows for two axes.
        assert side.low_rank[1] == pytest.approx(0.3, abs=0.02)
        assert side.high_rank[1] == pytest.approx(0.7, abs=0.02)
    again = quantile_stability(scores, [(0.3, 0.7)] * d, n_replicates=200, seed=1, n_threads=1)
    assert again == found


def test_a_quantile_between_two_rows_still_has_a_bin() -> None:
    found = quantile_stability(np.array([[1.0], [1.0], [5.0]]), [(0.9, 0.95)], n_replicates=5)
    assert 0 < found.overlap <= 1
    # Their ranks are about 0.33 and 0.83, and the middle of the quantiles lies nearer to the latter.
    two = np.repeat([1.0, 5.0], [2000, 1000])[:, None]
    (side,) = quantile_stability(two, [(0.45, 0.81)], n_replicates=5).sides
    assert side.low == side.high == (5.0, 5.0, 5.0)
    # The lowest tenths of two axes that oppose each other share no row, in any pool.
    falling = np.linspace(0, 1, 1000)
    empty = quantile_stability(np.column_stack([falling, 1 - falling]), [(0, 0.1), (0, 0.1)], n_replicates=3)
    assert (empty.overlap, empty.overlap_quantiles) == (1.0, (1.0, 1.0, 1.0))
    for scores, sides, message in (
        ([[np.nan]], [(0.0, 1.0)], "no row has finite"),
        ([[1.0]], [(0.5, 0.4)], "sides: give an ascending pair"),
        ([[1.0]], [(0.0, 1.0)] * 2, "sides: give an ascending pair"),
        ([1.0], [(0.0, 1.0)], "scores: must have shape"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            quantile_stability(scores, sides)
    with pytest.raises(InvalidArgument, match=r"seed: must be in 0\.\."):
        quantile_stability([[1.0]], [(0.0, 1.0)], seed=-1)
    with pytest.raises(InvalidArgument, match="n_replicates"):
        quantile_stability([[1.0]], [(0.0, 1.0)], n_replicates=0)


def test_the_densest_interval_of_few_values_is_the_one_that_is_found() -> None:
    scores = np.repeat([0.1, 0.5, 0.55], [400, 300, 300])
    found = euds.region_stability(scores, keep=0.35, rule="densest", n_replicates=50)
    own = euds.find_interval(scores, keep=0.35, rule="densest")
    assert (own.low, own.high) == (0.1, 0.1)
    assert found.sides[0].low == (0.1, 0.1, 0.1)
    assert found.sides[0].high == (0.1, 0.1, 0.1)


@pytest.mark.parametrize("rule", FINDS)
def test_the_spread_is_that_of_resampled_rows(rule: str) -> None:
    d, find = FINDS[rule]
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(1501, 1)) + 0.4 * rng.normal(size=(1501, d))
    scores[7] = np.nan
    found = euds.region_stability(scores, keep=0.2, rule=rule, n_replicates=100, seed=1, bins=64 if d > 1 else None)
    lows, highs, overlap = bootstrap_of_rows(scores[np.isfinite(scores).all(1)], find, 100)
    assert found.overlap == pytest.approx(overlap, abs=0.08)
    for axis, side in enumerate(found.sides):
        # Bins of 1/64 of the rows are up to 0.1 wide here, and the bounds of a search jump.
        for quantiles, bounds in ((side.low, lows[:, axis]), (side.high, highs[:, axis])):
            if quantiles[1] in (np.nanmin(scores), np.nanmax(scores)):
                continue  # At the end of the pool the grid has one bound, resampled rows may lack the extreme row.
            assert quantiles[1] == pytest.approx(np.median(bounds), abs=0.25)
            assert quantiles[2] - quantiles[0] == pytest.approx(np.ptp(np.quantile(bounds, [0.05, 0.95])), abs=0.45)
        assert all(0 <= low <= high <= 1 for low, high in zip(side.low_rank, side.high_rank, strict=True))


@pytest.mark.parametrize("rule", ["low", "box"])
def test_a_region_of_all_rows_goes_from_the_first_rank_to_the_last(rule: str) -> None:
    scores = np.random.default_rng(3).normal(size=500)
    (side,) = euds.region_stability(scores, keep=1.0, rule=rule, n_replicates=3, bins=1).sides
    assert (side.low_rank, side.high_rank) == ((0.0,) * 3, (1.0,) * 3)
    assert (side.low[0], side.high[0]) == (scores.min(), scores.max())


def test_a_cluster_is_stable_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    noise = rng.random((3000, 3))
    cluster = np.where(np.arange(3000)[:, None] < 900, 0.4 + 0.02 * rng.random((3000, 3)), noise)
    clear = euds.region_stability(cluster, keep=0.25, rule="box", n_replicates=20)
    vague = euds.region_stability(noise, keep=0.25, rule="box", n_replicates=20)
    assert clear.overlap > 0.85
    assert vague.overlap < 0.6
    assert euds.region_stability(noise, keep=1.0, rule="box", n_replicates=5).overlap == 1.0


def test_it_is_the_same_again_and_after_json() -> None:
    scores = np.round(np.random.default_rng(2).gamma(3, 1, (400, 2)), 1)
    first = euds.region_stability(scores, keep=50, rule="box", n_replicates=9, seed=4, n_threads=1)
    assert first == euds.region_stability(scores, keep=50, rule="box", n_replicates=9, seed=4)
    assert first != euds.region_stability(scores, keep=50, rule="box", n_replicates=9, seed=5)
    assert Stability.from_json(first.to_json()) == first
    assert "over 9 resampled pools" in str(first)
    constant = euds.region_stability(np.ones((30, 2)), keep=3, rule="box", n_replicates=3)
    assert (constant.overlap, constant.sides[0].low) == (1.0, (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "boxx"}, "did you mean 'box'"),
        ({"rule": "low"}, "looks at one axis"),
        ({"n_replicates": 0}, "n_replicates"),
        ({"n_replicates": 2.5}, r"n_replicates: must be an integer, got 2\.5"),
        ({"n_threads": 1.5}, r"n_threads: must be an integer, got 1\.5"),
        ({"n_threads": 0}, "n_threads: must be at least 1, got 0"),
        ({"scores": np.full((3, 2), np.nan)}, "no row"),
        ({"scores": np.ones((3, 4))}, "d = 1..3"),
        ({"bins": 0}, "bins"),
    ],
)
def test_what_is_impossible_is_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        euds.region_stability(**{"scores": np.ones((9, 2)), "keep": 2, "rule": "box", **arguments})  # type: ignore[arg-type]  # Wrong on purpose.
