"""A cached score is the one that was computed, of the same model and tokens; nothing damaged is ever trusted."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import islice, permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from test_score_resume import digests

import euds
from euds.engine.cache import _namespace
from euds.engine.read import Encoders
from euds.errors import InputError, InvalidArgument
from euds.files import write_atomic
from euds.measures.device import Precision
from euds.measures.generative import GenerativeScorer
from euds.measures.label_words import LabelWordScorer
from euds.measures.semantic import Embedder
from euds.measures.tokens import ModelTokenizer
from euds.pipeline.data import RunData
from euds.pipeline.demo import SENTIMENT
from euds.pipeline.recipe import load_recipe
from euds.pipeline.run import _score

WriteJsonl = Callable[..., Path]
Texts = Callable[[int, int], list[str]]
NOUNS = ("film", "plot", "actor", "scene", "story")
PLAIN = (*NOUNS, "was", "felt", "dull", "sad", "long", "very", "funny", "bright", "the", "a")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Texts that reached each real model."""
    counts: Counter[str] = Counter()

    def spy(owner: type, method: str, name: str) -> None:
        real = getattr(owner, method)

        def counted(self: Any, samples: Any) -> Any:
            # An encoder is tried on one token when it is loaded.
            counts[name] += len(samples) if list(map(list, samples)) != [[0]] else 0
            return real(self, samples)

        monkeypatch.setattr(owner, method, counted)

    spy(GenerativeScorer, "begin", "generative")
    spy(Embedder, "embed", "embedding")
    spy(LabelWordScorer, "score", "label_words")
    return counts


@pytest.fixture
def settings(tiny_lm: Path, tiny_encoder: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "lm": tiny_lm,
        "embedder": tiny_encoder,
        "n_clusters": 4,
        "shard_rows": 16,
        "cache": tmp_path / "cache",
    }


def cache_of(run_dir: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = json.loads((run_dir / "manifest.json").read_text())["cache"]
    return found


def cost_of(run_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_dir / "manifest.json").read_text())["cost"]
    return found


def rows_of(texts: list[str]) -> list[object]:
    return [{"text": text} for text in texts]


def test_a_run_that_finds_every_text_keeps_the_cache_within_its_limit(
    write_jsonl: WriteJsonl, make_texts: Texts, settings: dict[str, Any], tmp_path: Path, seen: dict[str, int]
) -> None:
    corpus = write_jsonl(rows_of(make_texts(20, 4)))
    euds.score(corpus, out=tmp_path / "first", **settings)
    assert list((tmp_path / "cache").glob("*/*.parquet"))
    seen.clear()
    euds.score(corpus, out=tmp_path / "second", **settings, cache_limit_gb=1e-9)
    assert seen == {}
    assert list((tmp_path / "cache").glob("*/*.parquet")) == []


def unlike_texts(n: int) -> list[str]:
    """Texts of which no two have the same tokens."""
    return [" ".join([*pair, *PLAIN[: at % 7]]) for at, pair in enumerate(islice(permutations(PLAIN, 2), n))]


def test_a_corpus_that_grew_by_a_row_costs_a_row(
    write_jsonl: WriteJsonl, tmp_path: Path, settings: dict[str, Any], seen: dict[str, int]
) -> None:
    texts = unlike_texts(100)
    euds.score(write_jsonl(rows_of(texts)), out=tmp_path / "before", **settings)
    assert seen == {"generative": 100, "embedding": 100}
    grown = write_jsonl(rows_of([*texts[:50], "one more film", *texts[50:]]), "grown.jsonl")
    euds.score(grown, out=tmp_path / "after", **settings)
    assert seen == {"generative": 101, "embedding": 101}
    assert cache_of(tmp_path / "after") == {
        "generative": {"hits": 100, "misses": 1},
        "embedding": {"hits": 100, "misses": 1},
    }
    before, after = (pq.read_table(tmp_path / name / "scores") for name in ("before", "after"))
    kept = [*range(50), *range(51, 101)]
    for column in ("generative_entropy_nats", "generative_entropy_max_nats", "nll_nats", "varentropy_nats2"):
        assert after.column(column).take(kept).to_pylist() == before.column(column).to_pylist()


