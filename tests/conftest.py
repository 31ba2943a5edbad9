"""Tiny real models and texts that every test can use; nothing here reaches a network."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

TEXT = (
    "the a film movie plot actor scene story is was felt seemed wonderful terrible dull bright funny sad long short "
    "very quite not never always almost ending opening music camera script director comedy drama thriller romance and "
    "but or with without about after before while because of in on at to from it they we i you critics audience"
)
WORDS = TEXT.split()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` where there is none, unless EUDS_REQUIRE_GPU=1 makes that a failure."""
    if os.environ.get("EUDS_REQUIRE_GPU") == "1" or not any(item.get_closest_marker("gpu") for item in items):
        return
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def make_texts() -> Callable[[int, int], list[str]]:
    """Return a function (n, seed) -> n texts of 2 to 60 words with a Zipf-like choice of words."""
    import numpy as np

    def make(n: int, seed: int) -> list[str]:
        rng = np.random.default_rng(seed)
        weights = 1 / np.arange(1, len(WORDS) + 1)
        weights /= weights.sum()
        return [" ".join(rng.choice(WORDS, size=int(rng.integers(2, 60)), p=weights)) for _ in range(n)]

    return make


@pytest.fixture(scope="session")
def tiny_lm(tmp_path_factory: pytest.TempPathFactory, make_texts: Callable[[int, int], list[str]]) -> Path:
    """A random Llama of two layers with a byte-level BPE tokenizer that puts no BOS token."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-lm")
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(make_texts(200, 1), vocab_size=400, special_tokens=["<s>", "</s>"], show_progress=False)
    PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=bpe.get_vocab_size(),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers with a WordPiece tokenizer over `WORDS`."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("tiny-encoder")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {
        token: at for at, token in enumerate([*special, *dict.fromkeys(WORDS), *"abcdefghijklmnopqrstuvwxyz"])
    }
    BertTokenizer(vocab=vocabulary, model_max_length=64).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(folder)
    return folder


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
