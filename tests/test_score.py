"""Scoring end to end with tiny real models: values against transformers and scipy, batches, sharding, records."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.stats
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import euds
from euds.corpus import read_scores
from euds.errors import InputError
from euds.ops.cluster import fit_centroids

Texts = Callable[[int, int], list[str]]
WriteJsonl = Callable[..., Path]


@pytest.fixture
def corpus(write_jsonl: WriteJsonl, make_texts: Texts) -> Path:
    return write_jsonl([{"text": text, "label": at % 2} for at, text in enumerate(make_texts(50, 7))])


def scores_of(run_dir: Path, column: str) -> np.ndarray:
    values: np.ndarray = read_scores(run_dir).column(column).to_numpy()
    return values


def test_generative_scores_equal_float64_on_full_logits(corpus: Path, tiny_lm: Path, tmp_path: Path) -> None:
    euds.score(corpus, out=tmp_path / "run", measures=["generative"], lm=tiny_lm)
    table = read_scores(tmp_path / "run")
    tokenizer = AutoTokenizer.from_pretrained(tiny_lm)
    model = AutoModelForCausalLM.from_pretrained(tiny_lm, dtype=torch.float32).eval()
    texts = [json.loads(line)["text"] for line in corpus.read_text().splitlines()]
    for text, row in zip(texts, table.to_pylist(), strict=True):
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.inference_mode():
            output = model(input_ids=ids, labels=ids)
        logits = output.logits[0, :-1].double()
        logp = torch.log_softmax(logits, -1)
        entropy = -(logp.exp() * logp).sum(-1)
        varentropy = (logp.exp() * (logp + entropy[:, None]) ** 2).sum(-1)
        assert row["generative_entropy_nats"] == pytest.approx(entropy.mean().item(), abs=1e-4)
        assert row["generative_entropy_max_nats"] == pytest.approx(entropy.max().item(), abs=1e-4)
        assert row["varentropy_nats2"] == pytest.approx(varentropy.mean().item(), abs=1e-3)
        assert row["nll_nats"] == pytest.approx(output.loss.item(), abs=1e-4)
        assert row["n_tokens"] == ids.shape[1]
        assert row["n_scored_tokens"] == ids.shape[1] - 1
        assert row["n_bytes"] == len(text.encode())


@pytest.mark.parametrize("budget", [1, 37, 100_000])
def test_scores_do_not_depend_on_the_batch(
    corpus: Path, tiny_lm: Path, tiny_encoder: Path, tmp_path: Path, budget: int
) -> None:
    for name, tokens in (("reference", 64), ("other", budget)):
        euds.score(corpus, out=tmp_path / name, lm=tiny_lm, embedder=tiny_encoder, token_budget=tokens, n_clusters=4)
    for column in ("generative_entropy_nats", "nll_nats", "varentropy_nats2", "semantic_entropy_nats"):
        difference = np.abs(scores_of(tmp_path / "reference", column) - scores_of(tmp_path / "other", column))
        assert difference.max() < 1e-4


def test_information_entropy_of_words_equals_scipy_and_needs_no_model(corpus: Path, tmp_path: Path) -> None:
    euds.score(corpus, out=tmp_path / "run", measures=["information"], shard_rows=16)
    texts = [json.loads(line)["text"].split() for line in corpus.read_text().splitlines()]
    pool, pool_counts = np.unique([word for words in texts for word in words], return_counts=True)
    smoothed = dict(zip(pool, np.log((pool_counts + 1) / (pool_counts.sum() + len(pool))), strict=True))
    table = read_scores(tmp_path / "run").to_pylist()
    for words, row in zip(texts, table, strict=True):
        _, counts = np.unique(words, return_counts=True)
        assert row["information_entropy_nats"] == pytest.approx(scipy.stats.entropy(counts), abs=1e-5)
        assert row["surprisal_nats"] == pytest.approx(-np.mean([smoothed[word] for word in words]), abs=1e-5)
        assert row["n_tokens"] == len(words)
    unigram = json.loads((tmp_path / "run" / "manifest.json").read_text())["pool"]["unigram"]
    assert (unigram["unit"], unigram["tokens"]) == ("word", pool_counts.sum())


def test_semantic_entropy_is_within_its_range_and_does_not_depend_on_shards(
    corpus: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    for name, shard_rows in (("one", 1000), ("many", 7)):
        euds.score(
            corpus,
            out=tmp_path / name,
            measures=["semantic"],
            embedder=tiny_encoder,
            n_clusters=5,
            n_neighbors=3,
            shard_rows=shard_rows,
        )
    one, many = (scores_of(tmp_path / name, "semantic_entropy_nats") for name in ("one", "many"))
    assert np.abs(one - many).max() < 1e-4
    assert one.min() >= 0
    assert one.max() <= np.log(3) + 1e-6
    assert np.ptp(one) > 0


def test_pairs_are_scored_as_one_text(write_jsonl: WriteJsonl, tiny_lm: Path, tmp_path: Path) -> None:
    pairs = write_jsonl([{"question": "was it funny", "context": "the film was very sad"}], "pairs.jsonl")
    joined = write_jsonl([{"text": "was it funny\nthe film was very sad"}], "joined.jsonl")
    euds.score(pairs, out=tmp_path / "a", text_field=["question", "context"], measures=["generative"], lm=tiny_lm)
    euds.score(joined, out=tmp_path / "b", measures=["generative"], lm=tiny_lm)
    assert scores_of(tmp_path / "a", "nll_nats") == scores_of(tmp_path / "b", "nll_nats")


def test_a_model_that_does_not_state_its_context_needs_a_limit(
    tiny_lm: Path, tmp_path: Path, write_jsonl: WriteJsonl
) -> None:
    folder = Path(shutil.copytree(tiny_lm, tmp_path / "unstated"))
    config = json.loads((folder / "config.json").read_text())
    del config["max_position_embeddings"]
    (folder / "config.json").write_text(json.dumps(config))
    corpus = write_jsonl([{"text": "the film was sad"}])
    with pytest.raises(InputError, match="states no context length; give --max-tokens"):
        euds.score(corpus, out=tmp_path / "run", measures=["generative"], lm=folder)
    assert euds.score(corpus, out=tmp_path / "run", measures=["generative"], lm=folder, max_tokens=64).n_scored == 1


def test_a_tokenizer_with_bos_scores_the_first_token(tiny_lm: Path, tmp_path: Path, write_jsonl: WriteJsonl) -> None:

    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    folder = Path(shutil.copytree(tiny_lm, tmp_path / "with-bos"))
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    backend.save(str(folder / "tokenizer.json"))
    # The last one is longer than the model reads: 255 of its tokens and the BOS token fill the 256 places.
    corpus = write_jsonl([{"text": "the"}, {"text": "the film was sad"}, {"text": "the film " * 300}])
    result = euds.score(corpus, out=tmp_path / "run", measures=["generative"], lm=folder)
    table = read_scores(tmp_path / "run").to_pylist()
    assert (result.n_quarantined, result.n_truncated) == (0, 1)
    assert [row["n_scored_tokens"] for row in table] == [row["n_tokens"] for row in table]
    assert table[-1]["n_tokens"] == 255
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["models"]["lm"]["first_token_rule"].startswith("scored after the BOS token")
    assert manifest["models"]["lm"]["max_tokens"] == 255


def test_label_and_source_are_carried_and_the_manifest_accounts_for_everything(
    write_jsonl: WriteJsonl, make_texts: Texts, tiny_lm: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    rows = [
        {"text": text, "label": "good", "source": "synthetic" if at % 3 else "original"}
        for at, text in enumerate(make_texts(20, 3))
    ]
    corpus = write_jsonl(rows)
    result = euds.score(corpus, out=tmp_path / "run", lm=tiny_lm, embedder=tiny_encoder, shard_rows=8)
    table = read_scores(tmp_path / "run")
    assert table.column("source").to_pylist() == [row["source"] for row in rows]
    assert set(table.column("label").to_pylist()) == {"good"}
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["counts"] == {
        "rows": 20,
        "scored": 20,
        "quarantined": 0,
        "truncated": 0,
        "tokens": sum(table.column("n_tokens").to_pylist()),
    }
    assert result.n_tokens == manifest["counts"]["tokens"]
    assert manifest["inputs"][0]["rows"] == 20
    assert manifest["seconds"]["total"] == pytest.approx(
        sum(value for stage, value in manifest["seconds"].items() if stage != "total"), abs=0.01
    )
    assert manifest["models"]["lm"]["dtype"] == "float32"
    assert manifest["models"]["lm"]["first_token_rule"].startswith("not scored")
    assert manifest["models"]["embedder"]["max_tokens"] == 62
    unigram = manifest["pool"]["unigram"]
    assert (unigram["unit"], unigram["tokens"]) == ("token", result.n_tokens)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "manifest.json",
        "quarantine.jsonl",
        "scores",
    ]
    assert pq.read_schema(tmp_path / "run" / "scores" / "part-00000.parquet").field("nll_nats").type == "float"


def test_clusters_are_fitted_to_a_sample_of_the_pool_by_the_seed(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[object] = [{"text": text} for text in make_texts(40, 6)]
    rows[9:9] = [{"text": None}, "no object"]
    corpus = write_jsonl(rows)
    seen: list[np.ndarray] = []

    def fit(sample: np.ndarray, **settings: Any) -> np.ndarray:
        seen.append(sample)
        return fit_centroids(sample, **settings)

    monkeypatch.setattr("euds.engine.pool.fit_centroids", fit)
    settings: dict[str, Any] = {"measures": "semantic", "embedder": tiny_encoder, "n_clusters": 3, "shard_rows": 8}
    euds.score(corpus, out=tmp_path / "whole", **settings)
    monkeypatch.setattr("euds.engine.pool.trained_rows", lambda n_clusters: 4 * n_clusters)
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        euds.score(corpus, out=tmp_path / name, seed=seed, **settings)
    pool, first, again, other = (set(map(bytes, sample)) for sample in seen)
    assert [len(sample) for sample in seen] == [40, 12, 12, 12]
    # Each row once, of all shards, and none of the two that have no embedding.
    assert len(pool) == 40
    assert len(first) == len(other) == 12
    assert first | other <= pool
    assert first == again != other
