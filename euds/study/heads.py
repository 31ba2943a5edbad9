"""The two kinds of heads: how examples become model inputs, and outputs become predictions."""

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from transformers import AutoModelForQuestionAnswering, AutoModelForSequenceClassification

from euds.errors import InputError
from euds.study.examples import Example
from euds.study.metrics import answer_f1, answer_metrics, classification_metrics
from euds.study.types import QUESTION_ANSWERING, Judged, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Features = list[dict[str, Any]]
STRIDE_SHARE = 3
"""Windows over a long passage overlap by a third."""

MAX_ANSWER_TOKENS = 30
N_BEST = 20


class Head(Protocol):
    """What training and testing need to know of a task."""

    auto_class: Any
    model_arguments: dict[str, Any]

    def check(self, examples: Sequence[Example]) -> None:
        """Refuse examples that features cannot be made of, without making them."""
        ...

    def training_features(self, examples: Sequence[Example]) -> Features:
        """Return model inputs with targets."""
        ...

    def test_features(self, examples: Sequence[Example]) -> Features:
        """Return model inputs without targets."""
        ...

    def judge(self, examples: Sequence[Example], outputs: Sequence[Any]) -> Judged:
        """Judge the outputs of the last test features, in their order."""
        ...


class ClassificationHead:
    """One label for a text or pair."""

    auto_class = AutoModelForSequenceClassification

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", max_tokens: int, labels: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._ids = {label: at for at, label in enumerate(labels)}
        self.model_arguments: dict[str, Any] = {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": self._ids,
        }

    def check(self, examples: Sequence[Example]) -> None:
        """Refuse nothing: texts are cut."""

    def training_features(self, examples: Sequence[Example]) -> Features:
        """Return model inputs with the label's id."""
        features = self.test_features(examples)
        for feature, example in zip(features, examples, strict=True):
            feature["labels"] = self._ids[example.label]
        return features

    def test_features(self, examples: Sequence[Example]) -> Features:
        """Return model inputs, cut at the limit."""
        columns = zip(*(example.texts for example in examples), strict=True)
        encoded = self._tokenizer(*map(list, columns), truncation=True, max_length=self._max_tokens)
        return [{key: encoded[key][at] for key in encoded} for at in range(len(examples))]

    def judge(self, examples: Sequence[Example], outputs: Sequence[Any]) -> Judged:
        """Judge logits, one row an example."""
        predicted = [int(output["logits"].argmax()) for output in outputs]
        labels = [self._ids[example.label] for example in examples]
        right = np.equal(predicted, labels).astype(np.float64)
        return Judged(classification_metrics(predicted, labels), right)


