"""Causal LMs of several families: scores equal float64 statistics of the model's own logits, packed or padded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM

from euds.errors import InputError
from euds.measures import generative, packing
from euds.measures.causal_lm import CausalLM
from euds.measures.device import precision
from euds.measures.generative import GenerativeScorer
from euds.measures.packing import LARGEST_BLOCK, PROBE_LENGTHS, PaddedLayout
from euds.reference import entropy as reference

VOCABULARY = 211
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "llama": SHAPE,
    "qwen2": SHAPE,
    "qwen3": {**SHAPE, "head_dim": 8},
    "mistral": {**SHAPE, "sliding_window": 4},
    "gemma2": {**SHAPE, "head_dim": 8, "sliding_window": 64, "final_logit_softcapping": 2.0},
    "gpt_neox": {**SHAPE, "num_key_value_heads": None},
    "granite": {**SHAPE, "logits_scaling": 0.5, "attention_multiplier": 0.35},
    "cohere": {**SHAPE, "logit_scale": 2.0},
    "llama4_text": {
        **SHAPE,
        "head_dim": 8,
        "num_local_experts": 2,
        "intermediate_size_mlp": 48,
        "pad_token_id": 0,
        "attention_chunk_size": 8,
    },
}
PACKED = {"gpt2", "llama", "qwen2", "qwen3", "gpt_neox", "granite", "cohere"}
"""Mistral, Gemma 2 and Llama 4 look through a window or at chunks, which packed texts have no place for."""


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(family: str, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    settings = {name: value for name, value in FAMILIES[family].items() if value is not None}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings))
    with torch.no_grad():
        for parameter in model.parameters():
            # Small random weights would make every distribution flat, and every mistake invisible.
            parameter.mul_(4)
    model.save_pretrained(tmp_path)
    return tmp_path


def texts() -> list[list[int]]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, VOCABULARY, size=length).tolist() for length in (2, 31, 3, 9, 9, 2, 17)]


@pytest.mark.parametrize("bos_id", [None, 5])
def test_scores_equal_the_models_own_logits(family: str, folder: Path, bos_id: int | None) -> None:
    scorer = GenerativeScorer(CausalLM.load(folder, precision("cpu", "float32")), bos_id)
    assert scorer.packs == (family in PACKED)
    found = scorer.score(texts())
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    for at, ids in enumerate(texts()):
        row = ids if bos_id is None else [bos_id, *ids]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([row])).logits[0, :-1].numpy()
        entropy = [reference.token_stats(line)["entropy"] for line in logits]
        logprob = [line[token] - np.logaddexp.reduce(line) for line, token in zip(logits, row[1:], strict=True)]
        assert found.entropy[at] == pytest.approx(np.mean(entropy), abs=1e-4)
        assert found.entropy_max[at] == pytest.approx(np.max(entropy), abs=1e-4)
        assert found.nll[at] == pytest.approx(-np.mean(logprob), abs=1e-4)
        assert found.n_positions[at] == len(row) - 1
    assert np.ptp(found.entropy) > 0.01


def test_a_text_scores_the_same_whatever_it_is_packed_with(folder: Path) -> None:
    scorer = GenerativeScorer(CausalLM.load(folder, precision("cpu", "float32")), None)
    together = scorer.score(texts())
    alone = [scorer.score([ids]) for ids in texts()]
    np.testing.assert_allclose(together.nll, [scores.nll[0] for scores in alone], atol=1e-5)
    np.testing.assert_allclose(together.entropy, [scores.entropy[0] for scores in alone], atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("gemma2", {"final_logit_softcapping": 30.0}),
        ("recurrent_gemma", {"logits_soft_cap": 30.0, "lru_width": 32, "num_hidden_layers": 3}),
    ],
)
def test_a_soft_cap_is_found_by_its_name_and_refused_under_another(
    tmp_path: Path, kind: str, more: dict[str, Any], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = AutoConfig.for_model(kind, **{**SHAPE, "head_dim": 8, "tie_word_embeddings": False, **more})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        # Logits up to 15 and more.
        model.get_output_embeddings().weight.mul_(50)
    model.save_pretrained(tmp_path)
    lm = CausalLM.load(tmp_path, precision("cpu", dtype))
    scorer = GenerativeScorer(lm, None)
    assert (scorer.softcap, scorer.temperature) == (30, 1)
    monkeypatch.setattr(generative, "SOFT_CAPS", ())
    with pytest.raises(InputError, match="does more to its logits than"):
        GenerativeScorer(lm, None)


def test_a_model_that_sees_what_it_predicts_is_refused(tmp_path: Path) -> None:
    shape = {"vocab_size": VOCABULARY, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48}
    config = AutoConfig.for_model("xlnet", **shape, initializer_range=0.2)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="sees the tokens that it predicts; choose a causal LM"):
        GenerativeScorer(CausalLM.load(tmp_path, precision("cpu", "float32")), None)


def test_a_backbone_that_is_not_apart_is_told_only_where_it_is_needed(
    tiny_lm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LlamaForCausalLM, "base_model", property(lambda model: model))
    monkeypatch.setattr(packing, "backbone", lambda model: model)
    monkeypatch.setattr(generative, "backbone", lambda model: model)
    lm = CausalLM.load(tiny_lm, precision("cpu", "float32"))
    assert not lm.packs
    with pytest.raises(InputError, match="LlamaForCausalLM has no output projection apart from its backbone"):
        GenerativeScorer(lm, None)


@pytest.mark.parametrize("lengths", [[*PROBE_LENGTHS, 1, 4], [6, 600, *[6] * 70, 1, 300]])
def test_the_layout_finds_every_token_again_in_blocks_without_much_padding(lengths: list[int]) -> None:
    layout = PaddedLayout.of(lengths, torch.device("cpu"))
    tokens = torch.arange(sum(lengths)) * 10
    lifted = torch.cat([tokens[block].flatten() for block in layout.blocks])
    assert torch.equal(lifted[layout.packed], tokens)
    assert sum(block.shape[0] for block in layout.blocks) == len(lengths)
    assert len(lifted) <= LARGEST_BLOCK * len(tokens)
