"""Histograms and their edges against NumPy and fractions, in chunks, merged, with planted nasty values."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from euds.errors import InvalidArgument
from euds.ops.histogram import Histogram, equal_mass_edges, equal_width_edges
from euds.ops.keep import tie_hash
from euds.ops.quantiles import EqualMassEdges
from euds.reference.search import equal_mass_bins
from euds.types import Float64Array

NASTY = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 0.5, np.nextafter(1.0, 2.0), -1e300, 5e-324]


def nasty_values(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Values around 0..1, many of them on edges, some of them no numbers."""
    values = np.round(rng.uniform(-0.1, 1.1, (n, d)), int(rng.integers(1, 4)))
    planted = rng.random((n, d)) < 0.1
    values[planted] = rng.choice(NASTY, int(planted.sum()))
    return values


@pytest.mark.parametrize("d", [1, 2, 3])
def test_counts_and_utilities_equal_numpy_and_fractions(d: int) -> None:
    rng = np.random.default_rng(d)
    for _ in range(60):
        edges = [np.unique(rng.choice(21, int(rng.integers(2, 6)), replace=False)) / 20 for _ in range(d)]
        values = nasty_values(rng, 97, d)
        utility = rng.normal(size=97) * 10.0 ** rng.integers(-3, 9, 97)
        histogram = Histogram(edges, utilities=True)
        histogram.add(values, utility)
        finite = np.isfinite(values).all(1)
        assert histogram.counts.tolist() == np.histogramdd(values[finite], edges)[0].astype(int).tolist()
        assert histogram.n_nan == np.isnan(values).any(1).sum()
        assert histogram.n_infinite == (~finite).sum() - histogram.n_nan
        assert histogram.n_counted + histogram.n_left_out == 97
        sums = [Fraction(0)] * histogram.counts.size
        for row in np.flatnonzero(finite):
            places = [np.histogram(values[row, axis], edges[axis])[0] for axis in range(d)]
            if all(place.any() for place in places):
                cell = np.ravel_multi_index([int(place.argmax()) for place in places], histogram.counts.shape)
                sums[cell] += Fraction(round(Fraction(utility[row]) * 2**60), 2**60)
        assert histogram.utilities is not None
        assert histogram.utilities.ravel().tolist() == [float(value) for value in sums]


EDGES = {
    "uniform": equal_width_edges(0.0, 1.0, 64),
    "one bin": np.array([0.0, 1.0]),
    "many bins": equal_width_edges(-3.0, 3.0, 5000),
    "far away": equal_width_edges(-1e6, -1e6 + 1, 512),
    "thirds": equal_width_edges(1.0, 2.0, 3),
    "almost uniform": np.arange(101) + 1e-7 * np.sin(np.arange(101)),
    "not uniform": np.cumsum(1 / np.arange(1, 40)),
    "subnormal": np.array([0.0, 5e-324, 1e-323]),
    "all floats": np.array([-1.7e308, 0.0, 1.7e308]),
    "no floats of single precision": 0.1 + 0.7 * equal_width_edges(0.0, 1.0, 33) ** 1.5,
    "heavy tails": np.sort(np.random.default_rng(1).standard_cauchy(300)),
    "one crowded place": np.concatenate([[-1e6], 1 + 1e-4 * np.arange(200), [1e6]]),
    "more than can have cells": np.sort(np.random.default_rng(2).random(40_000)),
    "as many as fit into registers": np.sort(np.random.default_rng(3).normal(size=65)),
    "beyond single precision": np.array([-1e300, -1e39, 0.0, 1e-50, 1e39, 1e300]),
}


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_of_one_axis_fall_where_the_edges_say(name: str, dtype: type[np.floating]) -> None:
    edges = EDGES[name]
    rng = np.random.default_rng(0)
    low, high = max(edges[0], -1e300), min(edges[-1], 1e300)
    with np.errstate(over="ignore"):
        near = edges.astype(dtype)
        planted = [near, np.nextafter(near, dtype(np.inf)), np.nextafter(near, dtype(-np.inf)), np.array(NASTY, dtype)]
        inside = (low + (high - low) * rng.uniform(-0.1, 1.1, 300_001)).astype(dtype)
    values = rng.permutation(np.concatenate([*planted, inside]))
    wide = values.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    held = finite[(finite >= edges[0]) & (finite <= edges[-1])]
    places = np.minimum(np.searchsorted(edges, held, side="right") - 1, len(edges) - 2)
    for n_threads in (1, 3):
        histogram = Histogram(edges)
        histogram.add(values, n_threads=n_threads)
        assert histogram.counts.tolist() == np.bincount(places, minlength=len(edges) - 1).tolist()
        assert histogram.n_nan == np.isnan(wide).sum()
        assert histogram.n_infinite == np.isinf(wide).sum()
        assert histogram.n_outside == len(finite) - len(held)


