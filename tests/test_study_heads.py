"""Spans of answers against every pair of tokens, their targets, and what the training loop is told."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, TrainingArguments

import euds
from euds.study.examples import Example
from euds.study.heads import MAX_ANSWER_TOKENS, N_BEST, AnswerHead, _best_span
from euds.study.metrics import answer_metrics, normalise, token_f1

ROWS = [{"text": f"the film was {word}", "label": word} for word in ("sad", "good")] * 8


@pytest.mark.parametrize("n_tokens", [3, 18, 90])
def test_the_best_span_is_that_of_all_pairs_of_tokens(n_tokens: int) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        starts, ends = rng.normal(size=(2, n_tokens)).astype(np.float32)
        # The question, and what frames both, are no answer.
        offsets = [None if at in (0, n_tokens // 5, n_tokens - 1) else (2 * at, 2 * at + 1) for at in range(n_tokens)]
        inside = [at for at, span in enumerate(offsets) if span is not None]
        pairs = [
            (float(starts[first] + ends[last]), (2 * first, 2 * last + 1))
            for first in sorted(inside, key=lambda at: -starts[at])[:N_BEST]
            for last in inside
            if first <= last < first + MAX_ANSWER_TOKENS
        ]
        # What fills a batch up stands behind the tokens.
        padded = (torch.from_numpy(np.append(logits, [99.0, 99.0]).astype(np.float32)) for logits in (starts, ends))
        assert _best_span(next(padded), next(padded), offsets) == max(pairs)


def test_a_target_ends_where_the_answer_does(tiny_encoder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    example = Example(("what was it", "was (sad) in the end"), answers=("sad",), answer_start=5)
    (feature,) = AnswerHead(tokenizer, 40).training_features([example])
    target = feature["input_ids"][feature["start_positions"] : feature["end_positions"] + 1]
    assert target == tokenizer("sad", add_special_tokens=False)["input_ids"]


def test_answers_are_measured_as_squad_measures_them() -> None:
    rng = np.random.default_rng(0)
    words = ["the", "a", "Big", "dog,", "dog", "an", "cat.", ""]
    guesses, golds = ([" ".join(rng.choice(words, 5)) for _ in range(200)] for _ in range(2))
    f1s = []
    # Written anew after the formulas of SQuAD 1.1: words in common count as often as both have them.
    for guess, gold in zip(guesses, golds, strict=True):
        ours, theirs = normalise(guess).split(), normalise(gold).split()
        common = sum(min(count, Counter(theirs)[word]) for word, count in Counter(ours).items())
        f1s.append(2 * common / (len(ours) + len(theirs)) if ours or theirs else 1.0)
    assert [token_f1(*pair) for pair in zip(guesses, golds, strict=True)] == pytest.approx(f1s)
    exact = [normalise(guess) == normalise(gold) for guess, gold in zip(guesses, golds, strict=True)]
    found = answer_metrics(guesses, [[gold] for gold in golds])
    assert found == pytest.approx({"f1": np.mean(f1s), "exact_match": np.mean(exact)})


def test_the_training_loop_is_told_what_was_asked_for(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[TrainingArguments] = []

    class Trainer:
        def __init__(self, model: object, arguments: TrainingArguments, **named: Any) -> None:
            told.append(arguments)

        def remove_callback(self, callback: object) -> None:
            pass

        def train(self) -> None:
            pass

    monkeypatch.setattr("euds.study.cell.Trainer", Trainer)
    for seed, steps in ((7, 41), (8, 1)):
        euds.finetune(ROWS, ROWS, model=tiny_encoder, steps=steps, batch_size=5, seeds=[seed])
    assert [one.seed for one in told] == [7, 8]
    assert [one.max_steps for one in told] == [41, 1]
    assert [one.warmup_steps for one in told] == [5, 0]
    assert {(one.learning_rate, one.weight_decay, one.train_batch_size) for one in told} == {(1e-4, 0.01, 5)}
