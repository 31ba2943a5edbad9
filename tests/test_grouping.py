"""Groups of generations by words and entailment against the definitions, one sample at a time."""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from euds.errors import InvalidArgument, InvalidType
from euds.ops.entailment import entailment_groups
from euds.ops.grouping import embedding_groups, label_groups
from euds.reference import grouping as reference

Seeds = st.integers(0, 2**31)
Word = st.sampled_from(["yes", "no", "maybe", "Yes", "", " ", "yes no", "no yes"])


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
