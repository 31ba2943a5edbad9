"""The box search against brute force on thousands of small cases full of ties, for every objective."""

import os
import signal
import threading
import time
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import euds
from euds.errors import InvalidArgument
from euds.ops.box import find_boxes
from euds.ops.keep import split_budget
from euds.reference import search as reference
from euds.types import Box


class Case(NamedTuple):
    """One small problem, as the arguments of `find_boxes`, and each row's bins."""

    arguments: dict[str, object]
    codes: np.ndarray
    groups: list[int]
    needs: dict[int, int]


def random_case(rng: np.random.Generator, d: int, variant: str) -> Case:
    """Scores with few different values, so that most cases have ties, equal axes and fewer rows than bins."""
    n = int(rng.integers(1, 11))
    scores = rng.integers(0, rng.integers(1, 9), size=(n, d)) / rng.choice([1.0, 4.0])
    bins = int(rng.integers(1, 5))
    keep = int(rng.integers(1, n + 1))
    groups = rng.integers(0, 2, n) if "groups" in variant else np.zeros(n, int)
    arguments: dict[str, object] = {"scores": scores, "bins": bins, "keep": keep, "seed": int(rng.integers(100))}
    if "groups" in variant:
        arguments["groups"] = groups
    if "max_keep" in variant:
        arguments["max_keep"] = int(rng.integers(keep, n + 1))
    if "utility" in variant:
        arguments["utility"] = rng.integers(-3, 4, n) / rng.choice([1.0, 8.0])
    arguments["objective"] = next((goal for goal in ("utility", "lift") if goal in variant), "volume")
    codes = np.column_stack([reference.equal_mass_bins(scores[:, axis].tolist(), bins) for axis in range(d)])
    names, sizes = np.unique(groups, return_counts=True)
    needs = dict(zip(names.tolist(), split_budget(keep, sizes.tolist()), strict=True))
    return Case(arguments, codes, groups.tolist(), needs)


def expected_boxes(case: Case, k: int, max_overlap: float) -> list[tuple[tuple[int, ...], tuple[int, ...], int]]:
    """What brute force finds."""
    arguments = case.arguments
    return reference.find_boxes(
        case.codes,
        case.needs,
        case.groups,
        arguments.get("max_keep", len(case.codes)),  # type: ignore[arg-type]  # An int by construction.
        arguments.get("utility"),  # type: ignore[arg-type]  # An array by construction.
        str(arguments["objective"]),
        k,
        max_overlap,
    )


def check_box(found: Box, case: Case, expected: tuple[tuple[int, ...], tuple[int, ...], int]) -> None:
    """The box has the expected bins, and all that is said of it holds."""
    low, high, count = expected
    scores = np.asarray(case.arguments["scores"])
    inside = np.all((case.codes >= low) & (case.codes <= high), axis=1)
    assert found.n_in_region == count == inside.sum()
    assert found.low == tuple(scores[inside].min(0))
    assert found.high == tuple(scores[inside].max(0))
    assert inside[found.indices].all()
    for axis, (below, above) in enumerate(zip(found.low_rank, found.high_rank, strict=True)):
        assert below == (case.codes[:, axis] < low[axis]).mean()
        assert above == (case.codes[:, axis] <= high[axis]).mean()
    assert found.lift == pytest.approx(count / (len(scores) * found.volume))
    if "max_keep" in case.arguments:
        assert found.n_kept == count
    else:
        groups = np.array(case.groups)[found.indices]
        assert [int((groups == name).sum()) for name in case.needs] == list(case.needs.values())


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize(
    "variant",
    ["volume", "lift", "utility"]
    + [
        f"{goal} {limits}"
        for goal in ("volume", "lift", "utility")
        for limits in ("groups", "max_keep", "groups max_keep")
    ],
)
def test_the_best_box_equals_brute_force(d: int, variant: str) -> None:
    rng = np.random.default_rng([d, *variant.encode()])
    for _ in range(120 if d < 3 else 30):
        case = random_case(rng, d, variant)
        expected = expected_boxes(case, 1, 0.5)
        n_threads = int(rng.integers(1, 4))
        if not expected:
            with pytest.raises(InvalidArgument, match="no box of the grid"):
                euds.find_box(**case.arguments, n_threads=n_threads)  # type: ignore[arg-type]  # A mixed bag.
            continue
        found = euds.find_box(**case.arguments, n_threads=n_threads)  # type: ignore[arg-type]  # A mixed bag.
        check_box(found, case, expected[0])


