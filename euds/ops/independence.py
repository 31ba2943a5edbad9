"""Whether scores agree more in some box than luck alone would show."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument
from euds.ops.box import MAX_AXES
from euds.ops.keep import Keep, parse_keep
from euds.ops.pool import as_floats
from euds.ops.ranks import check_threads
from euds.ops.stability import BINS, count_cells, count_inside, find_grid_box, marginals_of
from euds.types import Int64Array


@dataclass(frozen=True)
class Agreement:
    """The lift of a pool's best box, and what independent scores reach.

    Attributes:
        lift: rows in the box over n times its volume.
        chance_lift: the 95 % quantile of the same in pools of as many rows with the same axes, but independent ones.
        n_replicates: pools drawn.
        seed: of the drawing.
        bins: equal-mass bins per axis.
    """

    lift: float
    chance_lift: float
    n_replicates: int
    seed: int
    bins: int


def box_agreement(
    scores: npt.ArrayLike, *, keep: Keep, n_replicates: int = 50, seed: int = 0, n_threads: int | None = None
) -> Agreement:
    """Compare the lift of the smallest box with that in pools whose axes are independent.

    The best of all boxes has a lift above 1 on pure noise; drawing every cell from the product of the axes' own
    distributions (multinomial) shows how far above. Each draw costs O(cells).

    Args:
        scores: (n, d) real numbers, d = 1..3; rows with null, NaN or infinity are left out.
        keep: fraction in (0, 1] (float) or count (int) of the other rows.
        n_replicates: pools to draw, >= 1.
        seed: of the drawing.
        n_threads: threads to use, all cores if None; the result does not depend on it.

    Raises:
        InvalidArgument: a shape or number is impossible, or no row is finite.
    """
    values = as_floats("scores", scores)
    if values.ndim != 2 or not 1 <= values.shape[1] <= MAX_AXES:
        raise InvalidArgument(f"scores: must have shape (n, d) with d = 1..{MAX_AXES}, got {values.shape}")
    if n_replicates < 1:
        raise InvalidArgument(f"n_replicates: must be at least 1, got {n_replicates}")
    cells = count_cells(values, BINS[values.shape[1]], check_threads(n_threads))
    budget = parse_keep(keep, cells.n)
    shares = np.ones(())
    for marginal in marginals_of(cells.counts):
        shares = np.multiply.outer(shares, marginal / cells.n)
    rng = np.random.default_rng(seed)
    drawn = (rng.multinomial(cells.n, shares.ravel()).reshape(shares.shape) for _ in range(n_replicates))
    lifts = [_lift(counts, budget, cells.n_threads) for counts in drawn]
    return Agreement(
        _lift(cells.counts, budget, cells.n_threads), float(np.quantile(lifts, 0.95)), n_replicates, seed, cells.bins
    )


def _lift(counts: Int64Array, budget: int, n_threads: int) -> float:
    box = find_grid_box(counts, budget, n_threads)
    n = int(counts.sum())
    sides = zip(marginals_of(counts), box, strict=True)
    volume = float(np.prod([marginal[first : last + 1].sum() / n for marginal, (first, last) in sides]))
    return count_inside(counts, box) / (n * volume)
