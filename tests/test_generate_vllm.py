"""Generations through a real vLLM on the CPU: `make test-vllm` makes the environment that has it."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM

import euds
from euds.corpus import generations_path
from euds.engine.loaded import Models
from euds.errors import BackendUnavailable, InputError, InvalidArgument
from euds.measures.device import Precision, precision
from euds.measures.tokens import load_tokenizer
from euds.measures.warping import Warping

needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed; make test-vllm"
)


@pytest.fixture(scope="module")
def wide_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama whose heads are as wide as vLLM's attention on CPUs wants them."""
    return tiny.build_lm(tmp_path_factory.mktemp("wide-lm"), hidden_size=128)


PROMPTS = [[5, 9, 40, 7], [17], [5, 9, 40, 8, 21, 33], [60, 61, 62]]


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_vllm_that_is_not_there_is_refused_before_work_starts(tmp_path: Path, tiny_lm: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a film"}\n{"text": "another film"}\n')
    with pytest.raises(BackendUnavailable, match="sampler: vLLM is not installed; run: pip install vllm"):
        euds.score(
            str(tmp_path / "a.jsonl"),
            out=tmp_path / "run",
            measures=["semantic"],
            semantic="samples",
            samples=euds.SampleSettings(sampler="vllm", grouping="labels", labels=("good", "bad")),
            lm=tiny_lm,
        )
    assert not (tmp_path / "run").exists()


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"sampler: unknown value 'vlm' \(did you mean 'vllm'\?\)"):
        euds.SampleSettings(sampler="vlm")


@pytest.mark.parametrize(("context", "most"), [(256, 25), (None, None)])
def test_vllm_keeps_memory_for_the_longest_prompt_and_generation(
    tiny_lm: Path, monkeypatch: pytest.MonkeyPatch, context: int | None, most: int | None
) -> None:
    given: dict[str, object] = {}
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=lambda **arguments: given.update(arguments)))
    settings = euds.SampleSettings(sampler="vllm", max_new_tokens=5)
    plan: Any = SimpleNamespace(config=SimpleNamespace(samples=settings), folders={"lm": tiny_lm}, context=context)
    models = Models(plan, precision("cpu"))
    models.__dict__["_encoders"] = SimpleNamespace(prompts=SimpleNamespace(max_tokens=20))
    assert models.generator is not None
    assert given["max_model_len"] == most


@needs_vllm
@pytest.mark.slow
def test_logprobs_are_those_of_the_whole_distribution(wide_lm: Path) -> None:
    from euds.measures.generate_vllm import VllmGenerator

    warping = Warping(temperature=0.7, top_k=20, top_p=0.8)
    generator = VllmGenerator(wide_lm, precision("cpu"), warping)
    made = generator.generate(PROMPTS, range(4), n=5, max_new_tokens=6, seed=3)
    again = generator.generate(PROMPTS[::-1], [3, 2, 1, 0], n=5, max_new_tokens=6, seed=3)
    assert made.texts == again.texts[::-1]
    assert made.n_tokens.shape == (4, 5)
    assert made.finite.all()
    assert ((made.n_tokens >= 1) & (made.n_tokens <= 6)).all()
    # The generations of a row differ, and so do those of another seed.
    assert len(set(made.texts[0])) > 1
    assert generator.generate(PROMPTS, range(4), n=5, max_new_tokens=6, seed=4).texts != made.texts

    model = AutoModelForCausalLM.from_pretrained(wide_lm).double().eval()
    greedy = VllmGenerator(wide_lm, precision("cpu"), Warping(1.0, 1, 1.0))
    found = greedy.generate(PROMPTS, range(4), n=2, max_new_tokens=6, seed=0)
    for at, prompt in enumerate(PROMPTS):
        with torch.inference_mode():
            drawn = model.generate(
                torch.tensor([prompt]), max_new_tokens=6, do_sample=False, attention_mask=torch.ones(1, len(prompt))
            )[0]
            logprobs = model(drawn[None]).logits[0].log_softmax(-1)
        new = drawn[len(prompt) :]
        total = float(logprobs[len(prompt) - 1 : -1].gather(1, new[:, None]).sum())
        assert found.texts[at] == [load_tokenizer(wide_lm).decode(new, skip_special_tokens=True)] * 2
        assert found.n_tokens[at].tolist() == [len(new)] * 2
        assert found.sum_logprob[at] == pytest.approx(total, abs=1e-4)


