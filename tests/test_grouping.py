"""Groups of generations by similarity, words and entailment against the definitions, one sample at a time."""

import math
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import euds
from euds.errors import InvalidArgument, InvalidType
from euds.ops.entailment import entailment_groups
from euds.ops.grouping import LINKAGES, embedding_groups, label_groups
from euds.reference import grouping as reference

Sizes = st.lists(st.integers(0, 9), max_size=6)
Seeds = st.integers(0, 2**31)
Word = st.sampled_from(["yes", "no", "maybe", "Yes", "", " ", "yes no", "no yes"])


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


def test_label_words() -> None:
    texts = ["Positive.", "positive", " negative ", "\u201cPOSITIVE\u201d", "", "...", "very  good", "Very good!"]
    assert label_groups(texts).tolist() == [0, 0, 1, 0, 2, 2, 3, 3]
    assert label_groups(texts, labels=["negative", "neutral", "positive"]).tolist() == [2, 2, 0, 2, 3, 3, 4, 4]
    assert label_groups(texts, normalize=False).tolist() == [*range(8)]
    assert label_groups(["C++", "c", "-", "+"]).tolist() == [0, 1, 2, 3]
    assert label_groups([]).tolist() == []
    with pytest.raises(InvalidArgument, match=r"labels: 'Yes\.' and 'yes' are the same word"):
        label_groups(["no"], labels=["yes", "Yes."])
    with pytest.raises(InvalidArgument, match=r"texts: position 0 is no string but \['a', 'b'\]"):
        label_groups([["a", "b"], ["c"]])  # type: ignore[list-item]
    with pytest.raises(InvalidArgument, match="texts: position 1 is no string but None"):
        label_groups(["no", None])  # type: ignore[list-item]  # Wrong on purpose.
    with pytest.raises(InvalidArgument, match="texts: position 1 is no string but 3"):
        label_groups(["a", 3], labels=["x", "y"])  # type: ignore[list-item]  # Wrong on purpose.
    with pytest.raises(InvalidArgument, match="labels: position 1 is no string but None"):
        label_groups(["a"], labels=["x", None])  # type: ignore[list-item]  # Wrong on purpose.


