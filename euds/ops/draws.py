"""Uniform random numbers by counter: each is a function of its place alone, not of what was drawn before it."""

import numpy as np
import numpy.typing as npt

from euds.ops.keep import seed_hash, splitmix64
from euds.types import Float64Array


def uniform_draws(seed: int, rows: npt.ArrayLike, generations: npt.ArrayLike, steps: npt.ArrayLike) -> Float64Array:
    """Return a number in [0, 1) for every place (row, generation, step), the same whatever is drawn beside it.

    SplitMix64 (Steele et al. 2014) over the seed and the three numbers in turn, its upper 53 bits.

    Args:
        seed: any integer of 64 bits.
        rows, generations, steps: integers >= 0 that broadcast to one shape.

    Returns:
        Float64 of that shape.

    Raises:
        InvalidArgument: the seed is no integer of 64 bits.
    """
    places = np.broadcast_arrays(rows, generations, steps)
    mixed = seed_hash(seed)
    for part in places:
        mixed = splitmix64(mixed ^ part.astype(np.uint64))
    # 2^-53 is the distance of neighbours below 1.
    return np.asarray((mixed >> np.uint64(11)) * 2.0**-53, np.float64).reshape(places[0].shape)
