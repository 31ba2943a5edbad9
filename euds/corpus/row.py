"""A row of a corpus, good or bad, and the text that is scored in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from uuid import UUID

from euds.corpus.nanoseconds import Nanoseconds
from euds.texts import joined

SCALARS = (str, int, float, Decimal, date, time, timedelta, Nanoseconds, UUID)
"""What an id, label or source may be; a datetime is a date."""


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
    return joined(texts), None


def extract_scalar(row: Row, field: str | None) -> str | None:
    """Return an id, label or source as text, as `scalar_text` has it; None without one."""
    return None if field is None or row.fields is None else scalar_text(row.fields.get(field))


def scalar_text(value: object) -> str | None:
    """Return a value as text: numbers, dates, times and UUIDs as Python writes them, bytes as UTF-8.

    Of times that Python has not, with nanoseconds, all nine digits are written.
    None for None, NaN, and what is no such text: nested values, lone surrogates, other bytes.
    """
    if isinstance(value, bytes):
        # Those that are not UTF-8 become lone surrogates.
        value = value.decode(errors="surrogateescape")
    # NaN stands where there is none, as in rows that pandas wrote.
    if not isinstance(value, SCALARS) or value != value:
        return None
    text = str(value)
    return text if is_unicode(text) else None


def _flaw(text: str) -> str | None:
    if not text or text.isspace():
        return "is empty"
    if "\0" in text:
        return "holds NUL bytes"
    if not is_unicode(text):
        return "holds lone surrogates, which are no Unicode text"
    return None


def is_unicode(text: str) -> bool:
    """Whether a text can be written: half a surrogate pair cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
