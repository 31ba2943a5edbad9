"""What every format's reader takes and yields."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

Marks = tuple[Sequence[int], Sequence[int]]
"""A block of rows in order: where reading each begins, and its position."""


class RawRow(NamedTuple):
    """A row before it has an id: its 1-based position in the file, and its fields or the reason why it has none."""

    position: int
    fields: Mapping[str, object] | None
    error: str | None


class Source(Protocol):
    """An open file; reading on from where it stands never goes back, which a compressed file could not do cheaply."""

    def rows(self, start: int = 0, position: int = 1) -> Iterator[RawRow]:
        """Yield the rows from one on, to the end of the file.

        Args:
            start: where the row begins, as the format's `marks` gives it; 0: the first row.
            position: the row's position.

        Raises:
            InputError: no row can begin there, or the file cannot be read any further.
        """
        ...

    def close(self) -> None:
        """Close the file."""
        ...
