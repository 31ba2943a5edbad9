"""Where generations end, and their texts up to there."""

from collections.abc import Iterable
from typing import Any


class Endings:
    """The tokens that end a generation.

    Args:
        generation_config: of the model, which names its end tokens, or None; else the tokenizer's is taken.
        tokenizer: of the model.
        stop_at_newline: end at the first token that holds a line break, too.

    Attributes:
        ids: the tokens, ascending.
    """

    def __init__(self, generation_config: Any, tokenizer: Any, *, stop_at_newline: bool) -> None:
        self.tokenizer = tokenizer
        self.stop_at_newline = stop_at_newline
        self._ends = _end_tokens(generation_config, tokenizer)
        self.ids = sorted(self._ends | (_line_breaks(tokenizer) if stop_at_newline else set()))

    def text(self, ids: Iterable[int]) -> str:
        """Return the text of drawn tokens, the ending one among them, without what ended it."""
        # Not every end token is a special one.
        text: Any = self.tokenizer.decode([id_ for id_ in ids if id_ not in self._ends], skip_special_tokens=True)
        # A token with a line break may hold text before it.
        return str(text.partition("\n")[0] if self.stop_at_newline else text)


def _end_tokens(generation_config: Any, tokenizer: Any) -> set[int]:
    given = getattr(generation_config, "eos_token_id", None)
    given = tokenizer.eos_token_id if given is None else given
    return set() if given is None else {given} if isinstance(given, int) else set(given)


def _line_breaks(tokenizer: Any) -> set[int]:
    # Ids may have gaps.
    tokens = sorted(set(tokenizer.get_vocab().values()))
    pieces = tokenizer.batch_decode([[token] for token in tokens])
    return {token for token, piece in zip(tokens, pieces, strict=True) if "\n" in piece}
