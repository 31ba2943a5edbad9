"""Metrics of the tasks: accuracy and macro-F1, exact match and token F1 as SQuAD defines them."""

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from euds.types import Float64Array

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def classification_metrics(predicted: Sequence[int], labels: Sequence[int]) -> dict[str, float]:
    """Return accuracy and macro-F1 over the classes of the test rows, each in 0..1."""
    from sklearn.metrics import accuracy_score, f1_score

    macro = f1_score(labels, predicted, labels=sorted(set(labels)), average="macro", zero_division=0.0)
    return {"accuracy": float(accuracy_score(labels, predicted)), "macro_f1": float(macro)}


def answer_metrics(predicted: Sequence[str], answers: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return mean exact match and mean token F1 against the best of each question's answers, each in 0..1.

    Source: Rajpurkar et al. 2016 (SQuAD 1.1), its evaluation script's normalisation.
    """
    exact = sum(
        any(normalise(guess) == normalise(answer) for answer in golds)
        for guess, golds in zip(predicted, answers, strict=True)
    )
    return {"f1": float(answer_f1(predicted, answers).mean()), "exact_match": exact / len(predicted)}


def answer_f1(predicted: Sequence[str], answers: Sequence[Sequence[str]]) -> Float64Array:
    """Return each question's token F1, (n,) in 0..1, against the best of its answers."""
    pairs = zip(predicted, answers, strict=True)
    return np.array([max(token_f1(guess, answer) for answer in golds) for guess, golds in pairs])


def normalise(answer: str) -> str:
    """Lower-case, drop punctuation, articles and surplus spaces."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def token_f1(guess: str, answer: str) -> float:
    """Harmonic mean of precision and recall over the words in common, in 0..1."""
    found, gold = normalise(guess).split(), normalise(answer).split()
    if not found or not gold:
        return float(found == gold)
    common = (Counter(found) & Counter(gold)).total()
    if common == 0:
        return 0.0
    precision, recall = common / len(found), common / len(gold)
    return 2 * precision * recall / (precision + recall)
