"""Tiny real models and texts that every test can use; nothing here reaches a network."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sampled_runs
import tiny
import tiny_study

import euds

if TYPE_CHECKING:
    # Every test loads this file, and few need SciPy.
    from euds.study.grid.summary import TaskSummary


def pytest_configure() -> None:
    """Drop Numba's machine code that is older than a kernel's source.

    Numba compares a cached function with its own file alone, not with the files of the functions that it has inlined.
    """
    kernels = Path(euds.__file__).parent / "kernels"
    newest = max(source.stat().st_mtime for source in kernels.glob("*_numba.py"))
    for index in (kernels / "__pycache__").glob("*.nbi"):
        # Another process of the tests may be at it, too.
        with suppress(FileNotFoundError):
            if index.stat().st_mtime < newest:
                index.unlink()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` where there is none, unless EUDS_REQUIRE_GPU=1 makes that a failure."""
    if os.environ.get("EUDS_REQUIRE_GPU") == "1" or not any(item.get_closest_marker("gpu") for item in items):
        return
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compute in one thread, as workers that share two cores do; sums in more threads differ in their last bits."""
    import torch

    threads = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def make_texts() -> Callable[[int, int], list[str]]:
    """Return a function (n, seed) -> n texts of 2 to 60 words with a Zipf-like choice of words."""
    return tiny.make_texts


@pytest.fixture(scope="session")
def tiny_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers with a byte-level BPE tokenizer that puts no BOS token."""
    return tiny.build_lm(tmp_path_factory.mktemp("tiny-lm"))


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory, tiny_lm: Path) -> Path:
    """A random GPT-2 of two layers, with learned positions, over the tokenizer of the tiny Llama."""
    return tiny.build_gpt2(tmp_path_factory.mktemp("tiny-gpt2"), tiny_lm)


@pytest.fixture(params=["llama", "gpt2"])
def lm_folder(request: pytest.FixtureRequest, tiny_lm: Path, tiny_gpt2: Path) -> Path:
    """Both of the tiny language models, one after the other."""
    return tiny_lm if request.param == "llama" else tiny_gpt2


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers with a WordPiece tokenizer over `tiny.WORDS`."""
    return tiny.build_encoder(tmp_path_factory.mktemp("tiny-encoder"))


@pytest.fixture(scope="session")
def tiny_nli(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    """A random BERT of two layers with MNLI's labels, over the encoder's tokenizer; 64 positions."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("tiny-nli")
    labels = {0: "contradiction", 1: "neutral", 2: "entailment"}
    config = BertConfig.from_pretrained(tiny_encoder, id2label=labels, initializer_range=0.6)
    torch.manual_seed(7)
    BertForSequenceClassification(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_encoder / name, folder)
    return folder


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Return a function (rows, name="corpus.jsonl") -> path of a JSONL file with those rows."""

    def write(rows: Sequence[object], name: str = "corpus.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def corpus(write_jsonl: Callable[..., Path], make_texts: Callable[[int, int], list[str]]) -> Path:
    """150 texts with ids, and two bad rows among them."""
    rows: list[object] = [{"text": text, "uid": f"u{at}"} for at, text in enumerate(make_texts(150, 4))]
    rows[7:7] = [{"text": None, "uid": "bad"}, "no object"]
    return write_jsonl(rows)


@pytest.fixture
def whole(corpus: Path, tmp_path: Path) -> Path:
    """The directory of a run over `corpus` in one go, information entropy in shards of 16 rows."""
    euds.score(corpus, out=tmp_path / "whole", measures=["information"], shard_rows=16)
    return tmp_path / "whole"


@pytest.fixture
def sample_corpus(write_jsonl: Callable[..., Path], make_texts: Callable[[int, int], list[str]]) -> Path:
    """21 texts with two labels."""
    return write_jsonl([{"text": text, "label": at % 2} for at, text in enumerate(make_texts(21, 7))])


@pytest.fixture
def sample(sample_corpus: Path, tiny_lm: Path, tiny_encoder: Path, tmp_path: Path) -> sampled_runs.Sample:
    """Return a function (name, settings, **arguments) that samples generations into tmp_path/name; see its type."""
    import euds
    from euds.corpus import read_scores

    def run(name: str, settings: dict[str, Any] | None = None, **arguments: Any) -> list[dict[str, Any]]:
        given = {"inputs": sample_corpus, "lm": tiny_lm, "embedder": tiny_encoder, "measures": ["semantic"]}
        samples = euds.SampleSettings(**{**sampled_runs.SMALL, **(settings or {})})
        merged = {**given, "shard_rows": 8, "semantic": "samples", **arguments}
        euds.score(**merged, out=tmp_path / name, samples=samples)
        rows: list[dict[str, Any]] = read_scores(tmp_path / name).to_pylist()
        return rows

    return run


@pytest.fixture
def study(tmp_path: Path, write_jsonl: Callable[..., Path], tiny_lm: Path, tiny_encoder: Path) -> dict[str, Any]:
    """The content of a study's file, its data written; see `tiny_study`."""
    return tiny_study.make_study(write_jsonl, tmp_path, tiny_lm, tiny_encoder)


@pytest.fixture(scope="session")
def planted() -> "TaskSummary":
    """The summary of a grid whose truth is known, random's choice and training crossed; see `planted_grid`."""
    from planted_grid import N_RESAMPLES, make_task

    from euds.study.grid.summary import summarise

    return summarise(make_task(block=3), n_resamples=N_RESAMPLES)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of the models that are loaded from here on, in order."""
    from euds.measures import causal_lm, models, semantic

    kinds: list[str] = []

    def counted(auto_class: Any, folder: Path, precision: Any, kind: str, **options: Any) -> Any:
        kinds.append(kind)
        return models.load_model(auto_class, folder, precision, kind, **options)

    monkeypatch.setattr(causal_lm, "load_model", counted)
    monkeypatch.setattr(semantic, "load_model", counted)
    return kinds
