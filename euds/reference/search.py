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


def best_interval(
    pieces: Sequence[tuple[float, float, int, float]],
    least: int,
    most: int,
    objective: str,
    min_width: float = 0.0,
) -> tuple[int, int] | None:
    """First and last of the pieces (low, high, rows, utility) of the best interval; ties: more rows, then the lowest.

    "shortest": least width; "density": most rows per max(width, min_width); "utility": largest sum, then least width.
    """
    candidates = []
    for first, last in product(range(len(pieces)), repeat=2):
        count = sum(rows for _, _, rows, _ in pieces[first : last + 1])
        if first > last or not least <= count <= most:
            continue
        width = Fraction(pieces[last][1]) - Fraction(pieces[first][0])
        gain = sum((Fraction(value) for *_, value in pieces[first : last + 1]), Fraction(0))
        length = max(width, Fraction(min_width))
        order = {
            "shortest": (width, Fraction(0)),
            "density": (Fraction(-1), Fraction(0)) if length == 0 else (Fraction(0), -count / length),
            "utility": (-gain, width),
        }[objective]
        candidates.append((order, -count, first, last))
    return min(candidates)[2:] if candidates else None


def mid_rank(scores: Sequence[float], score: float) -> Fraction:
    """Share of the scores below plus half of the equal ones."""
    below = sum(other < score for other in scores)
    equal = sum(other == score for other in scores)
    return Fraction(2 * below + equal, 2 * len(scores))


def intersection_reach(rows: Sequence[Sequence[float]], keep: int) -> tuple[Fraction, list[int]]:
    """Smallest q with at least `keep` rows whose every mid-rank is within q of 1/2, and these rows."""
    axes = list(zip(*rows, strict=True))
    reach = [
        max(abs(mid_rank(axis, value) - Fraction(1, 2)) for axis, value in zip(axes, row, strict=True)) for row in rows
    ]
    for q in sorted(set(reach)):
        inside = [at for at, own in enumerate(reach) if own <= q]
        if len(inside) >= keep:
            return q, inside
    raise ValueError("keep exceeds the rows")


def equal_mass_bins(scores: Sequence[float], bins: int) -> list[int]:
    """Bin of each score by mid-rank; empty bins are left out."""
    wide = [int(bins * mid_rank(scores, score)) for score in scores]
    return [sorted(set(wide)).index(code) for code in wide]


def find_boxes(
    codes: npt.NDArray[np.int32],
    needs: dict[int, int],
    groups: Sequence[int],
    max_keep: int,
    utility: Sequence[float] | None = None,
    objective: str = "volume",
    k: int = 1,
    max_overlap: float = 0.5,
) -> list[tuple[tuple[int, ...], tuple[int, ...], int]]:
    """The k best boxes over all of them, each sharing at most `max_overlap` of the smaller one's rows with each before.

    Order: the objective, smallest volume, most rows, lowest bounds; codes (n, d).
    """
    n, d = codes.shape
    ranges = [
        [(low, high) for low in range(codes[:, axis].max() + 1) for high in range(low, codes[:, axis].max() + 1)]
        for axis in range(d)
    ]
    candidates = []
    for box in product(*ranges):
        rows = {at for at in range(n) if all(low <= codes[at, axis] <= high for axis, (low, high) in enumerate(box))}
        enough = all(sum(groups[at] == group for at in rows) >= need for group, need in needs.items())
        if not enough or len(rows) > max_keep:
            continue
        volume = Fraction(1)
        for axis, (low, high) in enumerate(box):
            volume *= Fraction(int(((codes[:, axis] >= low) & (codes[:, axis] <= high)).sum()), n)
        gain = {
            "volume": Fraction(0),
            "utility": Fraction(0) if utility is None else sum((Fraction(utility[at]) for at in rows), Fraction(0)),
            "lift": Fraction(len(rows), n) / volume,
        }[objective]
        candidates.append((-gain, volume, -len(rows), box, rows))
    best: list[tuple[tuple[tuple[int, int], ...], set[int]]] = []
    for *_, box, rows in sorted(candidates, key=lambda candidate: candidate[:4]):
        if len(best) < k and all(len(rows & other) <= max_overlap * min(len(rows), len(other)) for _, other in best):
            best.append((box, rows))
    return [(tuple(low for low, _ in box), tuple(high for _, high in box), len(rows)) for box, rows in best]
