"""Semantic entropy over label words end to end with a tiny real model: scores, files, resuming, bad rows, bad words."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sampled_runs import table
from test_score_bad_input import quarantine
from test_score_resume import digests
from transformers import AutoModelForCausalLM, AutoTokenizer

import euds
from euds.corpus import read_manifest, read_scores
from euds.engine.label_words_config import LabelWordSettings
from euds.errors import EudsError

WriteJsonl = Callable[..., Path]
WORDS = ("wonderful", " sad ", "not quite dull")
COLUMN = "semantic_label_words_nats"
Choose = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def choose(sample_corpus: Path, tiny_lm: Path, tmp_path: Path) -> Choose:
    """A function (name, settings, **arguments) that scores label words into tmp_path/name and returns the scores."""

    def run(name: str, settings: dict[str, Any] | None = None, **arguments: Any) -> list[dict[str, Any]]:
        given = {"inputs": sample_corpus, "lm": tiny_lm, "measures": ["semantic"], "shard_rows": 8}
        words = LabelWordSettings(**{"labels": WORDS, **(settings or {})})
        euds.score(**{**given, "semantic": "label_words", **arguments}, out=tmp_path / name, label_words=words)
        rows: list[dict[str, Any]] = read_scores(tmp_path / name).to_pylist()
        return rows

    return run


def texts_of(corpus: Path) -> list[str]:
    return [json.loads(line)["text"] for line in corpus.read_text().splitlines()]


def entropy_of(folder: Path, prompt: str, words: list[str]) -> float:
    """The definition: float64, one whole sequence a word."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).double().eval()
    start = len(tokenizer(prompt)["input_ids"])
    totals = []
    for word in words:
        ids = torch.tensor([tokenizer(f"{prompt} {word}")["input_ids"]])
        with torch.inference_mode():
            logp = model(ids).logits[0, :-1].log_softmax(-1)
        totals.append(float(logp[start - 1 :].gather(1, ids[0, start:, None]).sum()))
    shares = np.exp(totals) / np.exp(totals).sum()
    return float(-(shares * np.log(shares)).sum())


def test_every_score_is_the_entropy_over_the_words(choose: Choose, sample_corpus: Path, tiny_lm: Path) -> None:
    texts = texts_of(sample_corpus)
    scores = choose("run")
    own = choose("own", {"template": "{text}\nIt was "})
    for row, other, text in zip(scores, own, texts, strict=True):
        words = [word.strip() for word in WORDS]
        prompt = f"Text: {text}\nLabel (wonderful or sad or not quite dull):"
        assert row[COLUMN] == pytest.approx(entropy_of(tiny_lm, prompt, words), abs=1e-4)
        assert other[COLUMN] == pytest.approx(entropy_of(tiny_lm, f"{text}\nIt was", words), abs=1e-4)
        assert 0 <= row[COLUMN] <= np.log(3)
    assert np.ptp([row[COLUMN] for row in scores]) > 0.01


def test_scores_depend_neither_on_shards_nor_on_batches(choose: Choose) -> None:
    whole = [row[COLUMN] for row in choose("whole")]
    for name, arguments in {"shards": {"shard_rows": 3}, "batches": {"token_budget": 1}, "seed": {"seed": 1}}.items():
        assert [row[COLUMN] for row in choose(name, **arguments)] == pytest.approx(whole, abs=1e-4)


def test_all_estimates_stand_side_by_side_with_one_model(
    choose: Choose,
    sample_corpus: Path,
    tiny_lm: Path,
    tiny_encoder: Path,
    tmp_path: Path,
    loaded: list[str],
) -> None:
    samples = euds.SampleSettings(n_generations=3, max_new_tokens=2)
    semantic = ["clusters", "samples", "label_words"]
    together = choose("together", semantic=semantic, samples=samples, embedder=tiny_encoder, n_clusters=3)
    assert sorted(loaded) == ["causal language model", "encoder"]
    for row, alone in zip(together, choose("alone"), strict=True):
        assert row[COLUMN] == alone[COLUMN]
        assert {"semantic_entropy_nats", "semantic_samples_discrete_nats"} <= row.keys() - alone.keys()
    # The generations go on from the text, the label words follow their question.
    tokenizer = AutoTokenizer.from_pretrained(tiny_lm)
    lengths = [len(tokenizer(text)["input_ids"]) for text in texts_of(sample_corpus)]
    assert [row["n_prompt_tokens"] for row in table(tmp_path / "together", "generations")] == lengths
    manifest = json.loads((tmp_path / "together" / "manifest.json").read_text())
    facts, cost = manifest["pool"]["label_words"], manifest["cost"]["label_words"]["scoring"]
    assert facts["labels"] == ["wonderful", "sad", "not quite dull"]
    assert facts["template"] == "Text: {text}\nLabel ({labels}):"
    tokens = cost["prompt_tokens"] + cost["word_tokens"]
    assert cost["flops"] == 2 * manifest["cost"]["parameters"]["lm"] * tokens
    assert cost["seconds"] == manifest["seconds"]["label_words"] > 0


