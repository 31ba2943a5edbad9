"""Generations grouped by entailment within the memory that there is."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sampled_runs import Sample, table
from test_score_bad_input import quarantine
from transformers import AutoTokenizer

from euds.engine.meanings import _Answers
from euds.measures.device import precision
from euds.measures.entailment import EntailmentModel, entailment_meanings
from euds.types import BoolArray

COLUMN = "semantic_samples_discrete_nats"
Batch = dict[str, list[list[int]]]


def padded(batch: Batch) -> int:
    return len(batch["input_ids"]) * max(map(len, batch["input_ids"]))


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """What judges were given, one forward pass after another."""
    found: list[Batch] = []
    real = EntailmentModel._judge

    def judge(self: EntailmentModel, batch: Batch) -> BoolArray:
        found.append(batch)
        return real(self, batch)

    monkeypatch.setattr(EntailmentModel, "_judge", judge)
    return found


def test_the_judge_keeps_to_the_budget_of_tokens(sample: Sample, tiny_nli: Path, batches: list[Batch]) -> None:
    settings = {"grouping": "entailment", "nli": str(tiny_nli), "estimators": ("discrete",)}
    whole = sample("whole", settings)
    assert max(map(padded, batches)) > 32
    batches.clear()
    small = sample("small", settings, token_budget=32)
    assert max(map(padded, batches)) <= 32
    assert max(len(batch["input_ids"]) for batch in batches) > 1
    assert [row[COLUMN] for row in small] == [row[COLUMN] for row in whole]


@pytest.mark.parametrize("budget", [None, 1])
def test_a_row_with_a_pair_that_never_fits_is_given_up_alone(
    sample: Sample,
    tiny_nli: Path,
    tmp_path: Path,
    batches: list[Batch],
    monkeypatch: pytest.MonkeyPatch,
    budget: int | None,
) -> None:
    settings = {"grouping": "entailment", "nli": str(tiny_nli), "estimators": ("discrete",)}
    whole = sample("whole", settings)
    longest = max(len(ids) for batch in batches for ids in batch["input_ids"])
    real = EntailmentModel._judge

    def small_memory(self: EntailmentModel, batch: Batch) -> BoolArray:
        if padded(batch) >= longest:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, batch)

    monkeypatch.setattr(EntailmentModel, "_judge", small_memory)
    rows = sample("small", settings, token_budget=budget)
    model = EntailmentModel(tiny_nli, precision("cpu"), token_budget=1)
    too_long = []
    for row in table(tmp_path / "whole", "generations"):
        try:
            entailment_meanings([text.strip() for text in row["text"]], [0, len(row["text"])], model)
        except torch.OutOfMemoryError:
            too_long.append(row["row_id"])
    assert 0 < len(too_long) < len(rows)
    assert quarantine(tmp_path / "small") == dict.fromkeys(too_long, "out of memory on this row alone")
    for row, other in zip(rows, whole, strict=True):
        assert row[COLUMN] == (None if row["row_id"] in too_long else other[COLUMN])


def test_half_of_the_samples_keep_their_own_questions() -> None:
    half = _Answers(list("abcd"), ["p", "q"], np.array([0, 2, 4]), np.arange(4.0)).between(1, 2)
    assert (half.texts, half.questions, half.offsets.tolist()) == (["c", "d"], ["q"], [0, 2])
    assert half.mean_logprobs.tolist() == [2, 3]


def test_another_error_of_the_judge_is_none_of_memory(
    sample: Sample, tiny_nli: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> BoolArray:
        raise RuntimeError("broken")

    monkeypatch.setattr(EntailmentModel, "_judge", broken)
    with pytest.raises(RuntimeError, match="broken"):
        sample("run", {"grouping": "entailment", "nli": str(tiny_nli), "estimators": ("discrete",)})


@pytest.mark.parametrize("broken", ["model", "word"])
def test_a_judge_whose_logits_are_nan_gives_no_score(
    sample: Sample, tiny_nli: Path, tmp_path: Path, broken: str
) -> None:
    folder = tmp_path / "nli"
    shutil.copytree(tiny_nli, folder)
    settings = {"grouping": "entailment", "nli": str(folder), "estimators": ("discrete",)}
    whole = sample("whole", settings)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [set(row["text"]) for row in table(tmp_path / "whole", "generations")]
    tokens = [set(tokenizer(" ".join(own), add_special_tokens=False)["input_ids"]) for own in texts]
    # The first that some rows hold, and most do not.
    token = next(one for one in sorted(set.union(*tokens)) if sum(one in own for own in tokens) < len(tokens) // 2)
    weights = load_file(folder / "model.safetensors")
    if broken == "model":
        weights["classifier.weight"][:] = torch.nan
    else:
        weights["bert.embeddings.word_embeddings.weight"][token] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    rows = sample("broken", settings)
    asked = {at for at, own in enumerate(tokens) if (broken == "model" or token in own) and len(texts[at]) > 1}
    found = quarantine(tmp_path / "broken")
    assert 0 < len(found) <= len(rows)
    assert found.keys() <= asked
    assert set(found.values()) == {"the entailment model's logits are NaN or infinite"}
    for row, other in zip(rows, whole, strict=True):
        assert row[COLUMN] == (None if row["row_id"] in found else other[COLUMN])
