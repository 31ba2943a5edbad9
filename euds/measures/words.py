"""Text to word ids, where no model's tokenizer is named."""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from euds.measures.tokens import RaggedTokens, offsets_of
from euds.types import Int64Array


class WordIds:
    """An id for every word that is asked for, in order of first appearance.

    Attributes:
        words: large strings, the word of each id given so far.
    """

    def __init__(self) -> None:
        self.words: pa.LargeStringArray = pa.array([], pa.large_string())

    def ids_of(self, words: pa.LargeStringArray) -> Int64Array:
        """Return the id of each word; takes as long as it takes to hash all words so far, so ask for many at once."""
        encoded = words.dictionary_encode()
        at = np.array(pc.fill_null(pc.index_in(encoded.dictionary, self.words), -1), np.int64)
        new = at < 0
        at[new] = len(self.words) + np.arange(np.count_nonzero(new))
        self.words = pa.concat_arrays([self.words, encoded.dictionary.filter(pa.array(new))])
        found: Int64Array = at[np.asarray(encoded.indices)]
        return found


class WordTokenizer:
    """Lower-cased runs of word characters, cut at `max_tokens` words (None: no limit).

    Ids are given in order of first appearance and kept in `words`.
    """

    _SPACE = ord(" ")
    _ASCII = bytes(range(128))
    _GAPS_TO_SPACES = bytes(code if code >= 128 or re.match(r"\w", chr(code)) else ord(" ") for code in range(256))

    def __init__(self, max_tokens: int | None = None) -> None:
        self.max_tokens = max_tokens
        self._ids = WordIds()

    @property
    def words(self) -> pa.LargeStringArray:
        """The word of every id given so far."""
        return self._ids.words

    def encode_ragged(self, texts: Sequence[str]) -> RaggedTokens:
        """Encode texts, in order; a text without a word gives no ids."""
        spaced = [self._spaced(text) for text in texts]
        # With a space at either end, each word begins and ends where a space meets a letter.
        data = np.frombuffer(b" ".join([b"", *spaced, b""]), np.uint8)
        in_word = data != self._SPACE
        edges = np.flatnonzero(in_word[1:] != in_word[:-1]) + 1
        starts, stops = edges[::2], edges[1::2]
        offsets = np.searchsorted(starts, np.cumsum([1, *(len(words) + 1 for words in spaced)]))
        n_words = np.diff(offsets)
        kept = n_words if self.max_tokens is None else np.minimum(n_words, self.max_tokens)
        letters, lengths = data[in_word], stops - starts
        if (kept < n_words).any():
            taken = np.arange(len(starts)) - np.repeat(offsets[:-1], n_words) < np.repeat(kept, n_words)
            letters, lengths = letters[np.repeat(taken, lengths)], lengths[taken]
        bounds = pa.py_buffer(offsets_of(lengths))
        words = pa.LargeStringArray.from_buffers(len(lengths), bounds, pa.py_buffer(letters))
        return RaggedTokens(self._ids.ids_of(words).astype(np.int32), offsets_of(kept), kept < n_words)

    def _spaced(self, text: str) -> bytes:
        """Return the words of a text between spaces, as UTF-8; several times faster than `re` does."""
        lowered = text.lower()
        for char in set(lowered.encode().translate(None, self._ASCII).decode()):
            if not char.isalnum():
                lowered = lowered.replace(char, " ")
        return lowered.encode().translate(self._GAPS_TO_SPACES)
