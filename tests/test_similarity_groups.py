"""Groups of generations by the similarity of their embeddings against the definition, by every instruction set."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import euds
from euds import _core
from euds.errors import InvalidArgument
from euds.kernels import grouping_cpp
from euds.ops.grouping import LINKAGES, embedding_groups
from euds.reference import grouping as reference

Sizes = st.lists(st.integers(0, 9), max_size=6)
Seeds = st.integers(0, 2**31)


@pytest.fixture(scope="module", params=_core.usable_isas(), autouse=True)
def isa(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouping_cpp, "ISA", request.param)
        yield


def embedded(sizes: list[int], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings with equal directions, zeros, NaN and infinities, offsets, and which generations are empty."""
    rng = np.random.default_rng(seed)
    total = sum(sizes)
    rows = rng.integers(-1, 2, (total, 3)) * rng.choice([0.25, 3.0, 7.0], (total, 1))
    rows[rng.random(total) < 0.05] = np.nan
    rows[rng.random(total) < 0.05, :1] = -np.inf
    return rows.astype(np.float32), np.cumsum([0, *sizes]), rng.random(total) < 0.15


def oracle_groups(
    rows: np.ndarray, offsets: np.ndarray, empty: np.ndarray, min_similarity: float, linkage: str
) -> list[int]:
    group = reference.by_first_member if linkage == "first_representative" else reference.by_connection
    groups = []
    for start, stop in pairwise(offsets):
        with np.errstate(invalid="ignore"):
            same = reference.similar(rows[start:stop].astype(np.float64), empty[start:stop].tolist(), min_similarity)
            groups += group(int(stop - start), same)
    return groups


@pytest.mark.parametrize("linkage", LINKAGES)
@given(sizes=Sizes, seed=Seeds, min_similarity=st.sampled_from([-1.0, -0.3, 0.0, 0.5, 0.75, 1.0]))
@settings(max_examples=80, deadline=None)
def test_similarity_groups_equal_the_definition(
    linkage: str, sizes: list[int], seed: int, min_similarity: float
) -> None:
    rows, offsets, empty = embedded(sizes, seed)
    found = embedding_groups(rows, offsets, min_similarity=min_similarity, linkage=linkage, empty=empty)
    np.testing.assert_array_equal(found, oracle_groups(rows, offsets, empty, min_similarity, linkage))


@given(Sizes, Seeds)
@settings(max_examples=60, deadline=None)
def test_components_and_their_entropy_do_not_depend_on_the_order(sizes: list[int], seed: int) -> None:
    rows, offsets, empty = embedded(sizes, seed)
    rng = np.random.default_rng(seed)
    order = np.concatenate(
        [np.empty(0, int), *(start + rng.permutation(n) for start, n in zip(offsets, sizes, strict=False))]
    )

    def components(rows: np.ndarray, empty: np.ndarray) -> np.ndarray:
        return embedding_groups(rows, offsets, min_similarity=0.6, linkage="connected_components", empty=empty)

    first, second = components(rows, empty), components(rows[order], empty[order])
    # Named apart in different samples.
    named, named_second = (groups + 10 * np.repeat(np.arange(len(sizes)), sizes) for groups in (first, second))
    np.testing.assert_array_equal(named[order][:, None] == named[order], named_second[:, None] == named_second)
    np.testing.assert_allclose(
        euds.semantic_entropy(first, offsets=offsets), euds.semantic_entropy(second, offsets=offsets), atol=1e-12
    )


def test_linkages_differ_on_a_chain() -> None:
    angles = np.radians([0, 40, 80])
    chain = np.stack([np.cos(angles), np.sin(angles)], 1)
    threshold = math.cos(math.radians(45))
    assert embedding_groups(chain, [0, 3], min_similarity=threshold).tolist() == [0, 0, 1]
    found = embedding_groups(chain, [0, 3], min_similarity=threshold, linkage="connected_components")
    assert found.tolist() == [0, 0, 0]


def test_a_threshold_is_a_similarity_not_a_distance() -> None:
    rows = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]
    assert embedding_groups(rows, [0, 3], min_similarity=0.9).tolist() == [0, 0, 1]
    assert embedding_groups(rows, [0, 3], min_similarity=-1).tolist() == [0, 0, 0]


@pytest.mark.parametrize("linkage", LINKAGES)
def test_planted_groups_are_recovered_at_full_width(linkage: str) -> None:
    rng = np.random.default_rng(0)
    n, size, width = 301, 10, 384
    centres = rng.normal(size=(n, 5, width))
    planted = rng.integers(0, 5, (n, size))
    rows = centres[np.arange(n)[:, None], planted] + 0.2 * rng.normal(size=(n, size, width))
    rows = rows.reshape(-1, width).astype(np.float32)
    offsets = np.arange(0, n * size + 1, size)
    found = embedding_groups(rows, offsets, min_similarity=0.7, linkage=linkage).reshape(n, size)
    np.testing.assert_array_equal(found[:, :, None] == found[:, None], planted[:, :, None] == planted[:, None])
    halves = [
        embedding_groups(part, np.arange(0, len(part) + 1, size), min_similarity=0.7, linkage=linkage)
        for part in (rows[:1500], rows[1500:])
    ]
    np.testing.assert_array_equal(np.concatenate(halves), found.ravel())