@given(
    st.lists(st.tuples(*[st.sampled_from([0.0, 1.0, 1.5, 9.0])] * 2, st.integers(-2, 2)), min_size=1, max_size=9),
    st.integers(1, 5),
    st.sampled_from(["volume", "lift", "utility"]),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_any_rows_have_the_box_of_brute_force(
    rows: list[tuple[float, float, int]], bins: int, objective: str, data: st.DataObject
) -> None:
    scores, utility = np.array([row[:2] for row in rows]), [float(row[2]) for row in rows]
    keep = data.draw(st.integers(1, len(rows)))
    codes = np.column_stack([reference.equal_mass_bins(scores[:, axis].tolist(), bins) for axis in range(2)])
    groups = [0] * len(rows)
    ((low, high, count),) = reference.find_boxes(codes, {0: keep}, groups, len(rows), utility, objective)
    found = euds.find_box(scores, keep=keep, bins=bins, objective=objective, utility=utility)
    inside = np.all((codes >= low) & (codes <= high), axis=1)
    assert (found.n_in_region, found.n_kept) == (count, keep)
    assert found.low == tuple(scores[inside].min(0))
    assert found.high == tuple(scores[inside].max(0))
    assert found.utility == np.array(utility)[inside].sum()


@pytest.mark.parametrize("variant", ["volume", "lift", "utility", "volume groups", "lift max_keep", "utility max_keep"])
def test_the_best_boxes_that_differ_equal_brute_force(variant: str) -> None:
    rng = np.random.default_rng([7, *variant.encode()])
    n_boxes = 0
    for _ in range(120):
        case = random_case(rng, int(rng.integers(1, 3)), variant)
        k, max_overlap = int(rng.integers(2, 5)), float(rng.choice([0.0, 0.3, 0.5, 0.9]))
        expected = expected_boxes(case, k, max_overlap)
        if not expected:
            continue
        found = find_boxes(k=k, max_overlap=max_overlap, **case.arguments)  # type: ignore[arg-type]  # A mixed bag.
        assert len(found) == len(expected)
        for box, (low, high, count) in zip(found, expected, strict=True):
            check_box(box, case, (low, high, count))
        n_boxes += len(found)
    assert n_boxes > 100


def test_boxes_of_full_overlap_differ_in_their_bounds() -> None:
    found = find_boxes(np.arange(4.0)[:, None], keep=1, k=20, max_overlap=1.0, bins=4)
    assert len(found) == 10
    assert len({(box.low, box.high) for box in found}) == 10


def cells(objective: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
    """A grid of 36 x 34 x 5 cells, larger than the first coarse look, with a pattern and noise."""
    counts = rng.poisson(1.5 + np.sin(np.arange(36))[:, None, None] ** 2, size=(1, 36, 34, 5)).astype(np.int32)
    return counts, rng.integers(-5, 6, size=counts.shape[1:]) if objective == "utility" else None


@pytest.mark.parametrize("objective", ["volume", "lift", "utility"])
@pytest.mark.parametrize("limited", [False, True])
def test_a_grid_above_the_coarse_look_equals_a_plain_scan(objective: str, limited: bool) -> None:
    from euds import _core

    rng = np.random.default_rng([11, len(objective), limited])
    for need in (40, 700, 5000):
        counts, utility = cells(objective, rng)
        most = int(1.02 * need) if limited else int(counts.sum())
        arguments = (counts, utility, np.array([need]), most, objective, 1, 0.5)
        found = [_core.find_boxes(*arguments, n_threads, None) for n_threads in (1, 2, 3)]
        assert found[0] == found[1] == found[2]
        ((low, high, count),) = found[0]
        assert (low, high, count) == plain_scan(counts[0], utility, need, most, objective)


def plain_scan(
    counts: np.ndarray, utility: np.ndarray | None, need: int, most: int, objective: str
) -> tuple[list[int], list[int], int]:
    """Best box by looking at every one, vectorised over the first axis' bounds."""
    masses = [np.concatenate(([0], np.cumsum(counts.sum(tuple({0, 1, 2} - {axis}))))) for axis in range(3)]
    tables = [
        np.pad(table.astype(np.int64).cumsum(0).cumsum(1).cumsum(2), ((1, 0),) * 3)
        for table in (counts, utility)
        if table is not None
    ]
    low0, high0 = np.triu_indices(counts.shape[0] + 1, 1)
    mass0 = masses[0][high0] - masses[0][low0]
    best: tuple[object, ...] | None = None
    for low1, high1 in zip(*np.triu_indices(counts.shape[1] + 1, 1), strict=True):
        rows = [table[high0, high1] - table[low0, high1] - table[high0, low1] + table[low0, low1] for table in tables]
        for low2, high2 in zip(*np.triu_indices(counts.shape[2] + 1, 1), strict=True):
            inside = [row[:, high2] - row[:, low2] for row in rows]
            volume = mass0 * int((masses[1][high1] - masses[1][low1]) * (masses[2][high2] - masses[2][low2]))
            allowed = np.flatnonzero((inside[0] >= need) & (inside[0] <= most))
            for at in shortlist(objective, allowed, inside, volume):
                gain = {
                    "volume": 0,
                    "utility": -int(inside[-1][at]),
                    "lift": -Fraction(int(inside[0][at]), int(volume[at])),
                }
                bounds = ((low0[at], high0[at]), (low1, high1), (low2, high2))
                candidate = (gain[objective], int(volume[at]), -int(inside[0][at]), bounds)
                best = candidate if best is None or candidate < best else best
    assert best is not None
    bounds = best[3]  # type: ignore[assignment]  # The bounds above.
    return [int(low) for low, _ in bounds], [int(high) - 1 for _, high in bounds], -int(best[2])  # type: ignore[call-overload]  # A count.


def shortlist(objective: str, allowed: np.ndarray, inside: list[np.ndarray], volume: np.ndarray) -> np.ndarray:
    """The allowed boxes that a float comparison leaves at the top."""
    if not len(allowed):
        return allowed
    score = {"volume": -volume, "utility": inside[-1], "lift": inside[0] / volume}[objective][allowed]
    top: np.ndarray = allowed[score >= score.max() - 1e-12 * abs(score.max())]
    return top


def test_the_result_does_not_depend_on_the_threads() -> None:
    rng = np.random.default_rng(8)
    scores = np.round(rng.normal(size=(200_000, 3)), 2).astype(np.float32)
    scores[::1000, 1] = np.nan
    utility = rng.normal(size=len(scores))
    for objective in ("volume", "lift", "utility"):
        found = [
            find_boxes(
                scores, keep=0.1, max_keep=0.2, k=2, bins=20, objective=objective, utility=utility, n_threads=n_threads
            )
            for n_threads in (1, 2, 3)
        ]
        for box, two, three in zip(*found, strict=True):
            assert box.low == two.low == three.low
            assert box.high == two.high == three.high
            assert box.utility == two.utility == three.utility
            assert box.indices.tolist() == two.indices.tolist() == three.indices.tolist()


def test_progress_rises_to_at_most_one_and_can_end_the_search() -> None:
    from euds import _core

    counts = np.ones((1, 1, 3000, 3000), np.int32)
    seen: list[float] = []

    def stop(done: float) -> None:
        seen.append(done)
        if len(seen) == 3:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        _core.find_boxes(counts, None, np.array([counts.sum() // 3]), 1 << 40, "volume", 1, 0.5, 2, stop)
    assert seen == sorted(seen)
    assert 0 <= seen[0] <= seen[-1] < 1


def test_a_search_along_one_axis_tells_its_progress_and_ends_when_told() -> None:
    from euds import _core

    # All pairs of bins, in one task: a quarter of a minute.
    counts = np.random.default_rng(0).integers(1, 4, (1, 1, 1, 40_000)).astype(np.int32)
    seen: list[float] = []

    def stop(done: float) -> None:
        seen.append(done)
        # As many come before the search itself.
        if len(seen) > 40_000 // 256 + 10:
            raise LookupError("enough")

    start = time.perf_counter()
    with pytest.raises(LookupError, match="enough"):
        _core.find_boxes(counts, None, np.array([10]), 1 << 40, "lift", 1, 0.5, 2, stop)
    # It would be 1 as soon as the task is begun, and the end would be that of the task.
    assert set(seen) == {0.0}
    assert time.perf_counter() - start < 8


def test_an_interrupt_ends_a_long_search() -> None:
    from euds import _core

    # Ten seconds of search.
    counts = np.random.default_rng(0).integers(0, 3, (1, 200, 200, 200)).astype(np.int32)
    # A process in the background may have been started with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    start = time.perf_counter()
    try:
        with pytest.raises(KeyboardInterrupt):
            _core.find_boxes(counts, None, np.array([counts.sum() // 3]), 1 << 40, "lift", 1, 0.5, 2, None)
    finally:
        signal.signal(signal.SIGINT, before)
    timer.join()
    # Without a look at signals, Python would raise too, at the end of the search.
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k: must be at least 1"),
        ({"k": 2.0}, "k: must be an integer, got 2.0"),
        ({"bins": 8.0}, "bins: must be an integer, got 8.0"),
        ({"bins": np.int16(600)}, "a grid of 600.3 for 1 groups is too large"),
        ({"max_overlap": 1.5}, r"max_overlap: must be in 0\.\.1"),
        ({"max_overlap": np.nan}, r"max_overlap: must be in 0\.\.1"),
        ({"objective": "volum"}, "did you mean 'volume'"),
        ({"objective": "utility"}, "needs a utility of each row"),
        ({"groups": ["a", None, "b", "a"]}, "groups: must be labels of one kind, all given"),
        ({"n_threads": 0}, "n_threads: must be at least 1"),
        ({"scores": np.full((4, 2), np.nan)}, "no row has finite scores"),
        ({"scores": np.zeros((0, 2))}, "no row has finite scores"),
        ({"scores": [[1.0], [np.nan], [2.0]], "keep": 3}, r"count in 1\.\.2"),
        ({"scores": np.broadcast_to(np.float32(0), (1 << 31, 3))}, "rows are more than"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        find_boxes(**({"scores": np.eye(4)[:, :3], "keep": 1, "k": 1} | arguments))  # type: ignore[arg-type]  # Wrong on purpose.


def test_equal_axes_and_few_rows_have_a_box() -> None:
    flat = euds.find_box(np.zeros((50, 3)), keep=0.5)
    assert (flat.n_kept, flat.n_in_region, flat.volume, flat.lift) == (25, 50, 1.0, 1.0)
    assert (flat.low, flat.high, flat.low_rank, flat.high_rank) == ((0.0,) * 3, (0.0,) * 3, (0.0,) * 3, (1.0,) * 3)
    single = euds.find_box([[1.0, 2.0, 3.0]], keep=1.0, bins=64)
    assert (single.low, single.high, single.n_kept) == ((1.0, 2.0, 3.0), (1.0, 2.0, 3.0), 1)
    one_axis_tied = euds.find_box(np.column_stack([np.zeros(9), np.arange(9.0)]), keep=2, bins=64)
    assert (one_axis_tied.n_in_region, one_axis_tied.low, one_axis_tied.high) == (2, (0.0, 0.0), (0.0, 1.0))


def test_a_group_without_finite_rows_gets_no_share() -> None:
    scores = np.array([[0.0], [1.0], [np.nan], [2.0], [3.0]])
    found = euds.find_box(scores, keep=2, groups=["a", "a", "b", "c", "c"])
    assert len(found.indices) == 2
    assert {["a", "a", "b", "c", "c"][row] for row in found.indices} == {"a", "c"}


def test_equal_utilities_are_told_apart_by_volume() -> None:
    rng = np.random.default_rng(9)
    scores = rng.normal(size=(400, 2))
    zero = euds.find_box(scores, keep=40, max_keep=60, bins=16, utility=np.zeros(400))
    plain = euds.find_box(scores, keep=40, max_keep=60, bins=16)
    assert (zero.low, zero.high, zero.utility) == (plain.low, plain.high, 0.0)
    # The smallest difference that a float has.
    tiny = euds.find_box([[0.0], [1.0], [2.0]], keep=1, max_keep=1, bins=3, utility=[1.0, 1.0 + 2.0**-52, 1.0])
    assert tiny.indices.tolist() == [1]
    for scale in (1e-290, 1e300):
        found = euds.find_box([[0.0], [1.0], [2.0]], keep=1, max_keep=2, bins=3, utility=np.array([-1, 2, 3]) * scale)
        assert found.indices.tolist() == [1, 2]


def test_the_utility_of_a_row_that_is_left_out_decides_nothing() -> None:
    rng = np.random.default_rng(0)
    scores, utility = rng.standard_normal((2000, 2)), rng.standard_normal(2000)
    scores[0] = np.nan
    boxes = []
    for filler in (0.0, -1e9, 1e18):
        utility[0] = filler
        boxes.append(euds.find_box(scores, keep=0.1, utility=utility, bins=8).to_json())
    assert boxes[0] == boxes[1] == boxes[2]
