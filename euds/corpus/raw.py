"""What every format's reader yields."""

from collections.abc import Mapping
from typing import NamedTuple


class RawRow(NamedTuple):
    """A row before it has an id: its 1-based position in the file, and its fields or the reason why it has none."""

    position: int
    fields: Mapping[str, object] | None
    error: str | None