@pytest.mark.parametrize("n", [0, 1, 3, 7, 15, 16, 17, 511, 512, 513, 1041])
@pytest.mark.parametrize("name", ["uniform", "not uniform"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_length_and_layout_counts_alike(n: int, name: str, dtype: type[np.floating]) -> None:
    edges = EDGES[name]
    values = (edges[-1] * np.random.default_rng(n).uniform(-0.1, 1.1, n)).astype(dtype)
    expected = np.histogram(values.astype(np.float64), edges)[0].tolist()
    wide = np.repeat(values, 3)
    unaligned = np.frombuffer(b"x" + values.tobytes(), dtype, offset=1)
    swapped = values.astype(values.dtype.newbyteorder())
    for layout in (values, values[::-1], wide[::3], wide[1::3], unaligned, swapped, values[:, None], values.tolist()):
        histogram = Histogram(edges)
        histogram.add(layout)
        assert histogram.counts.tolist() == expected


@given(
    st.lists(st.floats(-10.0, 10.0) | st.integers(-10, 10), min_size=2, max_size=66, unique=True),
    st.sampled_from([np.float32, np.float64]),
    st.lists(st.tuples(st.integers(0, 65), st.integers(-2, 2)), min_size=1, max_size=40),
    st.integers(1, 60),
)
@settings(max_examples=200, deadline=None)
def test_values_at_edges_and_next_to_them_fall_where_the_edges_say(
    edges: list[float], dtype: type[np.floating], places: list[tuple[int, int]], repeats: int
) -> None:
    ascending = np.unique(np.array(edges, np.float64))
    if len(ascending) < 2:  # 0.0 and -0.0
        return
    values = []
    for edge, steps in places:
        value = dtype(ascending[edge % len(ascending)])
        for _ in range(abs(steps)):
            value = np.nextafter(value, dtype(np.copysign(np.inf, steps)))
        values.append(value)
    many = np.array(values * repeats, dtype)
    histogram = Histogram(ascending)
    histogram.add(many)
    assert histogram.counts.tolist() == np.histogram(many.astype(np.float64), ascending)[0].tolist()
    assert histogram.n_outside == len(many) - histogram.n_counted


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 60), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_merged_parts_equal_the_whole(seed: int, sizes: list[int]) -> None:
    rng = np.random.default_rng(seed)
    values = nasty_values(rng, sum(sizes), 2)
    utility = rng.normal(size=len(values)) * 10.0 ** rng.integers(-9, 9, len(values))
    edges = [equal_width_edges(0.0, 1.0, 7), equal_width_edges(0.0, 1.0, 3)]
    whole, merged = Histogram(edges, utilities=True), Histogram(edges, utilities=True)
    whole.add(values, utility)
    order = rng.permutation(len(values))
    for places in np.split(order, np.cumsum(sizes)[:-1]):
        part = Histogram(edges, utilities=True)
        half = len(places) // 2
        part.add(values[places[:half]], utility[places[:half]])
        part.add(values[places[half:]], utility[places[half:]])
        merged.merge(part)
    assert merged.utilities is not None
    assert whole.utilities is not None
    assert merged.counts.tolist() == whole.counts.tolist()
    assert merged.utilities.tolist() == whole.utilities.tolist()
    assert repr(merged) == repr(whole)
    assert (merged.n_nan, merged.n_infinite, merged.n_outside) == (whole.n_nan, whole.n_infinite, whole.n_outside)


@given(st.lists(st.sampled_from([-2.5, 0.0, 1.0, 1.5, 7.0, 1e300]), min_size=1, max_size=30), st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_equal_mass_edges_make_the_bins_of_the_mid_ranks(values: list[float], bins: int) -> None:
    edges = equal_mass_edges([*values, np.nan, np.inf], bins)
    histogram = Histogram(edges)
    histogram.add(values)
    codes = equal_mass_bins(values, bins)
    assert histogram.counts.tolist() == np.bincount(codes).tolist()
    for value, code in zip(values, codes, strict=True):
        assert np.searchsorted(edges, value, "right") - 1 in (code, len(edges) - 1)


def test_the_largest_float_has_no_bin_of_its_own() -> None:
    largest = float(np.finfo(np.float64).max)
    assert equal_mass_edges([1.0, largest], 1).tolist() == [1.0, largest]
    with pytest.raises(InvalidArgument, match="values: no edge lies above"):
        equal_mass_edges([1.0, largest], 2)


def test_equal_widths_are_equal() -> None:
    assert equal_width_edges(-1.0, 1.0, 4).tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert np.isfinite(equal_width_edges(-1.7e308, 1.7e308, 3)).all()
    with pytest.raises(InvalidArgument, match="narrower than floats"):
        equal_width_edges(1.0, 1.0 + 1e-15, 100)
    for low, high in ((1.0, 1.0), (0.0, np.inf), (np.nan, 1.0)):
        with pytest.raises(InvalidArgument, match="low: must be below high, and both finite"):
            equal_width_edges(low, high, 2)
    with pytest.raises(InvalidArgument, match="high: must be a number, got '1'"):
        equal_width_edges(0.0, "1", 2)  # type: ignore[arg-type]  # Wrong on purpose.


@pytest.mark.parametrize(
    "edges",
    [lambda bins: equal_width_edges(0.0, 1.0, bins), lambda bins: equal_mass_edges([1.0, 2.0, 3.0], bins)],
)
def test_bins_are_whole_numbers_of_any_kind(edges: Callable[[Any], Float64Array]) -> None:
    assert edges(np.int64(3)).tolist() == edges(3).tolist()
    for bins, message in ((2.5, "an integer, got 2.5"), (True, "an integer, got True"), (0, "at least 1, got 0")):
        with pytest.raises(InvalidArgument, match=f"bins: must be {message}"):
            edges(bins)


@pytest.mark.parametrize(
    "edges", [[0.0], [], 3.0, [1.0, 1.0], [2.0, 1.0], [0.0, np.inf], [0.0, np.nan], [[0.0, 1.0]] * 4, [["a", "b"]]]
)
def test_impossible_edges_are_refused(edges: list[float]) -> None:
    with pytest.raises(InvalidArgument, match="edges"):
        Histogram(edges)


def test_impossible_rows_are_refused_and_leave_the_histogram_as_it_was() -> None:
    plain, worth = Histogram([0.0, 1.0]), Histogram([0.0, 1.0], utilities=True)
    for histogram, values, utility, message in (
        (plain, [[0.5, 0.5]], None, "values: must have shape"),
        (plain, ["a"], None, "values: must be real numbers"),
        (plain, [0.5], [1.0], "utilities=True"),
        (worth, [0.5], None, "utility: the histogram keeps"),
        (worth, [0.5], [np.nan], "utility: must be 1 finite"),
        (worth, [0.5], [1e10], r"utility: must be in -2\^30"),
        (worth, [0.5], [1.0, 2.0], "utility: must be 1 finite"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            histogram.add(values, utility)
    for other in (worth, Histogram([0.0, 2.0]), Histogram([[0.0, 1.0], [0.0, 1.0]])):
        with pytest.raises(InvalidArgument, match="different edges"):
            plain.merge(other)
    assert plain.n_counted == worth.n_counted == plain.n_left_out == worth.n_left_out == 0
    assert (plain.utilities, worth.utilities is not None) == (None, True)


def test_edges_of_chunks_are_exact_while_they_fit() -> None:
    rng = np.random.default_rng(5)
    values = nasty_values(rng, 1000, 1)[:, 0]
    first, second = EqualMassEdges(), EqualMassEdges()
    for chunk in np.split(values, [10, 10, 500]):
        first.add(chunk)
    second.add(values[:3])
    second.merge(first)
    assert first.edges(16).tolist() == equal_mass_edges(values, 16).tolist()
    assert second.edges(16).tolist() == equal_mass_edges(np.append(values, values[:3]), 16).tolist()
    assert first.n_left_out == (~np.isfinite(values)).sum()
    assert second.n_left_out == first.n_left_out + (~np.isfinite(values[:3])).sum() > 0
    assert first.rank_error == 0.0
    with pytest.raises(InvalidArgument, match="none is finite"):
        EqualMassEdges().edges(4)
    with pytest.raises(InvalidArgument, match="bins: must be at least 1"):
        first.edges(0)
    with pytest.raises(InvalidArgument, match=r"bins: must be an integer, got 2\.5"):
        first.edges(2.5)  # type: ignore[arg-type]  # Wrong on purpose.
    with pytest.raises(InvalidArgument, match="seed: must be"):
        EqualMassEdges(seed=2.5)  # type: ignore[arg-type]  # Wrong on purpose.
    for ids in ([1, 2], [0.5]):
        with pytest.raises(InvalidArgument, match=r"ids: must be (1|a flat array of) integers, got"):
            first.add([1.0], ids)
    for unlike in (EqualMassEdges(limit=5), EqualMassEdges(seed=1)):
        with pytest.raises(InvalidArgument, match=r"other: has limit \d+ and seed \d; must be 16777216 and 0"):
            first.merge(unlike)
    for limit in (0, "5"):
        with pytest.raises(InvalidArgument, match=f"limit: must be .* got {limit!r}"):
            EqualMassEdges(limit=limit)  # type: ignore[arg-type]  # Wrong on purpose.


def test_edges_of_several_axes_may_come_one_by_one() -> None:
    axes = [[0.0, 1.0, 2.0], [0.0, 5.0]]
    for edges in (axes, iter(axes), (np.array(own) for own in axes)):
        assert Histogram(edges).counts.shape == (2, 1)  # type: ignore[arg-type]  # What users have.
    assert Histogram(iter(axes[0])).counts.shape == (2,)  # type: ignore[arg-type]  # What users have.


@given(seed=st.integers(0, 99), cuts=st.lists(st.integers(0, 6000), max_size=5))
@settings(max_examples=30)
def test_a_sample_depends_on_the_seed_and_not_on_the_parts(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(6)
    values, ids = np.round(rng.normal(size=6000), 3), rng.permutation(6000)
    whole = EqualMassEdges(limit=500, seed=seed)
    whole.add(values, ids)
    merged = EqualMassEdges(limit=500, seed=seed)
    order = rng.permutation(6000)
    for chunk in np.split(order, sorted(cuts)):
        part = EqualMassEdges(limit=500, seed=seed)
        for piece in np.array_split(chunk, 3):
            part.add(values[piece], ids[piece])
        merged.merge(part)
    drawn = values[np.argsort(tie_hash(ids, seed))[:500]]
    expected = equal_mass_edges(drawn, 20)
    expected[[0, -1]] = values.min(), values.max()
    assert whole.edges(20).tolist() == merged.edges(20).tolist() == expected.tolist()


def test_a_sample_keeps_its_error() -> None:
    rng = np.random.default_rng(6)
    values = np.round(rng.normal(size=60_000), 3)
    ordered = np.sort(values)
    for seed in range(20):
        collected = EqualMassEdges(limit=5000, seed=seed)
        collected.add(values[:5000])
        assert collected.rank_error == 0.0
        for chunk in np.array_split(values[5000:], 7):
            collected.add(chunk)
        assert collected.rank_error == pytest.approx(0.0230, abs=1e-4)
        edges = collected.edges(20)
        # The rank of an edge of a sample is that of its neighbour at most.
        error = collected.rank_error + 1 / 5000
        for at, edge in enumerate(edges[1:-1], 1):
            below, up_to = np.searchsorted(ordered, edge, "left"), np.searchsorted(ordered, edge, "right")
            assert below / len(values) - error <= at / 20 <= up_to / len(values) + error


def test_more_bins_than_ranks_are_one_a_value() -> None:
    values = np.arange(50.0)
    for bins in (100, 10**18, 2**64):
        assert equal_mass_edges(values, bins)[:-1].tolist() == values.tolist()


def test_many_small_chunks_are_held_in_few_arrays() -> None:
    rng = np.random.default_rng(2)
    values = rng.random(3000)
    edges, whole = EqualMassEdges(), EqualMassEdges()
    whole.add(values)
    for value in values:
        edges.add([value])
    assert len(edges._values) < 20
    assert edges.edges(7).tolist() == whole.edges(7).tolist()


def test_ids_of_chunks_are_checked_as_elsewhere() -> None:
    EqualMassEdges().add([], ids=[])
    for ids in ([[1], [1, 2]], [1.5, 2.0], [1], np.ma.array([1, 2], mask=[False, True])):
        with pytest.raises(InvalidArgument, match=r"^ids: must be "):
            EqualMassEdges().add([1.0, 2.0], ids=ids)