def test_a_cold_cache_changes_no_byte_and_a_warm_one_repeats_it(
    write_jsonl: WriteJsonl, make_texts: Texts, tmp_path: Path, settings: dict[str, Any], seen: dict[str, int]
) -> None:
    rows = rows_of(unlike_texts(40))
    rows[3:3] = [{"text": None}, {"text": "of"}, "no object"]
    corpus = write_jsonl(rows)
    euds.score(corpus, out=tmp_path / "none", **{**settings, "cache": None})
    euds.score(corpus, out=tmp_path / "cold", **settings)
    before = dict(seen)
    euds.score(corpus, out=tmp_path / "warm", **settings)
    assert seen == before
    assert digests(tmp_path / "none") == digests(tmp_path / "cold") == digests(tmp_path / "warm")
    assert cache_of(tmp_path / "none") == {}
    none, cold, warm = (cost_of(tmp_path / name) for name in ("none", "cold", "warm"))
    assert none["clusters"]["embedding"]["tokens"] == cold["clusters"]["embedding"]["tokens"] > 0
    assert (warm["clusters"]["embedding"]["tokens"], warm["clusters"]["embedding"]["flops"]) == (0, 0)
    # Training reads the pool, whoever has embedded it.
    assert none["training_epoch"] == cold["training_epoch"] == warm["training_epoch"]


