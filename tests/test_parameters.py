"""How many numbers of a model every token meets, against the modules of transformers themselves."""

import json
import os
import struct
from collections.abc import Callable
from itertools import accumulate, pairwise
from math import prod
from pathlib import Path
from typing import Any

import pytest
import tiny

from euds.measures.parameters import parameter_count, parameters_met
from euds.study.grid.costs import BERT_BASE_PARAMETERS, PARAMETERS_MET


def write_zeros(folder: Path, shapes: dict[str, list[int]]) -> Path:
    """Write a safetensors file of such tensors, their numbers a hole that takes no room."""
    folder.mkdir()
    ends = [0, *accumulate(prod(shape) for shape in shapes.values())]
    entries = zip(shapes.items(), pairwise(ends), strict=True)
    header = json.dumps({name: {"dtype": "I8", "shape": shape, "data_offsets": at} for (name, shape), at in entries})
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode())
    os.truncate(path, path.stat().st_size + ends[-1])
    return folder


def bert(folder: Path, **settings: int) -> Path:
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    with torch.device("meta"):
        model = transformers.BertModel(transformers.BertConfig(**settings))
    return write_zeros(folder, {name: list(weight.shape) for name, weight in model.state_dict().items()})


def test_the_study_and_the_engine_count_alike(tmp_path: Path) -> None:
    small = bert(
        tmp_path / "small", hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    assert parameter_count(small) == 22_713_216
    assert parameters_met(small, causal=False) == PARAMETERS_MET["all-minilm-l6-v2"]
    assert parameters_met(bert(tmp_path / "base"), causal=False) == BERT_BASE_PARAMETERS


def llama(folder: Path, tied: bool) -> Any:
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 8, "num_attention_heads": 2}
    config = transformers.LlamaConfig(num_hidden_layers=1, tie_word_embeddings=tied, **sizes)
    model = transformers.LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return model


def gpt2(folder: Path, tied: bool) -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, tie_word_embeddings=tied)
    model = transformers.GPT2LMHeadModel(config)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("build", [llama, gpt2])
def test_a_causal_lm_keeps_its_output_projection(
    tmp_path: Path, build: Callable[[Path, bool], Any], tied: bool
) -> None:
    from torch import nn

    model = build(tmp_path, tied)
    looked_up = sum(found.weight.numel() for found in model.modules() if isinstance(found, nn.Embedding))
    whole = sum(weight.numel() for weight in model.parameters())
    output = model.get_output_embeddings().weight.numel()
    assert parameter_count(tmp_path) == whole
    assert parameters_met(tmp_path, causal=True) == whole - looked_up + (output if tied else 0)


def test_a_head_that_works_once_a_text_is_left_out(tmp_path: Path) -> None:
    body = {"bert.encoder.layer.0.output.dense.weight": [4, 4]}
    heads = {"classifier.weight": [3, 4], "bert.pooler.dense.weight": [4, 4], "cls.predictions.bias": [9]}
    assert parameters_met(write_zeros(tmp_path / "head", body | heads), causal=False) == 16


def test_a_sentence_encoder_leaves_the_decoder_out(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from torch import nn

    sizes = {"vocab_size": 50, "d_model": 16, "d_kv": 4, "d_ff": 8, "num_heads": 4}
    model = transformers.T5Model(transformers.T5Config(num_layers=1, **sizes))
    model.save_pretrained(tmp_path)
    encoder = model.encoder
    looked_up = sum(found.weight.numel() for found in encoder.modules() if isinstance(found, nn.Embedding))
    met = sum(weight.numel() for weight in encoder.parameters()) - looked_up
    assert parameters_met(tmp_path, causal=False, encoder_alone=True) == met
    # The decoder has cross-attention, too; a judge that reads with both meets all of it.
    assert parameters_met(tmp_path, causal=False) > 2 * met
    transformers.T5EncoderModel.from_pretrained(tmp_path).save_pretrained(tmp_path)
    assert parameters_met(tmp_path, causal=False, encoder_alone=True) == met


def test_what_cannot_be_told_is_none(tmp_path: Path) -> None:
    assert parameters_met(tmp_path, causal=True) is None
    folder = tiny.build_encoder(tmp_path / "encoder")
    (folder / "model.safetensors").write_bytes(b"")
    assert parameters_met(folder, causal=False) is None
