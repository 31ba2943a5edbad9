"""Words: the fast way of splitting finds what the regular expression finds."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from euds.measures.tokens import WordTokenizer

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