def test_records_of_a_version_that_told_no_cached_tokens_count_all(
    write_jsonl: WriteJsonl, tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, out = write_jsonl(rows_of(unlike_texts(40))), tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr("euds.engine.score.write_finished", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            euds.score(corpus, out=out, **settings)
    for path in (out / "work" / "records").glob("*.json"):
        record = json.loads(path.read_text())
        del record["cost"]["clusters"]["cached_tokens"]
        path.write_text(json.dumps(record))
    euds.score(corpus, out=out, **settings)
    euds.score(corpus, out=tmp_path / "whole", **{**settings, "cache": None})
    assert (
        cost_of(out)["clusters"]["embedding"]["tokens"]
        == cost_of(tmp_path / "whole")["clusters"]["embedding"]["tokens"]
    )


def test_label_words_are_kept_by_prompt_and_words(
    write_jsonl: WriteJsonl, tmp_path: Path, settings: dict[str, Any], seen: dict[str, int]
) -> None:
    def score(name: str, corpus: Path, *labels: str) -> list[float | None]:
        words = euds.LabelWordSettings(labels=labels)
        arguments = {**settings, "measures": ["semantic"], "semantic": "label_words", "label_words": words}
        euds.score(corpus, out=tmp_path / name, **arguments)
        found: list[float | None] = pq.read_table(tmp_path / name / "scores")["semantic_label_words_nats"].to_pylist()
        return found

    texts = unlike_texts(40)
    before = score("before", write_jsonl([*rows_of(texts), {"text": None}]), "good", "bad plot")
    after = score("after", write_jsonl(rows_of(["one more film", *texts]), "grown.jsonl"), "good", "bad plot")
    assert after[1:] == before[:40]
    assert before[40] is None
    assert seen["label_words"] == 41
    assert cache_of(tmp_path / "after") == {"label_words": {"hits": 40, "misses": 1}}
    spent, whole = (cost_of(tmp_path / name)["label_words"]["scoring"] for name in ("after", "before"))
    assert 0 < spent["prompt_tokens"] < whole["prompt_tokens"] / 20
    again = score("again", tmp_path / "grown.jsonl", "good", "bad plot")
    assert again == after
    assert cost_of(tmp_path / "again")["label_words"]["scoring"]["prompt_tokens"] == 0
    score("others", tmp_path / "grown.jsonl", "good", "terrible")
    assert seen["label_words"] == 41 + 41


def test_rows_without_a_score_are_not_kept(
    write_jsonl: WriteJsonl, tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = GenerativeScorer.begin

    def poisoned(self: GenerativeScorer, samples: Any) -> Any:
        scores = real(self, samples)()
        scores.nll[[len(sample) > 40 for sample in samples]] = np.nan
        return lambda: scores

    texts = [*unlike_texts(20), " ".join(["plot"] * 50)]
    corpus = write_jsonl([*rows_of(texts), {"text": None}, {"text": "a"}])
    with monkeypatch.context() as patched:
        patched.setattr(GenerativeScorer, "begin", poisoned)
        euds.score(corpus, out=tmp_path / "poisoned", **settings)
    stored = [pq.read_table(path) for path in (tmp_path / "cache").glob("generative-*/*.parquet")]
    assert sum(table.num_rows for table in stored) == 20
    again = euds.score(corpus, out=tmp_path / "again", **settings)
    assert (again.n_scored, again.n_quarantined) == (21, 2)
    assert cache_of(tmp_path / "again")["generative"] == {"hits": 20, "misses": 2}


def test_texts_with_the_same_tokens_are_computed_once(
    write_jsonl: WriteJsonl, tmp_path: Path, settings: dict[str, Any], seen: dict[str, int]
) -> None:
    corpus = write_jsonl(rows_of(["the film was sad", "a dull plot", "the film was sad"] * 30))
    euds.score(corpus, out=tmp_path / "run", **settings)
    assert seen == {"generative": 2, "embedding": 2}
    values = pq.read_table(tmp_path / "run" / "scores").column("nll_nats").to_pylist()
    assert values == values[:3] * 30
    assert values[0] == values[2] != values[1]


def test_another_dtype_model_or_tokenizer_is_another_namespace(
    write_jsonl: WriteJsonl, tmp_path: Path, tiny_lm: Path, settings: dict[str, Any], seen: dict[str, int]
) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    corpus = write_jsonl(rows_of(unlike_texts(10)))
    generative = {**settings, "measures": ["generative"]}
    other = tmp_path / "other-lm"
    shutil.copytree(tiny_lm, other)
    weights = load_file(other / "model.safetensors")
    save_file({name: weight * 1.5 for name, weight in weights.items()}, other / "model.safetensors", {"format": "pt"})
    retold = tmp_path / "retold-lm"
    shutil.copytree(tiny_lm, retold)
    (retold / "special_tokens_map.json").write_text("{}")
    euds.score(corpus, out=tmp_path / "first", **generative)
    changes: list[dict[str, Any]] = [{"dtype": "bfloat16"}, {"lm": other}, {"lm": retold}]
    for at, change in enumerate(changes, 2):
        euds.score(corpus, out=tmp_path / f"run{at}", **{**generative, **change})
        assert seen["generative"] == 10 * at
    assert len(list((tmp_path / "cache").glob("generative-*"))) == 4
    first, second = (pq.read_table(tmp_path / name / "scores").column("nll_nats") for name in ("first", "run3"))
    assert first != second
    # A shorter reading limit gives other tokens of long texts only.
    euds.score(corpus, out=tmp_path / "short", **generative, max_tokens=200)
    assert seen["generative"] == 40


def test_a_kind_of_device_and_the_dtype_of_its_logits_name_a_namespace(
    monkeypatch: pytest.MonkeyPatch, tiny_lm: Path
) -> None:
    encoders, model = Encoders(ModelTokenizer(tiny_lm, 100), None), {"sha256": "a", "tokenizer_sha256": "b"}

    def named(stage: str, device: str, logits: torch.dtype = torch.float32) -> dict[str, Any]:
        monkeypatch.setattr("euds.measures.device.logits_dtype", lambda *_: logits)
        return _namespace(stage, model, Precision(device, "float32"), encoders)

    for stage in ("generative", "embeddings"):
        assert named(stage, "cpu") != named(stage, "cuda") == named(stage, "cuda:1")
    assert named("generative", "cuda") != named("generative", "cuda", torch.bfloat16)


@pytest.mark.parametrize("stage", ["generative", "embeddings"])
def test_no_damaged_segment_is_trusted(
    write_jsonl: WriteJsonl,
    tmp_path: Path,
    settings: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    stage: str,
) -> None:
    corpus = write_jsonl(rows_of(unlike_texts(12)))
    euds.score(corpus, out=tmp_path / "whole", **settings)
    (segment,) = (tmp_path / "cache").glob(f"{stage}-*/*.parquet")
    content = segment.read_bytes()
    segment.write_bytes(content[: len(content) // 2])
    euds.score(corpus, out=tmp_path / "truncated", **settings)
    assert digests(tmp_path / "truncated") == digests(tmp_path / "whole")
    assert f"{segment}: damaged, removed from the cache" in capsys.readouterr().err
    assert not segment.exists()


def test_a_run_keeps_the_cache_within_its_limit(
    write_jsonl: WriteJsonl, tmp_path: Path, settings: dict[str, Any]
) -> None:
    corpus = write_jsonl(rows_of(unlike_texts(200)))
    euds.score(corpus, out=tmp_path / "run", **settings, cache_limit_gb=2e-5)
    sizes = [path.stat().st_size for path in (tmp_path / "cache").rglob("*.parquet")]
    assert 0 < sum(sizes) <= 20_000


def test_a_cache_in_a_folder_of_other_files_leaves_them_alone(
    write_jsonl: WriteJsonl, tmp_path: Path, settings: dict[str, Any]
) -> None:
    corpus = write_jsonl(rows_of(unlike_texts(3)))
    foreign = [tmp_path / "cache" / "data" / name for name in ("corpus.parquet", ".corpus.parquet.1-2.partial")]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not of the cache")
        os.utime(path, (0, 0))
    euds.score(corpus, out=tmp_path / "cache" / "run", **settings, cache_limit_gb=1e-9)
    assert [path.read_bytes() for path in foreign] == [b"not of the cache"] * 2
    assert list((tmp_path / "cache" / "run" / "scores").glob("part-*.parquet"))
    assert not [path for path in (tmp_path / "cache").glob("*/*.parquet") if path.parent.name not in ("data", "run")]


def test_impossible_caches_are_refused(write_jsonl: WriteJsonl, tmp_path: Path, settings: dict[str, Any]) -> None:
    corpus = write_jsonl(rows_of(unlike_texts(3)))
    with pytest.raises(InvalidArgument, match="cache_limit_gb: must be finite and above 0, got 0"):
        euds.score(corpus, out=tmp_path / "run", **settings, cache_limit_gb=0)
    with pytest.raises(InvalidArgument, match="cache_limit_gb: is the size of a cache; name its folder"):
        euds.score(corpus, out=tmp_path / "run", **{**settings, "cache": None}, cache_limit_gb=1)
    with pytest.raises(InvalidArgument, match="cache: must be a local path, got s3://bucket/c"):
        euds.score(corpus, out=tmp_path / "run", **{**settings, "cache": "s3://bucket/c"})
    with pytest.raises(InvalidArgument, match="cache: is empty; name a folder"):
        euds.score(corpus, out=tmp_path / "run", **{**settings, "cache": ""})
    with pytest.raises(InputError, match="is a file; --cache names a folder"):
        euds.score(corpus, out=tmp_path / "run", **{**settings, "cache": corpus})
    assert not (tmp_path / "run").exists()
    euds.score(corpus, out=tmp_path / "run", **settings, dry_run=True)
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_does_not_end_a_run_that_has_begun(
    write_jsonl: WriteJsonl,
    tmp_path: Path,
    settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    corpus = write_jsonl(rows_of(unlike_texts(3)))
    with pytest.raises(InputError, match="no cache can be kept there: Not a directory"):
        euds.score(corpus, out=tmp_path / "none", **{**settings, "cache": corpus / "below"})

    def full(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("euds.engine.segments.pq", SimpleNamespace(**{**vars(pq), "write_table": full}))
    result = euds.score(corpus, out=tmp_path / "run", **settings)
    assert result.n_scored == 3
    assert "scores could not be cached" in (said := capsys.readouterr().err)
    assert "No space left on device" in said
    # Not even its folder.
    monkeypatch.setattr("euds.engine.cache.write_json", lambda path, facts: write_atomic(path, full))
    assert euds.score(corpus, out=tmp_path / "other", **{**settings, "cache": tmp_path / "full"}).n_scored == 3
    assert "scores could not be cached" in capsys.readouterr().err


def test_a_recipe_names_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(SENTIMENT, ["score.cache=kept"])
    passed: dict[str, Any] = {}
    monkeypatch.setattr("euds.pipeline.run.score", lambda *_, **named: passed.update(named))
    _score(recipe, RunData(Path("a"), Path("b"), {}), dry_run=True)
    assert passed["cache"] == "kept"


@pytest.mark.slow
def test_the_processes_of_a_run_share_a_cache(
    write_jsonl: WriteJsonl, tmp_path: Path, settings: dict[str, Any]
) -> None:
    corpus = write_jsonl(rows_of(unlike_texts(60)))
    euds.score(corpus, out=tmp_path / "two", **settings, workers=2)
    euds.score(corpus, out=tmp_path / "warm", **settings, workers=2)
    euds.score(corpus, out=tmp_path / "one", **{**settings, "cache": None})
    assert cache_of(tmp_path / "two")["generative"] == {"hits": 0, "misses": 60}
    assert cache_of(tmp_path / "warm")["generative"] == {"hits": 60, "misses": 0}
    assert digests(tmp_path / "two") == digests(tmp_path / "warm") == digests(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_run_with_a_cache_resumes_to_the_same_bytes(
    write_jsonl: WriteJsonl, make_texts: Texts, tmp_path: Path, settings: dict[str, Any]
) -> None:
    # Repeated texts: what a killed run has cached must not give a text another score than the uninterrupted run does.
    texts = make_texts(150, 3)
    corpus = write_jsonl(rows_of([*texts, *texts[::3], *texts[:20]]))
    euds.score(corpus, out=tmp_path / "whole", **{**settings, "cache": tmp_path / "cache-whole"})
    run_dir = tmp_path / "killed"
    command = [sys.executable, "-m", "euds", "score", str(corpus), "--out", str(run_dir)]
    for name, value in settings.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    for attempt in range(3):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and len(list(run_dir.rglob("*.arrow"))) < 10 * (attempt + 1):
            time.sleep(0.002)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    euds.score(corpus, out=run_dir, **settings)
    assert digests(run_dir) == digests(tmp_path / "whole")
