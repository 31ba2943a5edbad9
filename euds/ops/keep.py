"""How many samples to keep, of which group, and which of equals."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument, whole_number
from euds.types import Int64Array

Keep = float | int | str | np.integer[Any] | np.floating[Any]
"""A fraction in (0, 1] as a float, a count as an int, in NumPy's types, too, or either written as text."""

UInt64Array = npt.NDArray[np.uint64]


def parse_keep(keep: Keep, n: int, *, name: str = "keep") -> int:
    """Return how many of n samples to keep: ceil(keep * n) for a fraction, the number itself for a count.

    A float is a fraction and an int a count, so 1.0 keeps everything and 1 keeps one sample; text is read likewise.
    `name` is that of the argument in messages.

    Raises:
        InvalidArgument: neither a fraction in (0, 1] nor a count in 1..n.
    """
    wish = f"{name}: give a fraction in (0, 1] or a count in 1..{n}, got {keep!r}"
    try:
        keep = number_of(keep)
    except ValueError:
        raise InvalidArgument(wish) from None
    if isinstance(keep, bool) or not isinstance(keep, int | float):
        raise InvalidArgument(wish)
    if isinstance(keep, int):
        if not 1 <= keep <= n:
            raise InvalidArgument(wish)
        return keep
    if not 0 < keep <= 1 or n == 0:
        raise InvalidArgument(wish)
    # As written: in floats 0.07 of 10^11 rows is one more. Rounded: 5/6 is a float above it, and 5 rows of 6 are meant.
    return max(1, math.ceil(round(Fraction(str(keep)) * n, 6)))


def parse_max_keep(max_keep: Keep | None, n: int) -> int:
    """Return how many of n samples a region may hold: all without a limit, or by a count above n.

    Raises:
        InvalidArgument: neither a fraction in (0, 1] nor a positive count.
    """
    if max_keep is None:
        return n
    check_keep(max_keep, name="max_keep")
    limit = number_of(max_keep)
    return n if isinstance(limit, int) and limit > n else parse_keep(limit, n, name="max_keep")


def number_of(keep: Keep) -> float | int:
    """Return a fraction as a float and a count as an int, however they are written; ValueError for other text."""
    if isinstance(keep, np.integer):
        return int(keep)
    if isinstance(keep, np.floating):
        # By way of text: the float32 0.2 means 0.2, not 0.20000000298.
        return float(str(keep))
    if not isinstance(keep, str):
        return keep
    return int(keep) if keep.strip().lstrip("+").isdecimal() else float(keep)


def check_keep(keep: Keep, *, name: str = "keep") -> None:
    """Refuse what no pool could satisfy, before the size of the pool is known; `name` is the argument's in messages.

    Raises:
        InvalidArgument: neither a fraction in (0, 1] nor a positive count.
    """
    try:
        parse_keep(keep, 1 << 62)
    except InvalidArgument:
        raise InvalidArgument(f"{name}: give a fraction in (0, 1] or a count of rows from 1, got {keep!r}") from None


def split_budget(budget: int, sizes: Sequence[int]) -> list[int]:
    """Split a budget over groups in proportion to their sizes, by largest remainder; earlier groups win ties.

    The shares sum to `budget` and none exceeds its group, given budget <= sum of sizes.
    """
    total = sum(sizes)
    shares = [budget * size // total for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda at: (-(budget * sizes[at] % total), at))
    for at in by_remainder[: budget - sum(shares)]:
        shares[at] += 1
    return shares


def tie_hash(ids: Int64Array, seed: int) -> UInt64Array:
    """Return a seeded 64-bit hash of each id, the order in which equals are kept; SplitMix64 (Steele et al. 2014).

    Raises:
        InvalidArgument: the seed is no integer of 64 bits.
    """
    return splitmix64(ids.astype(np.uint64) ^ seed_hash(seed))


def seed_hash(seed: int) -> UInt64Array:
    """Return the hash (1,) of a seed.

    Raises:
        InvalidArgument: the seed is no integer of 64 bits.
    """
    seed = whole_number("seed", seed)
    if not -(1 << 63) <= seed < 1 << 63:
        raise InvalidArgument(f"seed: must be an integer of 64 bits, got {seed}")
    return splitmix64(np.array([seed], np.int64).astype(np.uint64))


def splitmix64(x: UInt64Array) -> UInt64Array:
    """Return a 64-bit hash of each number; SplitMix64 (Steele et al. 2014)."""
    # Unsigned overflow is meant.
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: UInt64Array = x ^ (x >> np.uint64(31))
    return mixed
