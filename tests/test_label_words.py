"""Prompts, and label words after those of tiny real models, against float64 forwards of whole sequences and a loop."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Strip
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from euds.corpus import Row
from euds.engine.prompts import add_prompts, add_questions
from euds.errors import InvalidArgument
from euds.measures.causal_lm import CausalLM
from euds.measures.device import precision
from euds.measures.label_words import LabelWordScorer
from euds.measures.prompted import Remembered
from euds.measures.prompts import PromptEncoder, template_of
from euds.measures.tokens import CHARS_PER_TOKEN_CAP, Encoded, ModelTokenizer
from euds.reference import entropy as reference

Texts = Callable[[int, int], list[str]]
WORDS = ("wonderful", "sad", "unwatchable", "not quite terrible")


@pytest.fixture
def encoder(tiny_lm: Path) -> PromptEncoder:
    return PromptEncoder(tiny_lm, template_of("labels", ["text"]), WORDS, 200)


@pytest.fixture
def prompts(encoder: PromptEncoder, make_texts: Texts) -> list[list[int]]:
    return [encoder.encode({"text": text}).ids for text in make_texts(9, 5)]


def scorer(folder: Path, words: list[list[int]]) -> LabelWordScorer:
    return LabelWordScorer(CausalLM.load(folder, precision("cpu")), words)


def test_a_batch_counts_a_prompt_for_each_word_of_several_tokens(tiny_lm: Path) -> None:
    found = scorer(tiny_lm, [[7], [8, 9, 10], [11, 12]])
    # Two prompts, each with the longest word's tokens behind it but the last, which is predicted and never read.
    assert found.n_remembered(10) == 2 * (10 + 2)
    assert found.n_read == 2 + 1
    assert scorer(tiny_lm, [[7], [8]]).n_remembered(10) == 10


def test_words_are_scored_as_by_a_float64_forward_of_prompt_and_word(
    lm_folder: Path, encoder: PromptEncoder, prompts: list[list[int]]
) -> None:
    words = encoder.followed_by(WORDS)
    assert sorted(map(len, words))[0] == 1 < sorted(map(len, words))[-2]
    found = scorer(lm_folder, words).score(prompts)
    model = AutoModelForCausalLM.from_pretrained(lm_folder).double().eval()
    expected = np.zeros((len(prompts), len(words)))
    for at, prompt in enumerate(prompts):
        for number, word in enumerate(words):
            with torch.inference_mode():
                logits = model(torch.tensor([prompt + word])).logits[0, len(prompt) - 1 : -1]
            expected[at, number] = torch.log_softmax(logits, -1)[torch.arange(len(word)), word].sum()
    np.testing.assert_allclose(found.logprobs, expected, atol=1e-4)
    shares = np.exp(expected) / np.exp(expected).sum(1, keepdims=True)
    np.testing.assert_allclose(found.entropy, -(shares * np.log(shares)).sum(1), atol=1e-4)
    assert np.ptp(found.entropy) > 0.01
    assert 0 <= found.entropy.min() <= found.entropy.max() <= np.log(len(words))


def test_words_are_scored_as_one_by_one_token_by_token(
    lm_folder: Path, encoder: PromptEncoder, prompts: list[list[int]]
) -> None:
    words = encoder.followed_by(WORDS)
    found = scorer(lm_folder, words).score(prompts)
    model = AutoModelForCausalLM.from_pretrained(lm_folder).eval()
    for at, prompt in enumerate(prompts):
        for number, word in enumerate(words):
            total = 0.0
            for place, token in enumerate(word):
                with torch.inference_mode():
                    logits = model(torch.tensor([prompt + word[:place]])).logits[0, -1].double().numpy()
                total += reference.token_stats(logits, token)["target_logprob"]
            assert found.logprobs[at, number] == pytest.approx(total, abs=1e-4)
        assert found.entropy[at] == pytest.approx(reference.token_stats(found.logprobs[at])["entropy"], abs=1e-5)


def test_scores_do_not_depend_on_the_batch_or_the_other_words(
    lm_folder: Path, encoder: PromptEncoder, prompts: list[list[int]]
) -> None:
    words = encoder.followed_by(WORDS)
    own = scorer(lm_folder, words)
    whole = own.score(prompts)
    for at, prompt in enumerate(prompts):
        alone = own.score([prompt])
        np.testing.assert_allclose(alone.logprobs[0], whole.logprobs[at], atol=1e-4)
        np.testing.assert_allclose(alone.entropy[0], whole.entropy[at], atol=1e-4)
    turned = scorer(lm_folder, words[::-1]).score(prompts)
    np.testing.assert_allclose(turned.logprobs[:, ::-1], whole.logprobs, atol=1e-4)
    np.testing.assert_allclose(turned.entropy, whole.entropy, atol=1e-4)


def test_the_prompts_are_read_once_and_words_of_one_token_need_no_second_pass(
    tiny_lm: Path, encoder: PromptEncoder, prompts: list[list[int]]
) -> None:
    words = encoder.followed_by(WORDS)
    for wanted, passes in ((words, 2), ([word for word in words if len(word) == 1], 1)):
        own = scorer(tiny_lm, wanted)
        read: list[int] = []
        own.reader.model.register_forward_pre_hook(
            lambda _, __, given, read=read: read.append(given["input_ids"].shape[1]), with_kwargs=True
        )
        own.score(prompts)
        assert len(read) == passes
        assert read[0] == max(map(len, prompts))
        assert all(length == max(map(len, words)) - 1 for length in read[1:])


def test_a_prompt_whose_logits_are_nan_spoils_no_other(
    tiny_lm: Path, encoder: PromptEncoder, prompts: list[list[int]]
) -> None:
    own = scorer(tiny_lm, encoder.followed_by(WORDS))
    whole = own.score(prompts)
    with torch.no_grad():
        own.reader.model.model.embed_tokens.weight[0] = torch.nan
    assert not any(0 in prompt for prompt in prompts)
    broken = own.score([*prompts[:4], [*prompts[4], 0]])
    np.testing.assert_allclose(broken.entropy[:4], whole.entropy[:4], atol=1e-4)
    assert np.isnan(broken.entropy[4])


def test_a_word_that_cannot_occur_has_no_share(tiny_lm: Path, prompts: list[list[int]]) -> None:
    own = scorer(tiny_lm, [[7], [8], [9]])
    expected = scorer(tiny_lm, [[7], [9]]).score(prompts).entropy
    real = own.reader.read

    def without(given: Sequence[Sequence[int]]) -> tuple[Remembered, torch.Tensor]:
        remembered, logits = real(given)
        logits[:, 8] = -torch.inf
        return remembered, logits

    own.reader.read = without  # type: ignore[assignment,method-assign]
    found = own.score(prompts)
    assert np.isneginf(found.logprobs[:, 1]).all()
    np.testing.assert_allclose(found.entropy, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("template", "fields", "prompt"),
    [
        ("continuation", {"title": "sad", "text": "a film"}, "sad\na film"),
        ("labels", {"title": "sad", "text": "a film"}, "Text: sad\na film\nLabel (positive or negative):"),
        ("labels", {"labels": "sad", "body": "a film"}, "Text: sad\na film\nLabel (positive or negative):"),
        ("question", {"Question Text": "sad?", "context": "a film"}, "a film\n\nQuestion: sad?\nAnswer:"),
        ("question", {"question": "sad?", "text": "a film"}, "a film\n\nQuestion: sad?\nAnswer:"),
        ("question", {"labels": "sad?"}, "Question: sad?\nAnswer:"),
        ("{a-b (c)} by {2}", {"2": "one", "a-b (c)": "two"}, "two by one"),
        (
            '{"said": "{the text}", "is {}": {"1}',
            {"the text": "a {1} {text}"},
            '{"said": "a {1} {text}", "is {}": {"1}',
        ),
    ],
)
def test_places_are_filled_whatever_a_field_is_called(
    tiny_lm: Path, template: str, fields: dict[str, str], prompt: str
) -> None:
    encoder = PromptEncoder(tiny_lm, template_of(template, list(fields)), ("positive", "negative"), 200)
    assert encoder.tokens.tokenizer.decode(encoder.encode(fields).ids) == prompt
    assert all(encoder.followed_by(WORDS))


def test_a_prompt_with_a_bos_token_of_its_own_gets_no_second(tiny_lm: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_lm, tmp_path / "bos"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    backend: Any = tokenizer._tokenizer
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.save_pretrained(folder)
    whole = PromptEncoder(folder, "<s>[{text}]", (), 200).encode({"text": "a film"}).ids
    assert whole[0] == 0 < whole[1]
    assert whole[1:] == PromptEncoder(tiny_lm, "[{text}]", (), 200).encode({"text": "a film"}).ids
    assert PromptEncoder(folder, "[{text}]", (), 200).encode({"text": "a film"}).ids == whole


def of_words(folder: Path, words: Sequence[str], pieces: str) -> Path:
    """Save a tokenizer that knows a few words, with the ids 1 and on, and splits a text into pieces of a pattern."""
    known = Tokenizer(WordLevel({word: at for at, word in enumerate(["[UNK]", *words])}, unk_token="[UNK]"))
    known.pre_tokenizer = Split(Regex(pieces), "removed", invert=True)
    PreTrainedTokenizerFast(tokenizer_object=known).save_pretrained(folder)
    return folder


def test_a_prompt_is_cut_only_if_it_must_be_and_by_its_longest_field(tmp_path: Path) -> None:
    folder = of_words(tmp_path, ["the", "film"], r"\w+")
    encoder = PromptEncoder(folder, "{1} {2}", (), 6)
    assert encoder.encode({"a": "film film", "b": "the " * 4}) == Encoded([2, 2, 1, 1, 1, 1], truncated=False)
    assert encoder.encode({"a": "film film", "b": "the " * 9}) == Encoded([2, 2, 1, 1, 1, 1], truncated=True)
    assert encoder.encode({"a": "the " * 9, "b": "film film"}) == Encoded([1, 1, 1, 1, 2, 2], truncated=True)
    # Spaces are no tokens, so that more characters than a prompt of prose could have are no reason to cut.
    spaces = " " * 9 * CHARS_PER_TOKEN_CAP
    text = PromptEncoder(folder, "{text}", (), 3)
    assert text.encode({"a": f"the{spaces}the film"}) == Encoded([1, 1, 2], truncated=False)
    assert text.encode({"a": f"the the film{spaces}"}) == Encoded([1, 1, 2], truncated=False)
    assert PromptEncoder(folder, "the the {1}", (), 1).encode({"a": "film"}) == Encoded([], truncated=True)


def test_a_prompt_is_cut_between_characters(tiny_lm: Path) -> None:
    (half, other) = ModelTokenizer(tiny_lm, None).encode(["\u00fc"])[0].ids
    encoder = PromptEncoder(tiny_lm, "{text}", (), 5)
    assert encoder.encode({"text": "\u00fc" * 9}) == Encoded([half, other] * 2, truncated=True)


def test_a_word_in_a_prompt_may_have_other_tokens_than_alone(tmp_path: Path) -> None:
    words = ["a", "good", " good", "\n", "\ngood"]
    folder = of_words(tmp_path, words, r"^ ?good|[ \n]?good|\w|\n")
    known = Tokenizer.from_file(str(folder / "tokenizer.json"))
    known.normalizer = Strip(left=True, right=False)
    PreTrainedTokenizerFast(tokenizer_object=known).save_pretrained(folder)
    assert PromptEncoder(folder, "{text}", (), 9).followed_by(["good"]) == [[3]]
    # It takes the line break for its own, which the prompt has already.
    assert PromptEncoder(folder, "{text}\n", (), 9).followed_by(["good"]) == [[2]]


def test_a_row_keeps_its_own_reason_and_gets_that_of_its_prompt(tmp_path: Path) -> None:
    encoder = PromptEncoder(of_words(tmp_path, ["the", "film"], r"\w+"), "{text}", (), 2)
    texts = ["the film", "film", "the", "film the film", "..."]
    rows = [Row(at, "a", at + 1, {"text": text}) for at, text in enumerate(texts)]
    reasons, truncated = [None, "bad", None, None, None], [False, False, True, False, False]
    tokens = pa.table({"reason": pa.array(reasons, pa.string()), "truncated": truncated})
    found = add_prompts(tokens, "prompt_tokens", rows, ["text"], encoder).to_pydict()
    assert found["prompt_tokens"] == [[1, 2], [], [1], [2, 1], []]
    assert found["reason"] == [None, "bad", None, None, "text has no tokens"]
    assert found["truncated"] == [False, False, True, True, False]


def test_only_good_rows_of_the_template_for_questions_have_a_question() -> None:
    rows = [Row(0, "a", 1, {"q": "why", "c": "so"}), Row(1, "a", 2, None, "not JSON")]
    tokens = pa.table({"reason": pa.array([None, "not JSON"], pa.string())})
    for template, expected in (("question", ["why", None]), ("{q} {c}", [None, None])):
        config = SimpleNamespace(text_fields=("q", "c"), samples=SimpleNamespace(template=template))
        plan: Any = SimpleNamespace(config=config)
        assert add_questions(plan, tokens, rows).column("question").to_pylist() == expected


@pytest.mark.timeout(60)
def test_a_text_that_becomes_more_tokens_when_it_is_cut_ends_somewhere(tmp_path: Path) -> None:
    # What the tokenizer does not know comes back as three words that it does not know either.
    encoder = PromptEncoder(of_words(tmp_path, ["the", "film"], r"\w+|[^\w\s]+"), "the {text} film", (), 10)
    assert encoder.encode({"text": "the " * 9}) == Encoded([1] * 9 + [2], truncated=True)
    found = encoder.encode({"text": "zebra " * 30})
    assert found.truncated
    assert 0 < len(found.ids) <= 10


def test_a_long_text_is_tokenised_only_as_far_as_a_prompt_could_hold_it(
    tiny_lm: Path, monkeypatch: pytest.MonkeyPatch, make_texts: Texts
) -> None:
    most = 10 * CHARS_PER_TOKEN_CAP
    text = " ".join(make_texts(400, 5))
    assert len(text) > 8 * most
    encoder = PromptEncoder(tiny_lm, "Say: {1}", (), 10)
    of_a_short_text = encoder.encode({"text": text[:most]})
    given: list[str] = []
    real = encoder.tokens.encode

    def encode(texts: Sequence[str]) -> list[Encoded]:
        given.extend(texts)
        return real(texts)

    monkeypatch.setattr(encoder.tokens, "encode", encode)
    assert encoder.encode({"text": text}) == of_a_short_text
    assert of_a_short_text.truncated
    assert len(of_a_short_text.ids) == 10
    assert max(map(len, given)) < 2 * most


@pytest.mark.parametrize("template", ["{text} {1}", "{text} {title}", "{text} {Text}"])
def test_other_words_in_braces_are_unknown_places(template: str) -> None:
    with pytest.raises(InvalidArgument, match="unknown place"):
        template_of(template, ["the title", "text"])
    with pytest.raises(
        InvalidArgument, match=r"place \{txt\} \(did you mean 'text'\?\); known: the title, text, labels"
    ):
        template_of("{txt}", ["the title", "text"])


def test_labels_alone_are_no_place_for_the_text() -> None:
    with pytest.raises(InvalidArgument, match="has no place for the text"):
        template_of("One of {labels}:", ["text"])


@pytest.mark.parametrize("template", ["labels", "question", "{text}", "Verdict: {text} {labels}\n"])
def test_a_word_has_the_tokens_that_it_adds_to_a_prompt(tiny_lm: Path, template: str) -> None:
    encoder = PromptEncoder(tiny_lm, template_of(template, ["text"]), WORDS, 200)
    tokenizer = AutoTokenizer.from_pretrained(tiny_lm)
    prompt = encoder.encode({"text": "the film was very sad"}).ids
    written = str(tokenizer.decode(prompt))
    gap = "" if template.endswith("\n") else " "
    for word, ids in zip(WORDS, encoder.followed_by(WORDS), strict=True):
        assert tokenizer.decode(prompt + ids) == written + gap + word
        assert prompt + ids == tokenizer(written + gap + word, add_special_tokens=False)["input_ids"]