class Relation:
    """A fixed random relation between texts, which counts the pairs it judges and refuses to judge one twice."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.judged: set[tuple[str, str]] = set()

    def one(self, premise: str, hypothesis: str) -> bool:
        return zlib.crc32(f"{self.seed} {premise} / {hypothesis}".encode()) % 10 < 6

    def __call__(self, premises: Sequence[str], hypotheses: Sequence[str]) -> list[bool]:
        for pair in zip(premises, hypotheses, strict=True):
            assert pair not in self.judged
            self.judged.add(pair)
        return [self.one(*pair) for pair in zip(premises, hypotheses, strict=True)]


@given(st.lists(st.lists(Word, max_size=8), max_size=6), Seeds)
@settings(max_examples=100, deadline=None)
def test_entailment_groups_equal_the_definition(samples: list[list[str]], seed: int) -> None:
    relation = Relation(seed)
    texts = [text for sample in samples for text in sample]
    found = entailment_groups(texts, np.cumsum([0, *map(len, samples)]), relation)
    asked: set[tuple[str, str]] = set()

    def entails(premise: str, hypothesis: str) -> bool:
        asked.add((premise, hypothesis))
        return relation.one(premise, hypothesis)

    oracle = [
        group
        for sample in samples
        for group in reference.by_first_member(len(sample), reference.mutual(sample, entails))
    ]
    assert found.groups.tolist() == oracle
    # Exactly the pairs that the sequential definition comes across, each once.
    assert relation.judged == asked
    assert found.n_evaluated == len(asked)
    assert found.n_all_pairs == sum(len(sample) * (len(sample) - 1) for sample in samples)


def test_one_direction_is_not_enough_and_no_member_is_taken_away() -> None:
    wider = {("a dog", "an animal"), ("a cat", "an animal")}
    mutual = {("a cat", "a kitty"), ("a kitty", "a cat"), ("a dog", "a kitty"), ("a kitty", "a dog")}

    def entails(premises: Sequence[str], hypotheses: Sequence[str]) -> list[bool]:
        return [pair in wider | mutual for pair in zip(premises, hypotheses, strict=True)]

    found = entailment_groups(["a dog", "an animal", "a cat", "a kitty", "a kitty", "a cat"], [0, 6], entails)
    # The kitty means the dog and the cat: it stays with the first, and does not bring them together.
    assert found.groups.tolist() == [0, 1, 2, 0, 0, 2]


def test_pairs_are_asked_once_and_rounds_run_across_samples() -> None:
    calls = []

    def entails(premises: Sequence[str], hypotheses: Sequence[str]) -> list[bool]:
        calls.append(len(premises))
        return [premise[0] == hypothesis[0] for premise, hypothesis in zip(premises, hypotheses, strict=True)]

    samples = [[f"a{i}", f"b{i}", f"a{i}!", f"a{i}"] for i in range(100)] + [["x", "y"]] * 50
    texts = [text for sample in samples for text in sample]
    found = entailment_groups(texts, np.cumsum([0, *map(len, samples)]), entails)
    assert found.groups[:400].tolist() == [0, 1, 0, 0] * 100
    assert found.groups[400:].tolist() == [0, 1] * 50
    # b against a; a! against a, both ways; x against y once for its fifty samples.
    assert calls == [101, 100, 100]
    assert (found.n_evaluated, found.n_all_pairs, found.n_rounds) == (301, 1300, 3)


def test_which_generations_are_empty_can_be_said() -> None:
    texts = ["Q: ", "Q: yes", "Q: ", "Q: no"]
    found = entailment_groups(
        texts, [0, 4], lambda left, right: np.zeros(len(left), bool), empty=[True, False, True, False]
    )
    assert found.groups.tolist() == [0, 1, 0, 2]
    assert found.n_evaluated == 1


def test_nothing_to_group() -> None:
    found = entailment_groups([], [0, 0], lambda left, right: [])
    assert (found.groups.tolist(), found.n_evaluated, found.n_all_pairs, found.n_rounds) == ([], 0, 0, 0)
    assert embedding_groups(np.empty((0, 4)), [0, 0, 0], min_similarity=0.5).tolist() == []


@pytest.mark.parametrize("answer", [[True, False], [0.7], True])
def test_a_judge_that_answers_badly_is_named(answer: object) -> None:
    with pytest.raises(InvalidType, match="entails: must be a function of premises and hypotheses, got NoneType"):
        entailment_groups(["a", "b"], [0, 2], None)  # type: ignore[arg-type]  # Wrong on purpose.
    with pytest.raises(InvalidArgument, match="entails: must return 1 booleans, one a pair"):
        entailment_groups(["a", "b"], [0, 2], lambda left, right: answer)  # type: ignore[arg-type,return-value]


def test_what_is_no_list_of_strings_is_refused() -> None:
    cases: list[tuple[Any, Any, str]] = [
        (["yes", "y", "no"], "yes", "labels: must be a list of strings, got 'yes'"),
        (["yes", "no"], {"yes", "no"}, "labels: must be a list of strings, got {"),
        ((text for text in ["a", "b"]), None, "texts: must be a list of strings, got <generator"),
        ({"a", "b"}, ["a"], "texts: must be a list of strings, got {"),
    ]
    for texts, labels, message in cases:
        with pytest.raises(InvalidArgument, match=message):
            label_groups(texts, labels=labels)


def test_empty_that_is_no_boolean_each_is_named() -> None:
    cases: list[tuple[Any, str]] = [
        ([[True], [True, False]], "empty: must be 2 booleans, one a generation: setting an array element"),
        (
            np.ma.masked_array([True, False], [True, False]),
            "empty: must be 2 booleans, one a generation, none of them mask",
        ),
        ([True], r"empty: must be 2 booleans, one a generation; got bool of shape \(1,\)"),
    ]
    for empty, message in cases:
        with pytest.raises(InvalidArgument, match=message):
            embedding_groups(np.eye(2), [0, 2], min_similarity=0.5, empty=empty)


def test_answers_and_texts_of_another_form_are_named() -> None:
    def ragged(premises: Any, hypotheses: Any) -> Any:
        return [[True], [True, False]]

    with pytest.raises(InvalidArgument, match="entails: must return 1 booleans, one a pair: setting an array element"):
        entailment_groups(["a", "b"], [0, 2], ragged)
    with pytest.raises(InvalidArgument, match="texts: must be a list of strings, got <generator"):
        entailment_groups((text for text in "ab"), [0, 2], ragged)  # type: ignore[arg-type]  # Wrong on purpose.