@needs_vllm
@pytest.mark.slow
def test_vllm_draws_from_the_same_distribution_as_transformers(wide_lm: Path) -> None:
    from euds.measures.causal_lm import CausalLM
    from euds.measures.generate import Generator
    from euds.measures.generate_vllm import VllmGenerator

    warping = Warping(temperature=1.0, top_k=5, top_p=0.9)
    settled = precision("cpu")
    n = 2_000
    counts = []
    for sampler in (VllmGenerator(wide_lm, settled, warping), Generator(CausalLM.load(wide_lm, settled), warping)):
        made = sampler.generate([PROMPTS[0]], [0], n=n, max_new_tokens=1, seed=1)
        names, found = np.unique(np.array(made.texts[0]), return_counts=True)
        counts.append(dict(zip(names.tolist(), found.tolist(), strict=True)))
    assert counts[0].keys() == counts[1].keys()
    for name in counts[0]:
        # Five standard deviations of the difference of two binomials.
        assert abs(counts[0][name] - counts[1][name]) < 5 * (2 * n * 0.25) ** 0.5


@needs_vllm
@pytest.mark.slow
def test_a_run_through_vllm_keeps_its_generations(tmp_path: Path, wide_lm: Path, tiny_encoder: Path) -> None:
    lines = [f'{{"text": "film {at} was long and the story thin"}}\n' for at in range(40)] + ['{"text": null}\n']
    (tmp_path / "a.jsonl").write_text("".join(lines))
    samples = euds.SampleSettings(sampler="vllm", n_generations=4, max_new_tokens=5)
    run_dir = tmp_path / "run"
    settings = {"measures": ["semantic"], "semantic": "samples", "lm": wide_lm, "embedder": tiny_encoder}
    result = euds.score(str(tmp_path / "a.jsonl"), out=run_dir, samples=samples, shard_rows=16, **settings)  # type: ignore[arg-type]  # Mixed types.
    assert (result.n_rows, result.n_quarantined) == (41, 1)
    generations = pq.read_table(generations_path(run_dir, 0)).to_pylist()
    assert [len(row["text"]) for row in generations] == [4] * 16
    scores = pq.read_table(run_dir / "scores")["semantic_samples_discrete_nats"].to_pylist()
    assert scores[-1] is None
    assert all(0 <= score <= np.log(4) + 1e-6 for score in scores[:-1])
    other = tmp_path / "other"
    taken = euds.SampleSettings(
        sampler="vllm", n_generations=4, max_new_tokens=5, generations_from=str(run_dir), min_similarity=0.9
    )
    euds.score(str(tmp_path / "a.jsonl"), out=other, samples=taken, shard_rows=16, **settings)  # type: ignore[arg-type]
    assert generations_path(other, 0).read_bytes() == generations_path(run_dir, 0).read_bytes()


@needs_vllm
@pytest.mark.slow
def test_what_vllm_cannot_do_is_refused(tmp_path: Path, wide_lm: Path) -> None:
    from euds.measures.generate_vllm import VllmGenerator

    with pytest.raises(InvalidArgument, match=r"vLLM takes the first GPU in sight, not cuda:1"):
        VllmGenerator(wide_lm, Precision("cuda:1", "bfloat16"), Warping())
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(InputError, match="vLLM cannot load it"):
        VllmGenerator(tmp_path, precision("cpu"), Warping())