def test_empty_generations_are_one_group_and_lost_directions_stand_alone() -> None:
    rows = np.array([[1, 0], [0, 0], [1, 0], [0, 0], [np.nan, 1], [1, 0]], np.float32)
    empty = np.array([False, False, True, False, False, True])
    for linkage in LINKAGES:
        found = embedding_groups(rows, [0, 6], min_similarity=-1, linkage=linkage, empty=empty)
        assert found.tolist() == [0, 1, 2, 3, 4, 2]


def test_any_length_of_float64_embeddings() -> None:
    rows = np.array([[1e300, 0], [1e-300, 0], [0, 1e-320]])
    assert embedding_groups(rows, [0, 3], min_similarity=0.5).tolist() == [0, 0, 1]


@given(st.integers(0, 10_000), st.sampled_from(LINKAGES), st.integers(3, 40))
@settings(deadline=None)
def test_near_misses_are_settled_in_float64(seed: int, linkage: str, width: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((12, width)).astype(np.float32)
    # A threshold that is a cosine of the sample, or differs from one by less than float32 can tell.
    unit = rows.astype(float) / np.linalg.norm(rows.astype(float), axis=1, keepdims=True)
    i, j = rng.choice(12, 2, replace=False)
    least = float(np.clip(unit[i] @ unit[j] + rng.choice([-1e-9, 1e-9]), -1, 1))
    same = reference.similar(rows.astype(float), [False] * 12, least)
    expected = reference.by_first_member(12, same) if linkage == LINKAGES[0] else reference.by_connection(12, same)
    assert embedding_groups(rows, [0, 12], min_similarity=least, linkage=linkage).tolist() == expected


def test_lengths_that_overflow_or_vanish_in_float32_do_not_matter() -> None:
    directions = np.array([[1, 0.1], [1, 0.2], [-1, 3], [-1, 3.1]], np.float32)
    lengths = np.array([3e37, 1e-30, 1e30, 1e-20], np.float32)[:, None]
    for linkage in LINKAGES:
        plain = embedding_groups(directions, [0, 4], min_similarity=0.9, linkage=linkage)
        assert plain.tolist() == [0, 0, 1, 1]
        scaled = embedding_groups(directions * lengths, [0, 4], min_similarity=0.9, linkage=linkage)
        assert scaled.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_similarity": 1.5}, r"min_similarity: must be a cosine similarity, -1\.\.1; got 1.5"),
        ({"min_similarity": math.nan}, "got nan"),
        ({"min_similarity": 0.5, "linkage": "single"}, "known: first_representative, connected_components"),
        ({"min_similarity": 0.5, "empty": [True]}, r"empty: must be 2 booleans, one a generation; got bool"),
        ({"min_similarity": 0.5, "empty": [0, 1]}, "got int64"),
    ],
)
def test_embedding_groups_name_what_is_wrong(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        embedding_groups(np.eye(2), [0, 2], **arguments)  # type: ignore[arg-type]  # Wrong on purpose.


def odd_address(array: np.ndarray) -> np.ndarray:
    """The same numbers, a byte past where their dtype belongs."""
    moved: np.ndarray = np.frombuffer(b"." + array.tobytes(), np.uint8)[1:].view(array.dtype).reshape(array.shape)
    assert not moved.flags.aligned
    return moved


@pytest.mark.parametrize("linkage", LINKAGES)
def test_where_arrays_lie_does_not_matter(linkage: str) -> None:
    rows, offsets, empty = embedded([4, 0, 9, 1, 7], 3)
    expected = oracle_groups(rows, offsets, empty, 0.5, linkage)
    places = [
        (np.repeat(rows, 2, axis=1)[:, ::2], np.repeat(offsets, 2)[::2], np.repeat(empty, 2)[::2]),
        (np.asfortranarray(rows), offsets[::-1].copy()[::-1], empty[::-1].copy()[::-1]),
        (odd_address(rows), odd_address(offsets), empty),
    ]
    for lying in places:
        for array in lying:
            array.flags.writeable = False
        found = embedding_groups(lying[0], lying[1], min_similarity=0.5, linkage=linkage, empty=lying[2])
        assert found.tolist() == expected


def test_groups_do_not_depend_on_threads_which_are_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, offsets, _ = embedded([9] * 2000, 1)
    asked = []

    def watched(*arguments: Any) -> None:
        asked.append(arguments[-2])
        find_groups(*arguments)

    find_groups = _core.find_groups
    monkeypatch.setattr(_core, "find_groups", watched)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(embedding_groups(rows, offsets, min_similarity=0.5))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert asked == [1, 3]
    np.testing.assert_array_equal(found[0], found[1])


def test_what_would_read_outside_the_arrays_is_refused() -> None:
    rows, offsets, empty, groups = np.eye(3, dtype=np.float32), np.array([0, 3]), np.zeros(3, bool), np.zeros(3, int)
    isa = grouping_cpp.ISA
    for bad in ([0, 4], [1, 3], [0, 2, 1, 3], [0, -1, 3], []):
        with pytest.raises(ValueError, match="offsets: must"):
            _core.find_groups(rows, np.array(bad, np.int64), empty, 0.5, False, groups, 1, isa)
    with pytest.raises(ValueError, match="empty: must be of length total"):
        _core.find_groups(rows, offsets, empty[:2], 0.5, False, groups, 1, isa)
    with pytest.raises(ValueError, match="groups: must be of length total"):
        _core.find_groups(rows, offsets, empty, 0.5, False, groups[:2], 1, isa)
    with pytest.raises(ValueError, match="isa: must be one of"):
        _core.find_groups(rows, offsets, empty, 0.5, False, groups, 1, "sse9")
