"""Equal-mass edges of values that come in chunks: exact while they fit in memory, then of a seeded sample."""

import math

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument, check_seed, instance_of, whole_number
from euds.ops.histogram import close_edges, equal_mass_edges
from euds.ops.keep import UInt64Array, tie_hash
from euds.ops.pool import as_floats, as_ids
from euds.types import Float64Array, Int64Array

CONFIDENCE = 0.99
"""Of `EqualMassEdges.rank_error`."""

SMALL = 1 << 12
"""Values of a chunk up to which it is joined to the next."""


class EqualMassEdges:
    """Collects values in chunks and gives the edges of bins of equal mass.

    Up to `limit` finite values are kept as they are, and the edges are exact. Beyond, those with the `limit` smallest
    hashes of their ids are kept, a random sample that depends neither on the order nor on the parts in which the values
    came. The ranks of all its edges are off by at most `rank_error` of the rows with 99 % confidence (Dvoretzky, Kiefer
    and Wolfowitz, with the constant of Massart 1990). Equal values share a bin either way: edges are values.

    Attributes:
        n_left_out: NaN and infinite values, which are left out.
    """

    def __init__(self, *, limit: int = 1 << 24, seed: int = 0) -> None:
        """Collect nothing yet.

        Args:
            limit: most values to keep; 18 bytes each, and 80 more while edges are found.
            seed: of the sample.

        Raises:
            InvalidArgument: the limit is below 1, the seed is not in 0..2^31 - 1, or one is no integer.
        """
        self._limit = whole_number("limit", limit, least=1)
        self._seed = check_seed("seed", seed)
        self._values: list[Float64Array] = []
        self._hashes: list[UInt64Array] = []
        self._n_held = 0
        self._n_seen = 0
        self._n_added = 0
        self._ends = (math.inf, -math.inf)
        self.n_left_out = 0

    @property
    def rank_error(self) -> float:
        """Largest error of an edge's rank as a share of the rows, with 99 % confidence; 0.0 while exact."""
        if self._n_seen <= self._limit:
            return 0.0
        return math.sqrt(math.log(2 / (1 - CONFIDENCE)) / (2 * self._limit))

    def add(self, values: npt.ArrayLike, ids: npt.ArrayLike | None = None) -> None:
        """Add a chunk of values.

        Args:
            values: (n,) real numbers.
            ids: (n,) integers of 64 bits by which the sample is drawn, no two alike, those of parts that are to be
                merged included; None: the positions of the values in the order in which they are added.

        Raises:
            InvalidArgument: the values are not flat numbers, or the ids are not as many integers.
        """
        array = as_floats("values", values)
        if array.ndim != 1:
            raise InvalidArgument(f"values: must have shape (n,), got {array.shape}")
        if ids is None:
            own: Int64Array = np.arange(self._n_added, self._n_added + len(array))
        else:
            own = as_ids(ids, len(array))
        finite = np.isfinite(array)
        held = array[finite].astype(np.float64)
        self._n_added += len(array)
        self.n_left_out += len(array) - len(held)
        self._n_seen += len(held)
        self._hold(held, tie_hash(own[finite], self._seed))

    def merge(self, other: "EqualMassEdges") -> None:
        """Add all that another one has collected, which stays as it is.

        Raises:
            InvalidArgument: it has another limit or seed, so that its sample is another one, or it is this one.
            InvalidType: it is no `EqualMassEdges`.
        """
        instance_of("other", other, EqualMassEdges, "an EqualMassEdges")
        if other is self:
            raise InvalidArgument("other: must be another one; these values are there already")
        if (other._limit, other._seed) != (self._limit, self._seed):
            raise InvalidArgument(
                f"other: has limit {other._limit} and seed {other._seed}; must be {self._limit} and {self._seed}"
            )
        self._n_added += other._n_added
        self.n_left_out += other.n_left_out
        self._n_seen += other._n_seen
        for held, hashes in zip(other._values, other._hashes, strict=True):
            self._hold(held, hashes)
        self._ends = (min(self._ends[0], other._ends[0]), max(self._ends[1], other._ends[1]))

    def edges(self, bins: int) -> Float64Array:
        """Return the edges of at most `bins` bins of nearly equal mass, as `equal_mass_edges` does.

        The first and the last are those of all values, also where the others are of a sample.

        Raises:
            InvalidArgument: no finite value was added, or bins is below 1 or no integer.
        """
        bins = whole_number("bins", bins, least=1)
        self._draw()
        edges = equal_mass_edges(np.concatenate([np.empty(0), *self._values]), bins)
        lowest, largest = self._ends
        return close_edges(np.concatenate([[lowest], edges[1:-1]]), largest)

    def _hold(self, values: Float64Array, hashes: UInt64Array) -> None:
        if not len(values):
            return
        self._ends = (min(self._ends[0], float(values.min())), max(self._ends[1], float(values.max())))
        self._values.append(values)
        self._hashes.append(hashes)
        self._n_held += len(values)
        # An array of a few values is mostly overhead.
        while len(self._values) > 1 and len(self._values[-2]) <= min(len(self._values[-1]), SMALL):
            self._values[-2:] = [np.concatenate(self._values[-2:])]
            self._hashes[-2:] = [np.concatenate(self._hashes[-2:])]
        # An eighth more than the limit: each draw takes a pass over all, and the more are seen, the fewer pass.
        if self._n_held > self._limit + self._limit // 8:
            self._draw()

    def _draw(self) -> None:
        """Keep no more than the values of the `limit` smallest hashes."""
        if self._n_held <= self._limit:
            return
        values, hashes = np.concatenate(self._values), np.concatenate(self._hashes)
        drawn = np.argpartition(hashes, self._limit - 1)[: self._limit]
        self._values, self._hashes, self._n_held = [values[drawn]], [hashes[drawn]], self._limit