def test_a_killed_run_resumes_to_the_same_files(
    choose: Choose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from euds.engine import label_words

    choose("whole")
    real = label_words.label_words_shard
    calls: list[int] = []

    def killed(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(label_words, "label_words_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            choose("killed")
    with pytest.raises(EudsError, match=r"config\.label_words\.labels\[2\]: not quite dull -> dull"):
        choose("killed", {"labels": ("wonderful", " sad ", "dull")})
    choose("killed")
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


def test_bad_rows_are_quarantined_and_long_ones_cut(
    choose: Choose, write_jsonl: WriteJsonl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from euds.measures.label_words import LabelWordScorer

    rows: list[object] = [{"text": None}, {"text": "the film was sad " * 200}, {"text": "sad"}, "no object"]
    corpus = write_jsonl(rows, "bad.jsonl")
    scores = choose("run", inputs=corpus)
    assert [row["truncated"] for row in scores] == [None, True, False, None]
    assert set(quarantine(tmp_path / "run")) == {0, 3}
    assert [row[COLUMN] is None for row in scores] == [True, False, False, True]
    real = LabelWordScorer.score

    def small_memory(self: LabelWordScorer, prompts: list[list[int]]) -> Any:
        if sum(map(len, prompts)) > 60:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, prompts)

    monkeypatch.setattr(LabelWordScorer, "score", small_memory)
    small = choose("small", inputs=corpus)
    assert quarantine(tmp_path / "small")[1] == "out of memory on this row alone"
    assert small[2][COLUMN] == pytest.approx(scores[2][COLUMN], abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        ({"labels": ("good",)}, {}, "labels: give the label words, two or more"),
        ({"labels": ("good", " good ")}, {}, "labels: each must be a word of its own, got 'good', ' good '"),
        ({"labels": ("good", " ")}, {}, "a word of its own"),
        ({"labels": ("good", "☃")}, {}, "labels: '☃' has no tokens in the tokenizer of"),
        ({"labels": ("good", "bad", "good☃")}, {}, "labels: 'good' and 'good☃' are the same tokens in the tokenizer"),
        ({"labels": ("good", "sad " * 300)}, {}, "leave none for a prompt; choose shorter labels"),
        ({"template": "label"}, {}, "not one of continuation, labels, question"),
        ({}, {"lm": None}, "label words need a causal language model"),
        ({}, {"semantic": "clusters"}, "need semantic='label_words'"),
        ({}, {"semantic": "label_word"}, "did you mean 'label_words'|need semantic"),
    ],
)
def test_a_bad_request_ends_before_any_work(
    choose: Choose, tiny_lm: Path, tmp_path: Path, settings: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    # A tokenizer that drops a character, as some drop those that they do not know.
    deaf = Path(shutil.copytree(tiny_lm, tmp_path / "deaf"))
    tokenizer = json.loads((deaf / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": "☃"}, "content": ""}
    (deaf / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(EudsError, match=message):
        choose("run", settings, **{"lm": deaf, **arguments})
    assert not (tmp_path / "run").exists()


def test_words_must_be_named(sample_corpus: Path, tiny_lm: Path, tmp_path: Path) -> None:
    with pytest.raises(EudsError, match="label_words: name the label words"):
        euds.score(sample_corpus, out=tmp_path / "run", measures=["semantic"], semantic="label_words", lm=tiny_lm)


def test_label_words_can_be_selected_by_and_are_reported(choose: Choose, tmp_path: Path) -> None:
    from euds.report import write_report

    values = {row["row_id"]: row[COLUMN] for row in choose("run")}
    selection = euds.select(tmp_path / "run", keep=7, rule="high", axes=["label_words"])
    assert sorted(values[row] for row in selection.row_ids.tolist()) == sorted(values.values())[-7:]
    page = write_report(tmp_path / "run").read_text()
    for wanted in ("semantic entropy of the label words", "label_words: scoring", "score label words"):
        assert wanted in page
    assert "Meanings of the generations" not in page


def test_the_command_line_takes_words_and_template(sample_corpus: Path, tiny_lm: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from euds.cli.app import app

    command = ["score", str(sample_corpus), "--lm", str(tiny_lm), "--measures", "semantic", "--semantic"]
    alone = ["label_words", "--labels", "good, bad", "--out", str(tmp_path / "alone")]
    assert CliRunner().invoke(app, [*command, *alone], catch_exceptions=False).exit_code == 0
    config = json.loads((tmp_path / "alone" / "manifest.json").read_text())["config"]
    assert config["label_words"] == {"labels": ["good", "bad"], "template": "labels"}
    assert config["samples"] is None
    options = "--labels good,bad --grouping labels --n-generations 2 --max-new-tokens 2 --template question"
    both = ["samples,label_words", *options.split(), "--out", str(tmp_path / "both")]
    assert CliRunner().invoke(app, [*command, *both], catch_exceptions=False).exit_code == 0
    config = json.loads((tmp_path / "both" / "manifest.json").read_text())["config"]
    for name in ("label_words", "samples"):
        assert config[name]["labels"] == ["good", "bad"]
        assert config[name]["template"] == "question"
    with pytest.raises(EudsError, match="need semantic='samples'"):
        CliRunner().invoke(app, [*command, *alone, "--top-k", "5"], catch_exceptions=False)
    with pytest.raises(EudsError, match="two or more, such as --labels"):
        CliRunner().invoke(app, [*command, "label_words", "--out", str(tmp_path / "none")], catch_exceptions=False)


def test_a_finished_run_follows_its_corpus_and_its_model(
    choose: Choose, sample_corpus: Path, tiny_lm: Path, tmp_path: Path
) -> None:
    rows = choose("run")
    corpus = Path(shutil.copy(sample_corpus, tmp_path / "elsewhere.jsonl"))
    model = Path(shutil.copytree(tiny_lm, tmp_path / "lm"))
    assert choose("run", inputs=corpus, lm=model) == rows
    manifest = read_manifest(tmp_path / "run")
    assert manifest["inputs"][0]["path"] == str(corpus)
    assert manifest["models"]["lm"]["folder"] == str(model)
