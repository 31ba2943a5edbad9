"""Read one shard of a corpus by itself."""

from collections.abc import Iterator, Sequence

from euds.corpus import Row, Slice, SliceReader


def read_slices(slices: Sequence[Slice], *, first_row_id: int, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Yield the rows of a shard, as `cut` gives it, with nothing open from before."""
    with SliceReader(columns) as reader:
        yield from reader.read(slices, first_row_id=first_row_id)