class AnswerHead:
    """The span of a passage that answers a question; long passages are read in overlapping windows."""

    auto_class = AutoModelForQuestionAnswering

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", max_tokens: int) -> None:
        # Places of answers count from the first token, in a batch too.
        tokenizer.padding_side = "right"
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self.model_arguments: dict[str, Any] = {}
        self._stride = max_tokens // STRIDE_SHARE
        self._windows: list[tuple[int, list[tuple[int, int] | None]]] = []

    def check(self, examples: Sequence[Example]) -> None:
        """Refuse questions that leave a window no more of the passage than windows share."""
        special = self._tokenizer.num_special_tokens_to_add(pair=True)
        questions = _questions(examples)
        lengths = [len(ids) for ids in self._tokenizer(questions, add_special_tokens=False)["input_ids"]]
        longest = max(range(len(lengths)), key=lengths.__getitem__)
        if self._max_tokens - special - lengths[longest] <= self._stride:
            raise InputError(
                f"max_tokens: a question of {lengths[longest]} tokens leaves too few of {self._max_tokens} for its "
                f"passage ({questions[longest][:40]!r} ...); raise max_tokens, or leave the row out"
            )

    def training_features(self, examples: Sequence[Example]) -> Features:
        """Return windows with the answer's first and last token; windows without the whole answer are left out."""
        features, windows = self._encode(examples)
        kept = []
        for feature, (at, offsets) in zip(features, windows, strict=True):
            example = examples[at]
            end = example.answer_start + len(example.answers[0])
            inside = [
                token
                for token, span in enumerate(offsets)
                if span is not None and span[0] < end and span[1] > example.answer_start
            ]
            first_span, last_span = (offsets[inside[0]], offsets[inside[-1]]) if inside else (None, None)
            if first_span and last_span and first_span[0] <= example.answer_start and last_span[1] >= end:
                kept.append({**feature, "start_positions": inside[0], "end_positions": inside[-1]})
        return kept

    def test_features(self, examples: Sequence[Example]) -> Features:
        """Return all windows of all passages."""
        features, self._windows = self._encode(examples)
        return features

    def judge(self, examples: Sequence[Example], outputs: Sequence[Any]) -> Judged:
        """Take each question's best span over its windows, and compare it with the answers."""
        best = [(-np.inf, "")] * len(examples)
        for (at, offsets), output in zip(self._windows, outputs, strict=True):
            score, span = _best_span(output["start_logits"], output["end_logits"], offsets)
            if score > best[at][0]:
                best[at] = (score, examples[at].texts[1][span[0] : span[1]])
        predicted, answers = [text for _, text in best], [example.answers for example in examples]
        return Judged(answer_metrics(predicted, answers), answer_f1(predicted, answers))

    def _encode(self, examples: Sequence[Example]) -> tuple[Features, list[tuple[int, list[tuple[int, int] | None]]]]:
        """Return windows, and for each the example and the characters of the passage under every token."""
        self.check(examples)
        encoded = self._tokenizer(
            _questions(examples),
            [example.texts[1] for example in examples],
            truncation="only_second",
            max_length=self._max_tokens,
            stride=self._stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        sources, offsets = encoded.pop("overflow_to_sample_mapping"), encoded.pop("offset_mapping")
        windows = []
        for at, source in enumerate(sources):
            of_passage = encoded.sequence_ids(at)
            spans = zip(offsets[at], of_passage, strict=True)
            windows.append((source, [tuple(span) if part == 1 else None for span, part in spans]))
        return [{key: encoded[key][at] for key in encoded} for at in range(len(sources))], windows


def head_for(task: Task, tokenizer: "PreTrainedTokenizerBase", max_tokens: int, classes: Set[str]) -> Head:
    """Return the head of a task; `classes` are all that have a place in it; questions have none.

    Raises:
        InputError: there is only one class.
    """
    if task.kind == QUESTION_ANSWERING:
        return AnswerHead(tokenizer, max_tokens)
    labels = sorted(classes)
    if len(labels) < 2:
        raise InputError(f"all rows to train and test on have the label {labels[0]!r}; a classifier needs two")
    return ClassificationHead(tokenizer, max_tokens, labels)


def _questions(examples: Sequence[Example]) -> list[str]:
    # Some questions begin with spaces, which would count as tokens with some tokenizers.
    return [example.texts[0].strip() for example in examples]


def _best_span(
    start_logits: torch.Tensor, end_logits: torch.Tensor, offsets: Sequence[tuple[int, int] | None]
) -> tuple[float, tuple[int, int]]:
    """Return the largest start + end logit and the characters of that span."""
    allowed = np.array([span is not None for span in offsets])
    n = len(offsets)
    starts = np.where(allowed, start_logits.numpy()[:n], -np.inf)
    ends = np.where(allowed, end_logits.numpy()[:n], -np.inf)
    best: tuple[float, tuple[int, int]] = (-np.inf, (0, 0))
    for first in np.argsort(-starts)[:N_BEST]:
        last = first + int(ends[first : first + MAX_ANSWER_TOKENS].argmax())
        score = float(starts[first] + ends[last])
        first_span, last_span = offsets[first], offsets[last]
        if score > best[0] and first_span is not None and last_span is not None:
            best = (score, (first_span[0], last_span[1]))
    return best
