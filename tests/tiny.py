"""Texts and tiny random models, built in seconds without a network."""

import os
from pathlib import Path

import numpy as np

os.environ.setdefault("HF_HUB_OFFLINE", "1")

TEXT = (
    "the a film movie plot actor scene story is was felt seemed wonderful terrible dull bright funny sad long short "
    "very quite not never always almost ending opening music camera script director comedy drama thriller romance and "
    "but or with without about after before while because of in on at to from it they we i you critics audience"
)
WORDS = TEXT.split()


def make_texts(n: int, seed: int) -> list[str]:
    """Return n texts of 2 to 60 words with a Zipf-like choice of words."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(WORDS) + 1)
    weights /= weights.sum()
    return [" ".join(rng.choice(WORDS, size=int(rng.integers(2, 60)), p=weights)) for _ in range(n)]


def build_lm(folder: Path, hidden_size: int = 48) -> Path:
    """Save a random Llama of two layers with a byte-level BPE tokenizer that puts no BOS token."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(make_texts(200, 1), vocab_size=400, special_tokens=["<s>", "</s>"], show_progress=False)
    PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=bpe.get_vocab_size(),
        hidden_size=hidden_size,
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


def build_gpt2(folder: Path, lm: Path) -> Path:
    """Save a random GPT-2 of two layers, with learned positions, over the tokenizer of `build_lm`."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    tokenizer = AutoTokenizer.from_pretrained(lm)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(3)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=48, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=1, initializer_range=0.2
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def build_encoder(folder: Path) -> Path:
    """Save a random BERT of two layers with a WordPiece tokenizer over `WORDS`."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = dict.fromkeys([*special, *WORDS, *"abcdefghijklmnopqrstuvwxyz"])
    vocabulary = {token: at for at, token in enumerate(tokens)}
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
