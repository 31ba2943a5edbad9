"""Generations of tiny real models: log-probabilities, greedy search, warping, draws and ends, against transformers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.generation.logits_process import TopKLogitsWarper, TopPLogitsWarper

from euds.errors import InputError, InvalidArgument
from euds.measures.causal_lm import CausalLM
from euds.measures.device import precision
from euds.measures.generate import Generator, warp
from euds.measures.generative import GenerativeScorer
from euds.measures.label_words import LabelWordScorer
from euds.measures.warping import Warping
from euds.ops.draws import uniform_draws

Texts = Callable[[int, int], list[str]]
N, NEW = 4, 7


@pytest.fixture
def prompts(tiny_lm: Path, make_texts: Texts) -> list[list[int]]:
    tokenizer = AutoTokenizer.from_pretrained(tiny_lm)
    ids: list[list[int]] = tokenizer(make_texts(9, 5), add_special_tokens=False)["input_ids"]
    return ids


def generator(lm_folder: Path, *, newline: bool = False, **warping: float) -> Generator:
    return Generator(CausalLM.load(lm_folder, precision("cpu")), Warping(**warping), stop_at_newline=newline)  # type: ignore[arg-type]


def test_greedy_equals_transformers(lm_folder: Path, prompts: list[list[int]]) -> None:
    own = generator(lm_folder, top_k=1).generate(prompts, range(9), n=2, max_new_tokens=NEW, seed=0)
    model = AutoModelForCausalLM.from_pretrained(lm_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(lm_folder)
    for prompt, texts in zip(prompts, own.texts, strict=True):
        ids = torch.tensor([prompt])
        whole = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW, pad_token_id=1
        )
        expected = tokenizer.decode(whole[0, len(prompt) :], skip_special_tokens=True)
        assert texts == [expected, expected]


def test_logprobs_equal_a_float64_forward_of_the_whole_distribution(lm_folder: Path, prompts: list[list[int]]) -> None:
    own = generator(lm_folder, top_k=20, temperature=1.5)
    drawn: list[torch.Tensor] = []
    keep = own._result

    def spy(tokens: torch.Tensor, logprobs: torch.Tensor, finite: torch.Tensor) -> object:
        drawn.append(tokens.clone())
        return keep(tokens, logprobs, finite)

    own._result = spy  # type: ignore[assignment,method-assign]
    found = own.generate(prompts, range(9), n=N, max_new_tokens=NEW, seed=1)
    model = AutoModelForCausalLM.from_pretrained(lm_folder).double().eval()
    errors = [0.0]
    for at, prompt in enumerate(prompts):
        for number in range(N):
            tokens = [token for token in drawn[0][at, number].tolist() if token >= 0]
            with torch.inference_mode():
                logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
            logp = torch.log_softmax(logits, -1)[torch.arange(len(tokens)), tokens]
            errors.append(abs(float(logp.sum()) - found.sum_logprob[at, number]))
            assert found.n_tokens[at, number] == len(tokens)
    assert max(errors) < 1e-4
    assert len({text for texts in found.texts for text in texts}) > 9


def test_generations_do_not_depend_on_the_batch(lm_folder: Path, prompts: list[list[int]]) -> None:
    own = generator(lm_folder)
    whole = own.generate(prompts, range(9), n=N, max_new_tokens=NEW, seed=2)
    for at in (0, 4, 8):
        alone = own.generate([prompts[at]], [at], n=N, max_new_tokens=NEW, seed=2)
        assert alone.texts[0] == whole.texts[at]
        assert np.abs(alone.sum_logprob[0] - whole.sum_logprob[at]).max() < 1e-4
    fewer = own.generate(prompts, range(9), n=2, max_new_tokens=NEW, seed=2)
    assert fewer.texts == [texts[:2] for texts in whole.texts]
    assert own.generate(prompts, range(9), n=N, max_new_tokens=NEW, seed=3).texts != whole.texts
    assert own.generate(prompts, range(9, 18), n=N, max_new_tokens=NEW, seed=2).texts != whole.texts


def random_lm(folder: Path, tiny_lm: Path, family: str, **settings: object) -> Path:
    """Save a random model of a family over the tokenizer of the tiny Llama."""
    torch.manual_seed(2)
    config = AutoConfig.for_model(
        family, vocab_size=400, hidden_size=32, num_hidden_layers=2, eos_token_id=1, initializer_range=0.3, **settings
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for file in tiny_lm.glob("tokenizer*"):
        shutil.copy(file, folder)
    return folder


CONVOLUTIONS = ("lfm2", {"layer_types": ["conv", "full_attention"]})
RECURRENCES = (
    "jamba",
    {
        "attn_layer_period": 2,
        "num_experts": 1,
        "attn_layer_offset": 1,
        "mamba_d_state": 8,
    },
)


@pytest.mark.parametrize(("family", "layers"), [CONVOLUTIONS, RECURRENCES])
def test_a_model_that_remembers_more_than_keys_and_values_goes_on_from_prompts_too(
    tmp_path: Path, tiny_lm: Path, prompts: list[list[int]], family: str, layers: dict[str, object]
) -> None:
    shape = {"intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": None}
    folder = random_lm(tmp_path, tiny_lm, family, **layers, **shape)
    own = generator(folder)
    found = own.generate(prompts, range(9), n=N, max_new_tokens=NEW, seed=2)
    alone = [own.generate([prompts[at]], [at], n=N, max_new_tokens=NEW, seed=2) for at in range(9)]
    assert [one.texts[0] for one in alone] == found.texts
    words = LabelWordScorer(CausalLM.load(folder, precision("cpu")), [[7], [8, 9, 10]])
    model = AutoModelForCausalLM.from_pretrained(folder).double().eval()
    for prompt, logprobs in zip(prompts, words.score(prompts).logprobs, strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, 8, 9, 10]]), use_cache=False).logits[0].log_softmax(-1)
        total = float(logits[len(prompt) - 1 : -1].gather(1, torch.tensor([[8], [9], [10]])).sum())
        assert logprobs[1] == pytest.approx(total, abs=1e-4)


def test_a_model_that_remembers_in_a_way_of_its_own_is_refused(tmp_path: Path, tiny_lm: Path) -> None:
    own = generator(random_lm(tmp_path, tiny_lm, "mamba", state_size=8))
    with pytest.raises(InputError, match="MambaForCausalLM keeps no cache of keys and values"):
        own.generate([[5, 6]], [0], n=N, max_new_tokens=2, seed=0)


def test_a_tokenizer_of_another_model_is_told(tmp_path: Path, tiny_lm: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_lm)
    model.resize_token_embeddings(100)
    model.save_pretrained(tmp_path)
    for file in tiny_lm.glob("tokenizer*"):
        shutil.copy(file, tmp_path)
    lm = CausalLM.load(tmp_path, precision("cpu"))
    message = "gives token 100, and its weights know 100 tokens"
    with pytest.raises(InputError, match=message):
        generator(tmp_path).generate([[5, 100, 7]], [0], n=N, max_new_tokens=2, seed=0)
    with pytest.raises(InputError, match=message):
        LabelWordScorer(lm, [[5], [6, 100]])
    with pytest.raises(InputError, match=message):
        GenerativeScorer(lm, None).score([[5, 6], [7, 100]])
    assert GenerativeScorer(lm, None).score([[5, 99]]).n_positions.tolist() == [1]


def test_tokens_are_drawn_as_often_as_the_warped_distribution_says(tiny_lm: Path, prompts: list[list[int]]) -> None:
    n = 4000
    own = generator(tiny_lm, top_k=6, top_p=0.9)
    found = own.generate(prompts[:1], [7], n=n, max_new_tokens=1, seed=0)
    model = AutoModelForCausalLM.from_pretrained(tiny_lm).eval()
    with torch.inference_mode():
        logits = model(torch.tensor(prompts[:1])).logits[:, -1]
    ids = torch.tensor(prompts[:1])
    share = TopPLogitsWarper(0.9)(ids, TopKLogitsWarper(6)(ids, logits)).softmax(-1)[0]
    logp = logits.log_softmax(-1)[0].double()
    expected = (share.double() * logp).nan_to_num().sum()
    deviation = ((share.double() * (logp - expected) ** 2).nan_to_num().sum() / n) ** 0.5
    assert abs(found.sum_logprob.mean() - float(expected)) < 4 * float(deviation)
    assert len(np.unique(np.round(found.sum_logprob, 5))) == int((share > 0).sum())


@given(st.integers(0, 10_000), st.integers(0, 12), st.floats(0.05, 1), st.floats(0.3, 3))
def test_warping_leaves_what_transformers_leaves(seed: int, top_k: int, top_p: float, temperature: float) -> None:
    logits = torch.randn(3, 12, generator=torch.Generator().manual_seed(seed)) * 3
    found = warp(logits, Warping(temperature, top_k, top_p))
    ids = torch.zeros((3, 1), dtype=torch.int64)
    cut = logits / temperature
    if top_k:
        cut = TopKLogitsWarper(top_k)(ids, cut)
    expected = TopPLogitsWarper(top_p)(ids, cut).softmax(-1).double()
    shares = torch.diff(found.upto, prepend=torch.zeros(3, 1, dtype=torch.float64))
    own = torch.zeros(3, 12, dtype=torch.float64).scatter(1, found.ids, shares)
    # At the very edge of top_p, float32 sums of transformers may fall on the other side.
    mass = cut.double().softmax(-1).sort(descending=True).values.cumsum(-1)
    assume(float((mass - top_p).abs().min()) > 1e-5)
    assert bool(((own > 0) == (expected > 0)).all())
    assert torch.allclose(own, expected, atol=1e-5)
    assert torch.allclose(found.logprobs, logits.log_softmax(-1).gather(1, found.ids), atol=1e-5)


def test_top_p_is_reached_by_a_sum_that_equals_it() -> None:
    found = warp(torch.zeros(1, 4), Warping(top_p=0.5))
    assert torch.diff(found.upto, prepend=torch.zeros(1, 1, dtype=torch.float64)).tolist() == [[0.5, 0.5, 0.0, 0.0]]


def test_minus_infinity_is_never_drawn_and_nan_is_told() -> None:
    logits = torch.tensor([[0.0, -torch.inf, 1.0], [torch.nan, 0.0, 0.0], [-torch.inf] * 3, [torch.inf, 0.0, 0.0]])
    found = warp(logits, Warping(top_p=1.0))
    assert found.finite.tolist() == [True, False, False, False]
    # The last is the impossible one, and its share is none.
    assert found.ids[0].tolist() == [2, 0, 1]
    assert found.upto[0, 1] == found.upto[0, 2] == 1


def test_end_tokens_and_line_breaks_end_a_generation(tiny_lm: Path, prompts: list[list[int]]) -> None:
    open_end = generator(tiny_lm, top_k=0, top_p=1.0).generate(prompts, range(9), n=20, max_new_tokens=30, seed=0)
    assert open_end.n_tokens.min() < 30 == open_end.n_tokens.max()
    assert any("\n" in text for texts in open_end.texts for text in texts)
    lines = generator(tiny_lm, newline=True, top_k=0, top_p=1.0)
    one_line = lines.generate(prompts, range(9), n=20, max_new_tokens=30, seed=0)
    assert (one_line.n_tokens <= open_end.n_tokens).all()
    for short, long in zip(np.ravel(one_line.texts), np.ravel(open_end.texts), strict=True):
        assert short == long.partition("\n")[0]


def test_an_end_token_that_is_not_special_is_left_out_of_the_text(
    tmp_path: Path, tiny_lm: Path, prompts: list[list[int]]
) -> None:
    folder = Path(shutil.copytree(tiny_lm, tmp_path / "lm"))
    whole = generator(tiny_lm, top_k=1).generate(prompts[:1], [0], n=1, max_new_tokens=NEW, seed=0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    (ids,) = tokenizer([whole.texts[0][0]])["input_ids"]
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**settings, "eos_token_id": [1, ids[-1]]}))
    ended = generator(folder, top_k=1).generate(prompts[:1], [0], n=1, max_new_tokens=NEW, seed=0)
    assert ended.texts == [[tokenizer.decode(ids[: ids.index(ids[-1])])]]
    assert ended.n_tokens.tolist() == [[ids.index(ids[-1]) + 1]]


def test_a_prompt_whose_logits_are_nan_spoils_no_other(tiny_lm: Path, prompts: list[list[int]]) -> None:
    own = generator(tiny_lm)
    # One token only, as the broken one might be drawn and read.
    whole = own.generate(prompts, range(9), n=N, max_new_tokens=1, seed=2)
    with torch.no_grad():
        own.model.model.embed_tokens.weight[0] = torch.nan
    assert not any(0 in prompt for prompt in prompts)
    longer = [*prompts[4], 0]
    broken = own.generate([*prompts[:4], longer], range(5), n=N, max_new_tokens=1, seed=2)
    assert broken.finite.tolist() == [True] * 4 + [False]
    assert broken.texts[:4] == whole.texts[:4]


def test_draws_are_uniform_and_belong_to_their_place() -> None:
    draws = uniform_draws(0, np.arange(50)[:, None, None], np.arange(20)[:, None], np.arange(30))
    assert draws.shape == (50, 20, 30)
    assert draws.min() >= 0
    assert draws.max() < 1
    counts = np.histogram(draws, 20, (0, 1))[0]
    # Chi-squared with 19 degrees of freedom stays below 50 but once in 10,000 times.
    assert ((counts - 1500) ** 2 / 1500).sum() < 50
    assert len(np.unique(draws)) == draws.size
    assert uniform_draws(0, 7, 3, 11) == draws[7, 3, 11]
    assert uniform_draws(0, 7, 3, 11).shape == ()
    assert uniform_draws(1, 7, 3, 11) != draws[7, 3, 11]
    with pytest.raises(InvalidArgument, match="64 bits"):
        uniform_draws(1 << 63, 0, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature: .* top_k=1 is greedy"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
    ],
)
def test_impossible_warping_is_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Warping(**arguments)  # type: ignore[arg-type]
