"""The grid that the search of boxes takes: no bin of it is empty, and it has as many axes as scores can have."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from euds.ops.histogram import MAX_AXES, marginals_of
from euds.types import Int64Array


@dataclass(frozen=True, eq=False)
class FilledCells:
    """Rows and utility of the cells of a grid without its empty bins.

    Attributes:
        counts: int32 (groups, b0, b1, b2); leading axes that there are no scores for have one bin.
        sums: int64 (b0, b1, b2) of scaled utilities, or None.
        used: by axis of the scores, which bins of the whole grid these are.
        masses: by axis of the scores, rows below each edge of these bins.
    """

    counts: npt.NDArray[np.int32]
    sums: Int64Array | None
    used: tuple[Int64Array, ...]
    masses: tuple[Int64Array, ...]

    def places(self, ends: Sequence[int]) -> list[int]:
        """Return the place on every axis of the scores that the search names by MAX_AXES numbers."""
        return list(ends[-len(self.used) :])

    def bins(self, ends: Sequence[int]) -> list[int]:
        """Return the bin of the whole grid on every axis of the scores that the search names by MAX_AXES numbers."""
        return [int(used[place]) for used, place in zip(self.used, self.places(ends), strict=True)]


def filled_cells(counts: npt.NDArray[np.integer], sums: Int64Array | None = None) -> FilledCells:
    """Leave the empty bins of a grid out.

    Args:
        counts: (groups, bins, ...) rows, with 1 to MAX_AXES axes of bins.
        sums: (bins, ...) scaled utilities.
    """
    n_groups, d = len(counts), counts.ndim - 1
    marginals = marginals_of(counts, first_axis=1)
    used = tuple(np.flatnonzero(marginal) for marginal in marginals)
    masses = tuple(np.concatenate(([0], np.cumsum(marginal[marginal > 0]))) for marginal in marginals)
    shape = (1,) * (MAX_AXES - d) + tuple(map(len, used))
    filled = counts[np.ix_(np.arange(n_groups), *used)].reshape(n_groups, *shape)
    return FilledCells(
        counts=np.ascontiguousarray(filled, np.int32),
        sums=None if sums is None else np.ascontiguousarray(sums[np.ix_(*used)].reshape(shape)),
        used=used,
        masses=masses,
    )
