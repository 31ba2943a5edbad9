"""Semantic entropy over generations end to end with tiny real models: scores, files, bad rows."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sampled_runs import MOST_TOKENS, Sample, limit_memory, table
from test_score_bad_input import quarantine

from euds.engine import meanings
from euds.engine.facts import pool_facts
from euds.engine.generations_config import SampleSettings
from euds.engine.pool import Pool
from euds.errors import InputError
from euds.measures.device import precision
from euds.measures.generate import Generations, Generator
from euds.measures.semantic import Embedder
from euds.measures.tokens import ModelTokenizer
from euds.reference import grouping as reference

WriteJsonl = Callable[..., Path]
GENERAL = "PreTrainedTokenizerFast"
ALL = ("discrete", "rao_blackwell", "miller_madow", "chao_shen", "nearest_neighbor", "kernel_language")


def test_every_score_follows_from_the_stored_generations(sample: Sample, tiny_encoder: Path, tmp_path: Path) -> None:
    scores = sample("run", {"estimators": ALL, "min_similarity": 0.9})
    generations, meanings = table(tmp_path / "run", "generations"), table(tmp_path / "run", "meanings")
    embedder, tokenizer = Embedder(tiny_encoder, precision("cpu")), ModelTokenizer(tiny_encoder, 62)
    seen = set()
    for row, made, meant in zip(scores, generations, meanings, strict=True):
        assert row["row_id"] == made["row_id"] == meant["row_id"]
        texts = [text.strip() for text in made["text"]]
        vectors = embedder.embed([encoded.ids for encoded in tokenizer.encode(texts)]).astype(float)
        same = reference.similar(vectors, [not text for text in texts], 0.9)
        assert meant["group"] == reference.by_first_member(5, same)
        assert row["semantic_n_groups"] == len(set(meant["group"]))
        # A text drawn twice counts once.
        firsts = [at for at, text in enumerate(texts) if text not in texts[:at]]
        masses: dict[int, float] = {}
        for at in firsts:
            group = meant["group"][at]
            masses[group] = masses.get(group, 0.0) + np.exp(made["mean_logprob"][at])
        weighed = np.array(list(masses.values())) / sum(masses.values())
        assert row["semantic_samples_rao_blackwell_nats"] == pytest.approx(-(weighed * np.log(weighed)).sum(), abs=1e-5)
        shares = np.bincount(meant["group"]) / 5
        assert row["semantic_samples_discrete_nats"] == pytest.approx(-(shares * np.log(shares)).sum(), abs=1e-5)
        assert np.allclose(np.array(made["mean_logprob"]) * made["n_tokens"], made["sum_logprob"], rtol=1e-5)
        assert 0 <= row["semantic_samples_kernel_language_nats"] <= np.log(5) + 1e-6
        assert row["semantic_samples_nearest_neighbor_nats"] <= -1
        seen.add(row["semantic_n_groups"])
    assert len(seen) > 1


def test_a_text_that_was_drawn_twice_has_its_probability_once() -> None:
    answers = meanings._Answers(["a", "a", "b"], None, np.array([0, 3]), np.log([0.5, 0.5, 0.25]))
    found = meanings._estimate("rao_blackwell", np.array([0, 0, 1]), answers, None)
    # Of one text of 0.5 and one of 0.25 the first has two thirds.
    assert found == pytest.approx([np.log(3) - 2 / 3 * np.log(2)])


@pytest.mark.parametrize(
    ("linkage", "groups"), [("first_representative", [0, 0, 1]), ("connected_components", [0, 0, 0])]
)
def test_similar_generations_are_linked_as_was_asked(linkage: str, groups: list[int]) -> None:
    # A chain: neighbours at 40 degrees are alike, its ends are not.
    angles = np.deg2rad([0.0, 40.0, 80.0])
    vectors = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    answers = meanings._Answers(["a", "b", "c"], None, np.array([0, 3]), np.zeros(3))
    settings = SampleSettings(min_similarity=0.7, linkage=linkage)
    found, given_up = meanings._group(answers, settings, vectors, set(), meanings.Judges(None, None, None), {})
    assert (found.tolist(), given_up) == (groups, {})


def test_generations_depend_on_row_and_seed_not_on_shards_or_batches(sample: Sample, tmp_path: Path) -> None:
    texts = {}
    for name, arguments in {
        "reference": {},
        "shards": {"shard_rows": 3},
        "batches": {"token_budget": 1},
        "seed": {"seed": 1},
    }.items():
        sample(name, {"grouping": "labels", "labels": ("good", "bad")}, embedder=None, **arguments)
        texts[name] = [row["text"] for row in table(tmp_path / name, "generations")]
    assert texts["reference"] == texts["shards"] == texts["batches"]
    assert texts["reference"] != texts["seed"]


def test_both_estimates_stand_side_by_side_and_the_manifest_accounts_for_them(sample: Sample, tmp_path: Path) -> None:
    scores = sample("run", semantic=["clusters", "samples"], n_clusters=3)
    alone = sample("alone", semantic=["samples"])
    for row, single in zip(scores, alone, strict=True):
        assert 0 <= row["semantic_entropy_nats"] <= np.log(3) + 1e-6
        assert row["semantic_samples_discrete_nats"] == single["semantic_samples_discrete_nats"]
        assert "semantic_entropy_nats" not in single
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["pool"]["samples"]["warping"] == {
        "temperature": 1.0,
        "top_k": 50,
        "top_p": 0.9,
        "order": "temperature, top_k, top_p",
    }
    assert manifest["pool"]["samples"]["template"] == "{text}"
    assert manifest["pool"]["samples"]["draws"].startswith("inverse of the cumulated probabilities")
    # No more neighbours than clusters.
    assert (manifest["pool"]["clusters"]["n_clusters"], manifest["pool"]["clusters"]["n_neighbors"]) == (3, 3)
    assert {"lm", "embedder"} <= manifest["models"].keys()
    cost = manifest["cost"]["samples"]
    generations = table(tmp_path / "run", "generations")
    drawn = sum(sum(row["n_tokens"]) for row in generations)
    prompts = sum(row["n_prompt_tokens"] for row in generations)
    assert (cost["generation"]["new_tokens"], cost["generation"]["prompt_tokens"]) == (drawn, prompts)
    size = manifest["cost"]["parameters"]["lm"]
    weights = load_file(Path(manifest["config"]["lm"]) / "model.safetensors")
    # Its output projection is a table of its own.
    assert size == sum(weights[name].numel() for name in weights if name != "model.embed_tokens.weight")
    assert cost["generation"]["flops"] == 2 * size * (prompts + drawn - 5 * len(generations))
    assert manifest["seconds"]["generation"] == cost["generation"]["seconds"] > 0
    assert {"generation_embedding", "grouping", "estimation"} <= manifest["seconds"].keys()


def test_entailment_groups_with_the_question_in_front(
    sample: Sample, tiny_nli: Path, write_jsonl: WriteJsonl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from euds.measures.entailment import EntailmentModel

    asked: set[str] = set()

    def entails(self: EntailmentModel, premises: list[str], hypotheses: list[str]) -> np.ndarray:
        asked.update(premises)
        return np.array([len(left) % 3 == len(right) % 3 for left, right in zip(premises, hypotheses, strict=True)])

    pairs = write_jsonl(
        [{"q": f"was it {word}", "c": "the film was very sad"} for word in ("funny", "dull")], "p.jsonl"
    )
    settings = {"grouping": "entailment", "nli": str(tiny_nli), "template": "question"}
    real = sample("real", settings, inputs=pairs, text_field=["q", "c"], embedder=None)
    assert all(1 <= row["semantic_n_groups"] <= 5 for row in real)
    manifest = json.loads((tmp_path / "real" / "manifest.json").read_text())
    assert manifest["models"]["nli"]["dtype"] == "float32"
    cost = manifest["cost"]["samples"]["grouping"]
    assert 0 < cost["judged_pairs"] <= cost["all_pairs"] == 40
    assert cost["tokens"] > 0
    assert cost["truncated_pairs"] == 0
    monkeypatch.setattr(EntailmentModel, "entails", entails)
    sample("run", settings, inputs=pairs, text_field=["q", "c"], embedder=None)
    assert asked
    assert all(text.startswith(("was it funny ", "was it dull ")) for text in asked)
    for made, meant in zip(table(tmp_path / "run", "generations"), table(tmp_path / "run", "meanings"), strict=True):
        texts = [f"{made['question']} {text.strip()}" for text in made["text"]]
        blank = [not text.strip() for text in made["text"]]
        groups = reference.by_first_member(
            5,
            lambda i, j, t=texts, b=blank: b[i] == b[j] and len(t[i]) % 3 == len(t[j]) % 3,  # type: ignore[misc]
        )
        assert meant["group"] == groups


@pytest.mark.parametrize(
    ("settings", "template", "ends", "asks"),
    [
        ({}, "{text}", "end tokens", False),
        ({"grouping": "entailment", "nli": "x"}, "{text}", "end tokens", False),
        ({"template": "question"}, "{2}\n\nQuestion: {1}\nAnswer:", "end tokens or a line break", False),
        (
            {"template": "question", "grouping": "entailment", "nli": "x"},
            "{2}\n\nQuestion: {1}\nAnswer:",
            "end tokens or a line break",
            True,
        ),
    ],
)
def test_the_manifest_tells_how_answers_were_asked_for(
    settings: dict[str, Any], template: str, ends: str, asks: bool
) -> None:
    config = SimpleNamespace(samples=SampleSettings(**settings), label_words=None, text_fields=("q", "c"), seed=3)
    plan: Any = SimpleNamespace(config=config)
    facts = pool_facts(plan, Pool(None, None))["samples"]
    assert (facts["template"], facts["ends"], facts["question_in_front"]) == (template, ends, asks)


def test_labels_group_by_the_word_a_generation_begins_with(sample: Sample, tmp_path: Path) -> None:
    settings = {"grouping": "labels", "template": "labels", "labels": ("the", "film"), "n_generations": 40, "top_k": 0}
    scores = sample("run", settings, embedder=None)
    words = {"the": 0, "film": 1}
    found = set()
    for row, made, meant in zip(
        scores, table(tmp_path / "run", "generations"), table(tmp_path / "run", "meanings"), strict=True
    ):
        for text, group in zip(made["text"], meant["group"], strict=True):
            first = text.split()[0].strip(".,") if text.split() else ""
            if first in words:
                assert group == words[first]
                found.add(first)
            assert "\n" not in text
        assert row["semantic_n_groups"] == len(set(meant["group"]))
    assert found


def test_bad_rows_are_quarantined_and_never_score_zero(
    sample: Sample, tiny_lm: Path, write_jsonl: WriteJsonl, tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(tiny_lm, tmp_path / "broken"))
    weights = load_file(broken / "model.safetensors")
    tokenizer = ModelTokenizer(broken, None)
    (terrible,) = tokenizer.encode([" terrible"])[0].ids
    weights["model.embed_tokens.weight"][terrible] = torch.nan
    weights["lm_head.weight"] = load_file(tiny_lm / "model.safetensors")["lm_head.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    rows: list[object] = [
        {"text": ""},
        {"text": "the film was terrible"},
        {"text": None},
        "no object",
        {"text": "the film was sad"},
    ]
    # Greedy, so that the broken token is not drawn by chance.
    scores = sample("run", {"top_k": 1}, inputs=write_jsonl(rows, "bad.jsonl"), lm=broken)
    reasons = quarantine(tmp_path / "run")
    assert reasons[1] == "the model's logits are NaN or infinite"
    assert set(reasons) == {0, 1, 2, 3}
    for row in scores:
        for column in ("semantic_samples_discrete_nats", "semantic_samples_rao_blackwell_nats", "semantic_n_groups"):
            assert (row[column] is None) == (row["row_id"] in reasons)
    # Greedy generations are all one text: that is a score, and it is 0.
    assert scores[4]["semantic_samples_discrete_nats"] == 0
    assert scores[4]["semantic_n_groups"] == 1


def test_a_prompt_longer_than_the_context_is_cut_and_one_without_room_is_quarantined(
    sample: Sample, write_jsonl: WriteJsonl, tmp_path: Path
) -> None:
    long = write_jsonl([{"text": "the film was sad " * 200}, {"text": "the film"}], "long.jsonl")
    scores = sample("run", {"template": "{text} so it was"}, inputs=long)
    assert [row["truncated"] for row in scores] == [True, False]
    prompts = [row["n_prompt_tokens"] for row in table(tmp_path / "run", "generations")]
    assert 240 < prompts[0] <= 256 - 4
    sample("short", inputs=long, max_tokens=10)
    assert table(tmp_path / "short", "generations")[0]["n_prompt_tokens"] == 10
    sample("none", {"template": "{text}" + " and the film was sad" * 70}, inputs=long)
    assert set(quarantine(tmp_path / "none").values()) == {"the template alone is longer than a prompt may be"}
    with pytest.raises(InputError, match="choose fewer max_new_tokens"):
        sample("room", {"max_new_tokens": 256}, inputs=long)
    assert not (tmp_path / "room").exists()


def test_memory_that_runs_out_halves_the_batches(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = sample("whole", {"n_generations": 3})
    limit_memory(monkeypatch)
    rows = sample("small", {"n_generations": 3})
    too_long = {
        row["row_id"] for row in table(tmp_path / "whole", "generations") if row["n_prompt_tokens"] > MOST_TOKENS
    }
    assert too_long
    assert quarantine(tmp_path / "small") == dict.fromkeys(sorted(too_long), "out of memory on this row alone")
    for row, whole in zip(rows, expected, strict=True):
        if row["row_id"] not in too_long:
            assert row["semantic_samples_discrete_nats"] == whole["semantic_samples_discrete_nats"]


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_generation_whose_embedding_is_zero_or_nan_gives_its_row_no_score(
    sample: Sample, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    real, longest = Embedder.embed, 2

    def embed(self: Embedder, samples: Any) -> Any:
        vectors = real(self, samples)
        vectors[[len(ids) > longest for ids in samples]] = value
        return vectors

    monkeypatch.setattr(Embedder, "embed", embed)
    rows = sample("run", {"estimators": ("discrete",)})
    tokenizer = ModelTokenizer(tiny_encoder, 62)
    texts = {row["row_id"]: [text.strip() for text in row["text"]] for row in table(tmp_path / "run", "generations")}
    lost = [at for at, own in texts.items() if any(len(one.ids) > longest for one in tokenizer.encode(own))]
    assert 0 < len(lost) < len(rows)
    assert quarantine(tmp_path / "run") == dict.fromkeys(lost, "the embedding is NaN or zero")
    assert [row["row_id"] for row in rows if row["semantic_samples_discrete_nats"] is None] == lost


@pytest.mark.parametrize("estimator", ["discrete", "nearest_neighbor"])
def test_a_generation_without_tokens_is_empty_to_an_encoder_without_special_tokens(
    sample: Sample,
    tiny_encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    estimator: str,
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(tiny_encoder, bare)
    # BERT's own class would put [CLS] and [SEP] there again.
    for name, change in (("tokenizer", {"post_processor": None}), ("tokenizer_config", {"tokenizer_class": GENERAL})):
        content = json.loads((bare / f"{name}.json").read_text())
        (bare / f"{name}.json").write_text(json.dumps({**content, **change}))
    real = Generator.generate

    def generate(self: Generator, *arguments: Any, **named: Any) -> Generations:
        made = real(self, *arguments, **named)
        # What half a character decodes to is no token of the encoder; shards are of 8 rows.
        texts = [["film", "\ufffd", "film", "", "\ufffd"], *made.texts[1:]] if len(made.texts) == 8 else made.texts
        return replace(made, texts=texts)

    monkeypatch.setattr(Generator, "generate", generate)
    settings = {"estimators": (estimator,), "min_similarity": 0.99}
    rows = sample("run", settings, embedder=bare, token_budget=10_000)
    scored = [row["row_id"] for row in rows if row[f"semantic_samples_{estimator}_nats"] is not None]
    injected = [row["row_id"] for row in table(tmp_path / "run", "generations") if "\ufffd" in row["text"]]
    assert len(injected) == 2
    reasons = quarantine(tmp_path / "run")
    assert sorted([*scored, *reasons]) == list(range(21))
    if estimator == "discrete":
        assert reasons == {}
        for at in injected:
            assert rows[at]["semantic_samples_discrete_nats"] == pytest.approx(-(0.4 * np.log(0.4) + 0.6 * np.log(0.6)))
    else:
        # Random models draw half characters by themselves, too.
        assert reasons.keys() >= set(injected)
        assert set(reasons.values()) == {"a generation has no tokens to embed"}
