"""Words and token ids: splitting fast finds what the regular expression finds, and ids may have gaps."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertTokenizer

import euds
from euds.measures import tokens
from euds.measures.tokens import CHARS_PER_TOKEN_CAP, ModelTokenizer, load_tokenizer
from euds.measures.words import WordTokenizer
from euds.reference.entropy import unigram_surprisal

Characters = st.one_of(st.characters(max_codepoint=127), st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.one_of(st.text(), st.text(st.characters(max_codepoint=127)), st.text(Characters)), max_size=4))
@settings(max_examples=300, deadline=None)
def test_words_are_runs_of_word_characters(texts: list[str]) -> None:
    tokenizer = WordTokenizer(max_tokens=6)
    encoded = tokenizer.encode_ragged(texts)
    words = tokenizer.words.to_pylist()
    found = [[words[at] for at in ids] for ids in np.split(encoded.ids, encoded.offsets[1:-1])][: len(texts)]
    oracle = [re.findall(r"\w+", text.lower()) for text in texts]
    assert found == [words[:6] for words in oracle]
    assert encoded.truncated.tolist() == [len(words) > 6 for words in oracle]
    assert words == list(dict.fromkeys(word for words in found for word in words))


@given(st.lists(st.text(alphabet="ab \u00e9"), max_size=8), st.integers(0, 8))
@settings(max_examples=100, deadline=None)
def test_a_word_keeps_its_id_from_call_to_call(texts: list[str], cut: int) -> None:
    whole, parts = WordTokenizer(), WordTokenizer()
    together = whole.encode_ragged(texts)
    apart = [parts.encode_ragged(some) for some in (texts[:cut], texts[cut:])]
    assert np.concatenate([some.ids for some in apart]).tolist() == together.ids.tolist()
    assert parts.words.equals(whole.words)


@pytest.mark.parametrize("at_once", [1, 9, 1 << 20])
def test_words_are_counted_over_all_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr("euds.engine.pool.WORDS_AT_ONCE", at_once)
    rng = np.random.default_rng(3)
    rows = [rng.choice(["a", "B", "c", "\u00c9t\u00e9", "film", f"only{at}"], rng.integers(1, 9)) for at in range(23)]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": ", ".join(words)}) + "\n" for words in rows))
    euds.score(corpus, out=tmp_path / "run", measures=["information"], shard_rows=3)
    found = euds.read_scores(tmp_path / "run")["surprisal_nats"].to_pylist()
    lowered = [[word.lower() for word in words] for words in rows]
    numbers = {word: at for at, word in enumerate(dict.fromkeys(word for words in lowered for word in words))}
    counts = np.bincount([numbers[word] for words in lowered for word in words])
    oracle = [unigram_surprisal([numbers[word] for word in words], counts.tolist()) for words in lowered]
    assert found == pytest.approx(oracle, rel=1e-6)


def test_ids_with_gaps_are_counted(tmp_path: Path, tiny_encoder: Path) -> None:
    shutil.copytree(tiny_encoder, tmp_path / "gaps")
    special = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    BertTokenizer(vocab={**special, "the": 40, "film": 90}).save_pretrained(tmp_path / "gaps")
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"text": "the film"}\n{"text": "the the"}\n')
    assert ModelTokenizer(tmp_path / "gaps", None).vocabulary_size == 91
    scored = euds.score(corpus, out=tmp_path / "run", measures=["information"], tokenizer=tmp_path / "gaps")
    assert scored.n_scored == 2
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["counts"]["tokens"] == 4


def test_a_text_is_read_until_its_tokens_suffice_however_long_their_characters_are(tiny_encoder: Path) -> None:
    whole, limited = ModelTokenizer(tiny_encoder, None), ModelTokenizer(tiny_encoder, 16)
    far = 16 * CHARS_PER_TOKEN_CAP
    words = " ".join(["film"] * 200)
    texts = [
        " " * (far + 9) + "the film was sad",
        "x9" * (2 * far) + f" {words}",
        " " * (5 * far) + words,
        " " * (far - 40) + "film" + " " * (8 * far),
        "",
        words,
        "the film",
    ]
    found, oracle = limited.encode(texts), whole.encode(texts)
    assert [one.ids for one in found] == [one.ids[:16] for one in oracle]
    assert [one.truncated for one in found] == [len(one.ids) > 16 for one in oracle]
    assert [len(one.ids) for one in found] == [4, 16, 16, 1, 0, 16, 2]
    assert limited.encode([]) == []


def test_ids_are_those_of_the_tokenizer_whatever_its_file_says(tmp_path: Path, tiny_encoder: Path) -> None:
    shutil.copytree(tiny_encoder, tmp_path / "cutting")
    path = tmp_path / "cutting" / "tokenizer.json"
    content = json.loads(path.read_text())
    padding = {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None}
    content["padding"] = padding | {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    content["truncation"] = {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    path.write_text(json.dumps(content))
    texts = ["the film was sad and long", "", "film [SEP] film", "\u00e9t\u00e9 \U0001f600 the"]
    for folder in (tiny_encoder, tmp_path / "cutting"):
        encoder = ModelTokenizer(folder, None)
        assert encoder._is_plain
        expected = load_tokenizer(folder)(texts, add_special_tokens=False)["input_ids"]
        assert [one.ids for one in encoder.encode(texts)] == expected
        assert len(expected[0]) == 6


def test_what_a_tokenizer_does_in_python_is_not_left_out(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Reversing(BertTokenizer):
        def _encode_plus(self, *args: Any, **options: Any) -> Any:
            found = super()._encode_plus(*args, **options)
            return {"input_ids": [ids[::-1] for ids in found["input_ids"]]}

    forward = ModelTokenizer(tiny_encoder, None).encode(["the film was sad"])[0].ids
    monkeypatch.setattr(tokens, "load_tokenizer", Reversing.from_pretrained)
    assert ModelTokenizer(tiny_encoder, None).encode(["the film was sad"])[0].ids == forward[::-1]
