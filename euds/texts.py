"""What the text of a row is."""

from collections.abc import Iterable


def joined(texts: Iterable[str]) -> str:
    """Return the one text that the texts of a row's fields make, in order, with a newline between two."""
    return "\n".join(texts)
