"""Entailment between generations by a natural-language-inference cross-encoder."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from euds.errors import InputError, InvalidArgument
from euds.measures.batches import plan_batches
from euds.measures.device import Precision
from euds.measures.inference import for_inference
from euds.measures.models import check_model, load_model, model_config, position_count
from euds.measures.tokens import load_tokenizer
from euds.ops.entailment import EntailmentGroups, entailment_groups
from euds.ops.ragged import check_offsets
from euds.types import BoolArray, Int64Array

DEFAULT_TOKEN_BUDGET = 8192
ENTAILMENT_NAMES = ("entailment", "entail", "entails")
KIND = "entailment model"


class JudgmentNotFinite(RuntimeError):
    """The logits of an entailment model are NaN or infinite for a pair."""


class EntailmentModel:
    """A cross-encoder that reads a premise and a hypothesis together; "entailment" is its most probable label.

    Args:
        folder: model folder with safetensors weights.
        precision: device and dtype.
        token_budget: padded tokens in a forward pass, >= 1; one pair alone may exceed it.

    Attributes:
        n_truncated: of the pairs judged so far, those whose texts were longer together than the model reads, cut at the
            end of the longer.
        n_tokens: tokens of the pairs judged so far, padding left out.
        n_together: pairs in the last forward pass; of 1 that ran out of memory there is no smaller one.

    Raises:
        InputError: the model cannot be loaded, has no label, or more than one, for entailment, or no padding
            token.
        InvalidArgument: token_budget is below 1.
    """

    def __init__(self, folder: Path, precision: Precision, token_budget: int = DEFAULT_TOKEN_BUDGET) -> None:
        if token_budget < 1:
            raise InvalidArgument(f"token_budget: must be at least 1, got {token_budget}")
        self.device = precision.torch_device
        self.model = load_model(AutoModelForSequenceClassification, folder, precision, KIND)
        for_inference(self.model)
        self.label, self.tokenizer = judge_of(folder)
        if self.model.config.pad_token_id is None:
            # Decoders look for the last token that is none of these.
            self.model.config.pad_token_id = self.tokenizer.pad_token_id
        self.token_budget = token_budget
        self.max_tokens = min(self.tokenizer.model_max_length, position_count(self.model.config))
        self.n_truncated = 0
        self.n_tokens = 0
        self.n_together = 0

    def entails(self, premises: Sequence[str], hypotheses: Sequence[str]) -> BoolArray:
        """Return whether each premise entails its hypothesis, (n,) booleans, in order.

        Raises:
            JudgmentNotFinite: the model's logits of a pair are NaN or infinite.
        """
        if not premises:
            return np.zeros(0, np.bool_)
        encoded = self.tokenizer(
            list(premises),
            list(hypotheses),
            truncation="longest_first",
            max_length=self.max_tokens,
            verbose=False,
        )
        lengths = [len(ids) for ids in encoded["input_ids"]]
        result = np.empty(len(lengths), np.bool_)
        for batch in plan_batches(lengths, range(len(lengths)), self.token_budget):
            self.n_together = len(batch)
            result[batch] = self._judge({key: [values[at] for at in batch] for key, values in encoded.items()})
        self.n_truncated += self._count_truncated(premises, hypotheses, np.array(lengths))
        self.n_tokens += sum(lengths)
        return result

    def shortened(self, question: str, answers: Sequence[str]) -> str:
        """Return the question, without its end where the model could not read it twice with two of the answers."""
        (ids,) = self._ids([question])
        longest = max(map(len, self._ids(answers)))
        # Half of the model for each side, and 2 tokens for what the space between question and answer may change.
        room = (self.max_tokens - self.tokenizer.num_special_tokens_to_add(pair=True)) // 2 - longest - 2
        if len(ids) <= room:
            return question
        shorter: Any = self.tokenizer.decode(ids[: max(room, 0)])
        return str(shorter)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        ids: Any = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return list(ids)

    @torch.inference_mode()
    def _judge(self, batch: dict[str, list[list[int]]]) -> BoolArray:
        padded = self.tokenizer.pad(batch, return_tensors="pt").to(self.device)
        logits = self.model(**padded).logits
        if not logits.isfinite().all():
            # NaN would pass for the largest.
            raise JudgmentNotFinite
        best: BoolArray = (logits.argmax(1) == self.label).cpu().numpy()
        return best

    def _count_truncated(self, premises: Sequence[str], hypotheses: Sequence[str], lengths: Int64Array) -> int:
        # Only a pair that fills the model can have been cut.
        full = np.flatnonzero(lengths == self.max_tokens).tolist()
        if not full:
            return 0
        whole = self.tokenizer([premises[at] for at in full], [hypotheses[at] for at in full], verbose=False)
        return sum(len(ids) > self.max_tokens for ids in whole["input_ids"])


def entailment_meanings(
    answers: Sequence[str],
    offsets: npt.ArrayLike,
    model: EntailmentModel,
    *,
    questions: Sequence[str] | None = None,
) -> EntailmentGroups:
    """Group each sample's answers by mutual entailment, its question in front of both sides.

    Args:
        answers: (total,) the generations, one sample after another; blank ones are one group of their own.
        offsets: (n + 1,) integers rising from 0 to total.
        model: judges the pairs.
        questions: (n,) put in front of every answer of the sample, with a space, and cut at their end where that would
            leave no room for the answers; None: answers are judged as they are.

    Raises:
        InvalidArgument: the lengths do not fit each other; see `euds.ops.entailment.entailment_groups`.
    """
    empty = np.array([not answer.strip() for answer in answers], np.bool_)
    texts = list(answers)
    if questions is not None:
        starts = check_offsets(offsets, len(answers))
        if len(questions) != len(starts) - 1:
            raise InvalidArgument(f"questions: must be {len(starts) - 1}, one a sample; got {len(questions)}")
        texts = []
        for question, (first, last) in zip(questions, pairwise(starts.tolist()), strict=True):
            own = answers[first:last]
            shorter = model.shortened(question, own) if own else question
            texts += [f"{shorter} {answer}" for answer in own]
    counts = model.n_tokens, model.n_truncated
    try:
        return entailment_groups(texts, offsets, model.entails, empty=empty)
    except (MemoryError, RuntimeError):
        # After these the caller tries again in smaller parts, and judges these pairs once more.
        model.n_tokens, model.n_truncated = counts
        raise


def judge_of(folder: Path) -> tuple[int, PreTrainedTokenizerBase]:
    """Return the number of a model's label for entailment, and its tokenizer; loads no weights.

    Raises:
        InputError: it has no such label, or more than one, or no padding token, or one of its files is damaged.
    """
    label = entailment_label(folder, model_config(folder).id2label)
    tokenizer = load_tokenizer(folder)
    if tokenizer.pad_token_id is None:
        raise InputError(
            f"{folder}: its tokenizer has no padding token, and pairs are judged in batches; name one as pad_token in "
            "tokenizer_config.json"
        )
    return label, tokenizer


def check_entailment_model(folder: Path) -> None:
    """Refuse a folder that `EntailmentModel` would refuse, without reading its weights; see `check_model`.

    Raises:
        InputError, RunStopped: as `judge_of` and `check_model`.
    """
    judge_of(folder)
    check_model(AutoModelForSequenceClassification, folder, KIND)


def entailment_label(folder: Path, labels: dict[int, str]) -> int:
    """Return the number of the label that means entailment, such as "entailment" or "ENTAILMENT".

    Raises:
        InputError: there is no such label, or more than one; the message names the labels.
    """
    found = [number for number, label in labels.items() if label.strip().casefold() in ENTAILMENT_NAMES]
    if len(found) != 1:
        names = ", ".join(labels[number] for number in sorted(labels))
        raise InputError(f"{folder}: needs one label named entailment to judge entailment; its labels are: {names}")
    return found[0]
