"""Model folders that lack weights, or hold files that are none: nothing is made up, and nothing costs the scores."""

import json
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copytree
from threading import Barrier, BrokenBarrierError
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from transformers import T5Config, T5EncoderModel, T5Model, ViTConfig, ViTModel

import euds
from euds.corpus import read_manifest
from euds.engine import loaded
from euds.errors import InputError
from euds.measures.causal_lm import CausalLM
from euds.measures.device import precision
from euds.measures.models import load_model
from euds.measures.parameters import parameter_count, parameters_met
from euds.measures.semantic import Embedder

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def test_weights_that_are_missing_are_not_drawn_at_random(tiny_lm: Path, corpus: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    whole = transformers.AutoModelForCausalLM.from_pretrained(tiny_lm)
    whole.config.tie_word_embeddings = False
    headless = tmp_path / "headless"
    transformers.AutoTokenizer.from_pretrained(tiny_lm).save_pretrained(headless)
    whole.model.save_pretrained(headless)
    message = r"headless: weights of the causal .* missing \(lm_head\.weight"
    for dry_run in (True, False):
        with pytest.raises(InputError, match=message):
            euds.score(corpus, out=tmp_path / "run", measures=["generative"], lm=headless, dry_run=dry_run)
    # It was refused before the directory was taken.
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match=message):
        CausalLM.load(headless, precision("cpu"))


def test_a_model_of_another_kind_is_refused_before_the_run(
    tiny_lm: Path, tiny_encoder: Path, corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"weights of the causal language model are missing \(cls\.pred"):
        euds.score(corpus, out=tmp_path / "run", lm=tiny_encoder, measures=["generative"], dry_run=True)
    assert not (tmp_path / "run").exists()


LISTENING = """
import sys
import euds

heard = []

def hear(event):
    if isinstance(event, euds.Message) and event.text.startswith("loading"):
        heard.append((event.text, "torch" in sys.modules))

corpus, lm, out = sys.argv[1:]
with euds.listen(hear):
    euds.score(corpus, out=out + "/words", measures="information")
    for _ in range(2):
        euds.score(corpus, out=out + "/run", measures="generative", lm=lm, dry_run=True)
print(heard)
"""


def test_models_are_named_once_before_what_takes_longest(tiny_lm: Path, corpus: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", LISTENING, *map(str, (corpus, tiny_lm, tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{[(f'loading {tiny_lm} ...', False)]}\n"
    assert done.stderr == ""


def test_an_estimate_names_its_models_too(
    tiny_lm: Path, tiny_encoder: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As if nothing had imported transformers yet.
    monkeypatch.setattr(loaded, "sys", SimpleNamespace(modules={}))
    euds.estimate(corpus, measures=["generative", "semantic"], lm=tiny_lm, embedder=tiny_encoder)
    assert capsys.readouterr().err.count(f"loading {tiny_lm}, {tiny_encoder} ...\n") == 1


def test_a_causal_lm_as_embedder_is_told(
    tiny_lm: Path, tiny_encoder: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warning = f"warning: embedder {tiny_lm} is a causal language model, not trained to embed texts"
    for embedder, told in ((tiny_lm, True), (tiny_encoder, False)):
        euds.score(corpus, out=tmp_path / "run", embedder=embedder, measures=["semantic"], n_clusters=2, dry_run=True)
        assert (warning in capsys.readouterr().err) == told


def test_two_threads_load_one_after_the_other(tiny_lm: Path) -> None:
    transformers = pytest.importorskip("transformers")
    both = Barrier(2)
    alone = []

    class Meeting:
        """Waits for another thread inside of what transformers does under torch's default dtype."""

        @staticmethod
        def from_pretrained(folder: Path, **arguments: Any) -> Any:
            try:
                both.wait(0.5)
            except BrokenBarrierError:
                alone.append(arguments["dtype"])
            return transformers.AutoModelForCausalLM.from_pretrained(folder, **arguments)

    def load(dtype: str) -> set[torch.dtype]:
        model = load_model(Meeting, tiny_lm, precision("cpu", dtype), "language model")
        return {weight.dtype for weight in model.parameters()}

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(load, ("bfloat16", "float32"))) == [{torch.bfloat16}, {torch.float32}]
    assert len(alone) == 2
    assert torch.get_default_dtype() == torch.float32


def test_only_a_head_that_is_trained_may_be_missing(tiny_encoder: Path) -> None:
    auto_class = pytest.importorskip("transformers").AutoModelForSequenceClassification
    settled = precision("cpu", "float32")
    assert load_model(auto_class, tiny_encoder, settled, "classifier", new_head=True, num_labels=3).num_labels == 3
    with pytest.raises(InputError, match=r"weights of the entailment model are missing \(classifier\.bias"):
        load_model(auto_class, tiny_encoder, settled, "entailment model")


def test_an_encoder_gets_the_head_that_transformers_draws(tiny_encoder: Path) -> None:
    auto_class = pytest.importorskip("transformers").AutoModelForSequenceClassification
    torch.manual_seed(3)
    plain = auto_class.from_pretrained(tiny_encoder, num_labels=3).state_dict()
    drawn = torch.rand(1)
    torch.manual_seed(3)
    found = load_model(
        auto_class, tiny_encoder, precision("cpu", "float32"), "classifier", new_head=True, num_labels=3
    ).state_dict()
    assert plain.keys() == found.keys()
    assert all(torch.equal(plain[name], found[name]) for name in plain)
    # Nothing else was drawn, so that dropout and orders of rows are the same, too.
    assert torch.equal(torch.rand(1), drawn)


@pytest.mark.parametrize("num_labels", [3, 5])
def test_a_head_that_the_folder_holds_is_drawn_anew(tiny_nli: Path, num_labels: int) -> None:
    auto_class = pytest.importorskip("transformers").AutoModelForSequenceClassification
    held = auto_class.from_pretrained(tiny_nli).state_dict()
    settled = precision("cpu", "float32")
    heads = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        model = load_model(auto_class, tiny_nli, settled, "classifier", new_head=True, num_labels=num_labels)
        found = model.state_dict()
        assert all(torch.equal(found[name], held[name]) for name in held if name.startswith("bert."))
        assert not model.training
        heads.append(found["classifier.weight"])
    assert heads[0].shape == (num_labels, 32)
    assert torch.equal(heads[0], heads[2])
    assert not torch.equal(heads[0], heads[1])
    assert num_labels != 3 or not torch.equal(heads[0], held["classifier.weight"])
    kept = load_model(auto_class, tiny_nli, settled, "entailment model").state_dict()
    assert torch.equal(kept["classifier.weight"], held["classifier.weight"])


def test_weights_of_other_shapes_are_named(tiny_encoder: Path, tmp_path: Path) -> None:
    folder = tiny.build_encoder(tmp_path / "encoder")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"vocab_size": settings["vocab_size"] + 1}))
    with pytest.raises(InputError, match="encoder: no encoder could be loaded"):
        load_model(pytest.importorskip("transformers").AutoModel, folder, precision("cpu", "float32"), "encoder")
    auto_class = pytest.importorskip("transformers").AutoModelForSequenceClassification
    with pytest.raises(InputError, match=r"encoder: no classifier could be loaded: bert\.embeddings\.word_"):
        load_model(auto_class, folder, precision("cpu", "float32"), "classifier", new_head=True)


