"""How many numbers of a model every token meets, against the modules of transformers themselves."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

from euds.measures.parameters import parameter_count, parameters_met
from euds.study.grid.costs import BERT_BASE_PARAMETERS, PARAMETERS_MET


def write_header(folder: Path, shapes: dict[str, list[int]]) -> Path:
    """Write a safetensors file of such tensors, without their numbers."""
    folder.mkdir()
    header = json.dumps({name: {"shape": shape} for name, shape in shapes.items()}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return folder


def bert(folder: Path, **settings: int) -> Path:
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    with torch.device("meta"):
        model = transformers.BertModel(transformers.BertConfig(**settings))
    return write_header(folder, {name: list(weight.shape) for name, weight in model.state_dict().items()})


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
    assert parameters_met(write_header(tmp_path / "head", body | heads), causal=False) == 16


def test_what_cannot_be_told_is_none(tmp_path: Path) -> None:
    assert parameters_met(tmp_path, causal=True) is None
    folder = tiny.build_encoder(tmp_path / "encoder")
    (folder / "model.safetensors").write_bytes(b"")
    assert parameters_met(folder, causal=False) is None
