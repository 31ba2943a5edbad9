"""The interval and box searches by trying everything."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import product

import numpy as np
import numpy.typing as npt


def densest_interval(scores: Sequence[float], keep: int) -> tuple[float, float]:
    """Shortest closed interval between two scores that holds at least `keep`; ties: more scores, then the lower."""
    candidates = []
    for low, high in product(sorted(set(scores)), repeat=2):
        count = sum(low <= score <= high for score in scores)
        if count >= keep:
            candidates.append((high - low, -count, low, high))
    return min(candidates)[2:]


def mid_rank(scores: Sequence[float], score: float) -> Fraction:
    """Share of the scores below plus half of the equal ones."""
    below = sum(other < score for other in scores)
    equal = sum(other == score for other in scores)
    return Fraction(2 * below + equal, 2 * len(scores))


def equal_mass_bins(scores: Sequence[float], bins: int) -> list[int]:
    """Bin of each score by mid-rank; empty bins are left out."""
    wide = [int(bins * mid_rank(scores, score)) for score in scores]
    return [sorted(set(wide)).index(code) for code in wide]


def find_box(
    codes: npt.NDArray[np.int32],
    needs: dict[int, int],
    groups: Sequence[int],
    max_keep: int,
    utility: Sequence[float] | None = None,
) -> tuple[tuple[int, ...], tuple[int, ...], int] | None:
    """Best box over all of them: largest utility, smallest volume, most rows, lowest bounds; codes (n, d)."""
    n, d = codes.shape
    ranges = [
        [(low, high) for low in range(codes[:, axis].max() + 1) for high in range(low, codes[:, axis].max() + 1)]
        for axis in range(d)
    ]
    best = None
    for box in product(*ranges):
        rows = [at for at in range(n) if all(low <= codes[at, axis] <= high for axis, (low, high) in enumerate(box))]
        enough = all(sum(groups[at] == group for at in rows) >= need for group, need in needs.items())
        if not enough or len(rows) > max_keep:
            continue
        volume = Fraction(1)
        for axis, (low, high) in enumerate(box):
            volume *= Fraction(int(((codes[:, axis] >= low) & (codes[:, axis] <= high)).sum()), n)
        gain = 0.0 if utility is None else sum(utility[at] for at in rows)
        candidate = (-gain, volume, -len(rows), box)
        if best is None or candidate < best:
            best = candidate
    if best is None:
        return None
    return tuple(low for low, _ in best[3]), tuple(high for _, high in best[3]), -best[2]
