"""Text to token ids by a model's tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from euds.errors import InputError, reason_of
from euds.types import BoolArray, Int32Array, Int64Array

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHARS_PER_TOKEN_CAP = 64
"""Characters tokenised per token kept, at first: of prose no tokenizer in use averages nearly so many."""


@dataclass(frozen=True)
class Encoded:
    """Token ids of one text without special tokens, and whether tokens had to be cut off to respect the limit."""

    ids: list[int]
    truncated: bool


@dataclass(frozen=True, eq=False)
class RaggedTokens:
    """Token ids of many texts, one text after another.

    Attributes:
        ids: (total,) int32.
        offsets: (n + 1,) int64; those of text i are ids[offsets[i]:offsets[i+1]].
        truncated: (n,) bool, whether tokens had to be cut off to respect the limit.
    """

    ids: Int32Array
    offsets: Int64Array
    truncated: BoolArray


class TextEncoder(Protocol):
    """Anything that turns texts into token ids that mean the same in every call."""

    def encode_ragged(self, texts: Sequence[str]) -> RaggedTokens:
        """Encode texts, in order."""
        ...


class ModelTokenizer:
    """The tokenizer of a model folder, cut at `max_tokens` ids (None: no limit)."""

    def __init__(self, folder: Path, max_tokens: int | None) -> None:
        self.tokenizer: Any = load_tokenizer(folder)
        self.max_tokens = max_tokens
        self._is_plain = _is_plain(self.tokenizer)

    @property
    def vocabulary_size(self) -> int:
        """One more than the largest id that the tokenizer can produce; ids may have gaps."""
        return int(1 + max(self.tokenizer.get_vocab().values()))

    @property
    def bos_id(self) -> int | None:
        """The id that the tokenizer itself puts before a text, or None if it puts none."""
        bos = self.tokenizer.bos_token_id
        before, _ = special_frame(self.tokenizer)
        return int(bos) if bos is not None and before == [bos] else None

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Encode texts without special tokens, in order."""
        limit = self.max_tokens
        encoded = [Encoded([], truncated=False)] * len(texts)
        left: Sequence[int] = range(len(texts))
        chars = max(map(len, texts), default=0) if limit is None else max(1, limit) * CHARS_PER_TOKEN_CAP
        while left:
            cut = [texts[at][:chars] for at in left]
            short = []
            for at, start, ids in zip(left, cut, self._ids_of(cut), strict=True):
                is_cut = len(start) < len(texts[at])
                if is_cut and limit is not None and len(ids) <= limit:
                    # Long runs of spaces are no token to some tokenizers, and a long word is one to others.
                    short.append(at)
                else:
                    encoded[at] = Encoded(ids[:limit], is_cut or len(ids[:limit]) < len(ids))
            left, chars = short, 2 * chars
        return encoded

    def encode_ragged(self, texts: Sequence[str]) -> RaggedTokens:
        """Encode texts as `encode` does, into flat arrays."""
        encoded = self.encode(texts)
        offsets = offsets_of([len(one.ids) for one in encoded])
        ids = np.fromiter(chain.from_iterable(one.ids for one in encoded), np.int32, offsets[-1])
        return RaggedTokens(ids, offsets, np.array([one.truncated for one in encoded], bool))

    def _ids_of(self, texts: list[str]) -> list[list[int]]:
        if not self._is_plain:
            found = self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
            ids: list[list[int]] = found["input_ids"]
            return ids
        # Settles what the tokenizer's file may say of cutting, padding and the names of special tokens in a text.
        self.tokenizer(texts[:1], add_special_tokens=False, verbose=False)
        # The same ids without types and offsets: in three quarters of the time, of which Python holds half as much.
        encodings = self.tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]


def offsets_of(lengths: npt.ArrayLike) -> Int64Array:
    """Return where each of so many texts, of the given lengths, begins, and where the last one ends."""
    return np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Load a model folder's tokenizer; code in the folder is never run.

    Raises:
        InputError: the folder holds no tokenizer that transformers can load.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    # Damaged files come out as whatever they happen to trip over.
    except Exception as error:
        reason = reason_of(error)
        raise InputError(f"{folder}: no tokenizer could be loaded: {reason}") from error
    # Where the files are missing, transformers makes some tokenizers without a word in them.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise InputError(f"{folder}: its tokenizer knows no word; are tokenizer.json and vocab.txt missing?")
    return tokenizer


def _is_plain(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Tell whether its ids are those of the Rust tokenizer that it wraps, with nothing added in Python."""
    from transformers import PreTrainedTokenizerFast

    own: Any = type(tokenizer)
    wrapper: Any = PreTrainedTokenizerFast
    methods = ("__call__", "_encode_plus")
    return isinstance(tokenizer, wrapper) and all(getattr(own, name) is getattr(wrapper, name) for name in methods)


def special_frame(tokenizer: "PreTrainedTokenizerBase") -> tuple[list[int], list[int]]:
    """Return the special ids that the tokenizer puts before and after a single text."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed = tokenizer("a")["input_ids"]
    at = next(at for at in range(len(framed)) if framed[at : at + len(plain)] == plain)
    return framed[:at], framed[at + len(plain) :]