@pytest.mark.parametrize("content", [POINTER.encode(), struct.pack("<Q", 9) + b"{", b"", struct.pack("<Q", 2) + b"[]"])
def test_parameters_are_counted_in_what_is_loaded(tiny_encoder: Path, tmp_path: Path, content: bytes) -> None:
    folder = tiny.build_encoder(tmp_path / "encoder")
    whole = parameter_count(folder)
    assert whole is not None
    (folder / "consolidated.safetensors").write_bytes(content)
    assert parameter_count(folder) == whole
    (folder / "model.safetensors").write_bytes(content)
    assert parameter_count(folder) is None


def test_files_beside_the_weights_do_not_cost_a_run(corpus: Path, tmp_path: Path) -> None:
    folder = tiny.build_encoder(tmp_path / "encoder")
    (folder / "consolidated.safetensors").write_text(POINTER)
    euds.score(corpus, out=tmp_path / "run", measures=["semantic"], embedder=folder)
    assert read_manifest(tmp_path / "run")["cost"]["parameters"]["embedder"] == parameters_met(folder, causal=False)


def test_the_encoder_of_an_encoder_and_decoder_embeds(tiny_encoder: Path, tmp_path: Path) -> None:
    folder = Path(copytree(tiny_encoder, tmp_path / "t5"))
    vocabulary = json.loads((tiny_encoder / "config.json").read_text())["vocab_size"]
    shape: dict[str, Any] = {
        "d_model": 16,
        "d_kv": 4,
        "d_ff": 32,
        "num_layers": 1,
        "num_heads": 4,
        "decoder_start_token_id": 0,
    }
    torch.manual_seed(0)
    model = T5Model(T5Config(vocab_size=vocabulary, **shape)).eval()
    model.save_pretrained(folder)
    embedder = Embedder(folder, precision("cpu"))
    with torch.inference_mode():
        hidden = model.encoder(torch.tensor([[2, 9, 10, 3]])).last_hidden_state[0].mean(0)
    np.testing.assert_allclose(embedder.embed([[9, 10]])[0], hidden / hidden.norm(), atol=1e-5)
    assert embedder.width == 16
    # As sentence-t5 is: without a decoder's weights.
    T5EncoderModel.from_pretrained(folder).save_pretrained(folder)
    np.testing.assert_array_equal(Embedder(folder, precision("cpu")).embed([[9, 10]]), embedder.embed([[9, 10]]))


def test_a_model_that_embeds_no_text_is_refused_when_it_is_loaded(tiny_encoder: Path, tmp_path: Path) -> None:
    vit = Path(copytree(tiny_encoder, tmp_path / "vit"))
    ViTModel(
        ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=4, intermediate_size=32, image_size=32)
    ).save_pretrained(vit)
    with pytest.raises(InputError, match=r"vit: ViTModel gives no embedding of a text \(.*\); choose a sentence enc"):
        Embedder(vit, precision("cpu"))
