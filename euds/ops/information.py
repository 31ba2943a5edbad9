"""Information entropy: how varied the tokens of a sample are, and how rare in the pool."""

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument, one_of
from euds.ops.ragged import PIECES, WORTH_THREADS, check_ids, check_offsets, table_entries
from euds.types import Float64Array, Int64Array

ESTIMATORS = ("plugin", "miller_madow", "chao_shen")


def information_entropy(token_ids: npt.ArrayLike, offsets: npt.ArrayLike, *, estimator: str = "plugin") -> Float64Array:
    """Return the entropy of each sample's token counts.

    The plug-in entropy grows with the length of a short text; docs/method.md, "Information entropy", names that trap.

    Args:
        token_ids: (total,) integers, the samples one after another.
        offsets: (n + 1,) integers rising from 0 to total; sample i is token_ids[offsets[i]:offsets[i+1]].
        estimator: "plugin" (0..ln L), "miller_madow" (adds (K - 1) / 2L for K types) or "chao_shen" (Chao and Shen
            2003; weighs by the coverage that the singletons suggest).

    Returns:
        (n,) float64, nats, >= 0; 0 for a sample of no or one token.

    Raises:
        InvalidArgument: an array is not flat and of integers, offsets do not rise from 0 to total, or the estimator is
            unknown.
    """
    from euds.kernels import information_numba as kernels

    one_of("estimator", estimator, ESTIMATORS)
    ids = check_ids("token_ids", token_ids)
    starts = check_offsets(offsets, len(ids))
    code = {"plugin": kernels.PLUGIN, "miller_madow": kernels.MILLER_MADOW, "chao_shen": kernels.CHAO_SHEN}[estimator]
    n_ids = table_entries(ids)
    n = len(starts) - 1
    result: Float64Array
    if n_ids is None:
        result = kernels.ragged_count_entropy(ids, starts, code)
    elif len(ids) < WORTH_THREADS:
        result = kernels.dense_count_entropy(ids, starts, 0, n, n_ids, code)
    else:
        result = kernels.ragged_count_entropy_dense(ids, starts, n_ids, min(PIECES, n), code)
    return result


def unigram_surprisal(
    token_ids: npt.ArrayLike, offsets: npt.ArrayLike, counts: npt.ArrayLike, *, mass: int | None = None
) -> Float64Array:
    """Return each sample's mean surprisal under the add-one-smoothed unigram of its pool.

    q(w) = (count(w) + 1) / mass, where the mass is the sum of counts + number of types that occur in the pool.

    Args:
        token_ids: (total,) integers in 0..V-1.
        offsets: (n + 1,) integers rising from 0 to total.
        counts: (V,) occurrences of each id in the pool, >= 0.
        mass: `smoothed_mass` of the counts of the whole pool, where `counts` is of some of its types; None: of all.

    Returns:
        (n,) float64, nats; NaN for an empty sample.

    Raises:
        InvalidArgument: an array is not flat and of integers, an id lies outside 0..V-1, or a count is negative.
    """
    from euds.kernels.information_numba import ragged_mean

    ids = check_ids("token_ids", token_ids)
    starts = check_offsets(offsets, len(ids))
    occurrences = check_ids("counts", counts)
    if (occurrences < 0).any():
        raise InvalidArgument("counts: must not be negative")
    if len(ids) and (ids.min() < 0 or ids.max() >= len(occurrences)):
        raise InvalidArgument(f"token_ids: must lie in 0..{len(occurrences) - 1}, the range of counts")
    mass = smoothed_mass(occurrences) if mass is None else mass
    surprisal = -np.log((occurrences + 1) / max(mass, 1))
    result: Float64Array = ragged_mean(surprisal, ids, starts)
    result[np.diff(starts) == 0] = np.nan
    return result


def smoothed_mass(counts: Int64Array) -> int:
    """Return the sum of a pool's counts plus one for every type that occurs in it."""
    return int(counts.sum()) + int(np.count_nonzero(counts))
