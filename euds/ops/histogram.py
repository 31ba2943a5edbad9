"""Histograms of scores on 1 to 3 axes, fed in chunks and merged exactly, and the edges of their bins."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument, instance_of, real_number, whole_number
from euds.ops.pool import as_floats, as_utility
from euds.ops.ranks import check_threads, equal_mass_bins
from euds.types import Float64Array, Int64Array

MAX_AXES = 3
MAX_UTILITY = float(1 << 30)
UTILITY_STEPS = 1 << 60
"""Sums of utility are held as 128-bit integers in steps of 1 / 2^60."""


class Histogram:
    """Rows, and sums of a utility, per bin or combination of bins; parts merge exactly into the whole.

    One thread at a time may add to a histogram; several need one each, and `merge`.

    Bins are [edge, next edge), the last one closed. Utilities add up as integers in steps of 2^-60, so that no sum
    depends on the order or on how the rows were split.

    Attributes:
        edges: per axis, the bin edges, float64, strictly ascending.
        counts: rows per cell, int64, of shape (bins of the first axis, ...).
        n_nan: rows with NaN on some axis, in no cell.
        n_infinite: other rows with an infinite value on some axis, in no cell.
        n_outside: other rows below the first or above the last edge of some axis, in no cell.
    """

    def __init__(self, edges: npt.ArrayLike | Sequence[npt.ArrayLike], utilities: bool = False) -> None:
        """Make an empty histogram.

        Args:
            edges: the edges of one axis, or a sequence of the edges of 1 to 3 axes.
            utilities: whether to sum a utility of each row too.

        Raises:
            InvalidArgument: an axis has fewer than two edges, or they are not finite and strictly ascending, or memory
                has no room for as many cells.
        """
        self.edges = _as_edges(edges)
        shape = tuple(len(axis) - 1 for axis in self.edges)
        self.n_nan = self.n_infinite = self.n_outside = 0
        try:
            self.counts: Int64Array = np.zeros(shape, np.int64)
            # The low and the high word of each sum.
            self._sums: npt.NDArray[np.uint64] | None = np.zeros((*shape, 2), np.uint64) if utilities else None
        except (MemoryError, ValueError):
            # More than memory, or than NumPy counts.
            raise InvalidArgument(f"edges: {math.prod(shape):,} cells are more than memory has; take fewer") from None

    @property
    def n_left_out(self) -> int:
        """Rows that are in no cell."""
        return self.n_nan + self.n_infinite + self.n_outside

    @property
    def n_counted(self) -> int:
        """Rows that are in a cell."""
        return int(self.counts.sum())

    @property
    def utilities(self) -> Float64Array | None:
        """Sums of the utility per cell, each rounded once to float64; None if none are kept."""
        if self._sums is None:
            return None
        sums = [each / UTILITY_STEPS for each in self._steps(self._sums)]
        return np.array(sums, np.float64).reshape(self.counts.shape)

    @property
    def comparable_utilities(self) -> Int64Array | None:
        """Sums of the utility per cell as integers, for searches that compare totals exactly; None if none are kept.

        They are the sums over their greatest common divisor, so that those of equal utilities are equal whatever the
        utility is; where that leaves totals beyond 2^60, rounded down to a multiple of a power of two.
        """
        if self._sums is None:
            return None
        steps = self._steps(self._sums)
        divisor = math.gcd(*steps) or 1
        total = sum(map(abs, steps)) // divisor
        shift = max(total.bit_length() - 60, 0)
        return np.array([each // divisor >> shift for each in steps], np.int64).reshape(self.counts.shape)

    @staticmethod
    def _steps(sums: npt.NDArray[np.uint64]) -> list[int]:
        low, high = sums[..., 0].ravel(), sums[..., 1].ravel().view(np.int64)
        return [(above << 64) + below for below, above in zip(low.tolist(), high.tolist(), strict=True)]

    def add(self, values: npt.ArrayLike, utility: npt.ArrayLike | None = None, *, n_threads: int | None = None) -> None:
        """Add rows; fast on one axis without utilities, most of all for at most 64 bins or equally wide ones.

        Args:
            values: (n,) real numbers for one axis, or (n, axes).
            utility: (n,) finite numbers in -2^30..2^30, if the histogram keeps utilities.
            n_threads: threads for one axis without utilities, all cores if None; the result does not depend on it.

        Raises:
            InvalidArgument: a shape or number is impossible, or a utility is missing or not asked for.
        """
        from euds import _core

        rows = as_floats("values", values)
        rows = rows[:, None] if rows.ndim == 1 and len(self.edges) == 1 else rows
        if rows.ndim != 2 or rows.shape[1] != len(self.edges):
            raise InvalidArgument(f"values: must have shape (n, {len(self.edges)}), got {np.shape(values)}")
        weights = None
        if self._sums is not None:
            if utility is None:
                raise InvalidArgument("utility: the histogram keeps utilities; give one of each row")
            weights = as_utility(utility, len(rows))
            if np.abs(weights).max(initial=0.0) > MAX_UTILITY:
                raise InvalidArgument("utility: must be in -2^30..2^30; scale it")
        elif utility is not None:
            raise InvalidArgument("utility: make the histogram with utilities=True")
        if len(self.edges) == 1 and self._sums is None:
            flat = np.ascontiguousarray(rows[:, 0])
            left_out = _core.add_values(self.edges[0], flat, self.counts, check_threads(n_threads))
        else:
            wide: Float64Array = np.ascontiguousarray(rows, np.float64)
            left_out = _core.add_rows(self.edges, wide, weights, self.counts, self._sums)
        self._count_left_out(*left_out)

    def merge(self, other: "Histogram") -> None:
        """Add all rows of another histogram of the same bins, exactly as if they had been added here.

        Raises:
            InvalidArgument: the edges differ, or only one of the two keeps utilities.
            InvalidType: `other` is no histogram.
        """
        instance_of("other", other, Histogram, "a Histogram")
        same = len(self.edges) == len(other.edges) and all(map(np.array_equal, self.edges, other.edges))
        if not same or (self._sums is None) != (other._sums is None):
            raise InvalidArgument("merge: the histograms have different edges, or only one keeps utilities")
        self.counts += other.counts
        self._count_left_out(other.n_nan, other.n_infinite, other.n_outside)
        if self._sums is not None and other._sums is not None:
            low = self._sums[..., 0] + other._sums[..., 0]
            carry = (low < other._sums[..., 0]).astype(np.uint64)
            self._sums[..., 1] += other._sums[..., 1] + carry
            self._sums[..., 0] = low

    def _count_left_out(self, n_nan: int, n_infinite: int, n_outside: int) -> None:
        self.n_nan += n_nan
        self.n_infinite += n_infinite
        self.n_outside += n_outside

    def __repr__(self) -> str:
        bins = " x ".join(str(n) for n in self.counts.shape)
        return f"Histogram({bins} bins, {self.n_counted} rows, {self.n_left_out} left out)"


def equal_width_edges(low: float, high: float, bins: int) -> Float64Array:
    """Return the edges of equally wide bins, such as `euds.Histogram` takes.

    Args:
        low: the first edge, finite.
        high: the last edge, finite and above `low`.
        bins: how many, >= 1.

    Returns:
        (bins + 1,) float64, ascending.

    Raises:
        InvalidArgument: a number is out of its range, or so many bins are narrower than floats can tell.
    """
    bins = whole_number("bins", bins, least=1)
    low, high = real_number("low", low), real_number("high", high)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise InvalidArgument(f"low: must be below high, and both finite; got {low} and {high}")
    try:
        # Halved, so that the range itself may exceed the largest float.
        edges: Float64Array = 2.0 * np.linspace(low / 2.0, high / 2.0, bins + 1)
    except (MemoryError, ValueError, OverflowError):
        raise InvalidArgument(f"bins: {bins:,} are more than memory has; take fewer") from None
    edges[0], edges[-1] = low, high
    if not (np.diff(edges / 2.0) > 0).all():
        raise InvalidArgument(f"bins: {bins} bins from {low} to {high} are narrower than floats can tell; take fewer")
    return edges


def equal_mass_edges(values: npt.ArrayLike, bins: int) -> Float64Array:
    """Return the edges of at most `bins` bins of nearly equal mass, exactly: each bin starts at its lowest value.

    The bins are those of the box search: a value's bin is floor(bins * mid-rank), empty ones left out. Equal values
    share a bin. NaN and infinite values are left out. The last edge is the largest value, or the next float above it
    where the last bin holds that value alone.

    Args:
        values: (n,) real numbers.
        bins: at most so many, >= 1.

    Returns:
        (b + 1,) float64, ascending, in the unit of the values; 1 <= b <= bins.

    Raises:
        InvalidArgument: values are not flat numbers, none is finite, the last bin holds the largest float64 alone, or
            bins is below 1 or no integer.
    """
    bins = whole_number("bins", bins, least=1)
    array = as_floats("values", values)
    if array.ndim != 1:
        raise InvalidArgument(f"values: must have shape (n,), got {array.shape}")
    finite = array[np.isfinite(array)].astype(np.float64)
    if not len(finite):
        raise InvalidArgument("values: none is finite")
    codes, used = equal_mass_bins(finite, bins)
    lowest = np.full(used, np.inf)
    np.minimum.at(lowest, codes, finite)
    return close_edges(lowest, float(finite.max()))


def close_edges(lowest: Float64Array, largest: float) -> Float64Array:
    """Return the edges of bins that start at the ascending `lowest` and hold values up to `largest`.

    Raises:
        InvalidArgument: the last bin holds the largest float64 alone, above which there is no edge.
    """
    end = largest if largest > lowest[-1] else math.nextafter(largest, math.inf)
    if math.isinf(end):
        raise InvalidArgument(f"values: no edge lies above {largest}, which has a bin of its own; scale them down")
    return np.append(lowest, end)


def marginals_of(counts: npt.NDArray[np.integer], *, first_axis: int = 0) -> list[Int64Array]:
    """Return the rows of each bin, axis by axis; of leading axes that are none of bins, the sum."""
    axes = range(counts.ndim)
    return [counts.sum(tuple(other for other in axes if other != axis), dtype=np.int64) for axis in axes[first_axis:]]


def refuse_rows(**given: object) -> None:
    """Refuse arguments that hold something of each row: a histogram has no rows."""
    for name, value in given.items():
        if value is not None:
            raise InvalidArgument(f"{name}: a histogram has no rows; leave it out, or give the scores themselves")


def _as_edges(edges: npt.ArrayLike | Sequence[npt.ArrayLike] | Iterator[npt.ArrayLike]) -> tuple[Float64Array, ...]:
    if isinstance(edges, Iterator):
        # A look at its first entry would take it away.
        edges = list(edges)
    try:
        axes: list[npt.ArrayLike] = [edges] if np.ndim(next(iter(edges), 0.0)) == 0 else list(edges)  # type: ignore[arg-type, list-item]  # A sequence of numbers or of axes.
    except TypeError:
        raise InvalidArgument("edges: give the edges of one axis, or a sequence of the edges of several") from None
    arrays = tuple(np.array(as_floats("edges", axis), np.float64) for axis in axes)
    if not 1 <= len(arrays) <= MAX_AXES:
        raise InvalidArgument(f"edges: must be of 1 to {MAX_AXES} axes, got {len(arrays)}")
    for array in arrays:
        if array.ndim != 1 or len(array) < 2 or not np.isfinite(array).all() or (array[1:] <= array[:-1]).any():
            raise InvalidArgument("edges: every axis needs at least two finite edges that strictly ascend")
    return arrays
