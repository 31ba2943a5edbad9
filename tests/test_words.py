"""Words and token ids: splitting fast finds what the regular expression finds, and ids may have gaps."""

import json
import re
import shutil
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertTokenizer

import euds
from euds.measures.tokens import CHARS_PER_TOKEN_CAP, ModelTokenizer, WordTokenizer

Characters = st.one_of(st.characters(max_codepoint=127), st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.one_of(st.text(), st.text(st.characters(max_codepoint=127)), st.text(Characters)), max_size=4))
@settings(max_examples=300, deadline=None)
def test_words_are_runs_of_word_characters(texts: list[str]) -> None:
    tokenizer = WordTokenizer(max_tokens=6)
    encoded = tokenizer.encode(texts)
    found = [[tokenizer.words[at] for at in sample.ids] for sample in encoded]
    oracle = [re.findall(r"\w+", text.lower()) for text in texts]
    assert found == [words[:6] for words in oracle]
    assert [sample.truncated for sample in encoded] == [len(words) > 6 for words in oracle]
    assert tokenizer.words == list(dict.fromkeys(word for words in found for word in words))


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
