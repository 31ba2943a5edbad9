"""A row of a corpus, good or bad, and the text that is scored in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One row as it was read.

    Attributes:
        row_id: 0-based position over all files in order; bad rows count.
        file: path of the file.
        position: 1-based line (JSONL) or row (other formats) in that file.
        fields: the row's values by name, or None if it could not be read.
        error: why it could not be read, or None.
    """

    row_id: int
    file: str
    position: int
    fields: Mapping[str, object] | None
    error: str | None = None


def extract_text(row: Row, text_fields: Sequence[str]) -> tuple[str | None, str | None]:
    """Return the row's text, or the reason why it has none.

    Args:
        row: a row.
        text_fields: one field, or two whose texts are joined by a newline.

    Returns:
        (text, None) or (None, reason); reasons hold nothing of the row's content, so that they can be counted.
    """
    if row.fields is None:
        return None, row.error
    texts = []
    for field in text_fields:
        if field not in row.fields:
            return None, f"field {field!r} is missing"
        value = row.fields[field]
        if value is None:
            return None, f"field {field!r} is null"
        if not isinstance(value, str):
            return None, f"field {field!r} is {type(value).__name__}, not text"
        reason = _flaw(value)
        if reason:
            return None, f"field {field!r} {reason}"
        texts.append(value)
    return "\n".join(texts), None


def extract_scalar(row: Row, field: str | None) -> str | None:
    """Return a label or source as text; None without one, and for what is none: nested values, lone surrogates."""
    value = None if field is None or row.fields is None else row.fields.get(field)
    if not isinstance(value, str | int | float):
        return None
    text = str(value)
    return text if _is_unicode(text) else None


def _flaw(text: str) -> str | None:
    if not text or text.isspace():
        return "is empty"
    if "\0" in text:
        return "holds NUL bytes"
    if not _is_unicode(text):
        return "holds lone surrogates, which are no Unicode text"
    return None


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
