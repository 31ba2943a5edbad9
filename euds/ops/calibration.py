"""The temperature at which clustering entropies spread over their range, and how many sit at its ends."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument, real_number, whole_number
from euds.ops.cluster import CentroidIndex, checked_index, nearest_centroids, sample_rows
from euds.ops.embeddings import as_matrix, usable_rows
from euds.ops.pool import as_floats
from euds.types import Float32Array

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 1e-6, 1e6
ROUNDING = 1e-5
"""By how much of ln m an entropy in float32 may lie beyond its range."""

STEPS = 60
"""Halvings of the logarithmic range of temperatures; the width left is far below the rounding of float32."""


@dataclass(frozen=True)
class EndShares:
    """Shares of scores at the ends of their range, where they no longer tell samples apart.

    Attributes:
        low: of those near 0, in 0..1.
        high: of those near ln m, in 0..1.
    """

    low: float
    high: float


@dataclass(frozen=True)
class TemperatureCalibration:
    """The temperature that was found, and what it gives on the sample.

    Attributes:
        similarity_temperature: divisor of the cosine similarities.
        mean_of_range: mean of entropy / ln m at that temperature, in 0..1.
        ends: shares of the sample within 1 % of the ends of 0..ln m.
        n_sampled: rows looked at.
    """

    similarity_temperature: float
    mean_of_range: float
    ends: EndShares
    n_sampled: int


def calibrate_temperature(
    embeddings: npt.ArrayLike,
    centroids: npt.ArrayLike | CentroidIndex,
    *,
    n_neighbors: int,
    target_mean: float = 0.5,
    sample_size: int = 20_000,
    seed: int = 0,
) -> TemperatureCalibration:
    """Find the temperature at which the mean of entropy / ln m over a sample is `target_mean`.

    The entropy of a softmax rises with its temperature, so bisection finds the one there is, in 1e-6..1e6.

    Args:
        embeddings: (n, H) real numbers, as for `euds.cluster_entropy`; rows without a direction are left out.
        centroids: (K, H) of unit norm, as `euds.fit_centroids` returns them, or an index of them.
        n_neighbors: m, 2..K.
        target_mean: in 0..1, both excluded; 0.5 puts the scores amid their range.
        sample_size: most rows looked at, >= 1.
        seed: of the sample, in 0..2^31-1.

    Returns:
        The temperature, for `euds.cluster_entropy` and `euds.score`, with what it gives on the sample.

    Raises:
        InvalidArgument: a number is out of its range, no row has a direction, centroids are not of unit norm, the
            widths differ, or no temperature reaches the target because the similarities of the nearest centroids are
            equal.
    """
    target_mean = real_number("target_mean", target_mean)
    if not 0 < target_mean < 1:
        raise InvalidArgument(f"target_mean: must be between 0 and 1, both excluded; got {target_mean}")
    n_neighbors = whole_number("n_neighbors", n_neighbors)
    if n_neighbors == 1:
        raise InvalidArgument("n_neighbors: must be at least 2, as the entropy over one cluster is always 0")
    sample_size = whole_number("sample_size", sample_size, least=1)
    array = as_matrix(embeddings)
    index = checked_index(centroids, array, n_neighbors)
    usable = np.flatnonzero(usable_rows(array))
    if len(usable) == 0:
        raise InvalidArgument("embeddings: no row has a direction")
    sample = usable[sample_rows(len(usable), sample_size, seed)]
    similarities, _, _ = nearest_centroids(array[sample], index, n_neighbors)
    temperature = _bisect(similarities, target_mean)
    entropy = _entropy(similarities, temperature)
    mean = float(entropy.mean(dtype=np.float64)) / math.log(n_neighbors)
    return TemperatureCalibration(temperature, mean, share_at_ends(entropy, n_neighbors), len(sample))


def share_at_ends(entropy: npt.ArrayLike, n_neighbors: int, *, margin: float = 0.01) -> EndShares:
    """Return which shares of clustering entropies lie within margin * ln m of 0 and of ln m; NaN is left out.

    Args:
        entropy: (n,) nats, in 0..ln m but for rounding.
        n_neighbors: m, >= 2.
        margin: 0..0.5, as a fraction of ln m.

    Raises:
        InvalidArgument: a number is out of its range, the shape is not (n,), or every entropy is NaN.
    """
    n_neighbors = whole_number("n_neighbors", n_neighbors, least=2)
    margin = real_number("margin", margin)
    if not 0 <= margin <= 0.5:
        raise InvalidArgument(f"margin: must be 0..0.5, got {margin}")
    values = as_floats("entropy", entropy).astype(np.float64)
    if values.ndim != 1:
        raise InvalidArgument(f"entropy: must have shape (n,), got {values.shape}")
    values = values[~np.isnan(values)] / math.log(n_neighbors)
    if len(values) == 0:
        raise InvalidArgument("entropy: every value is NaN")
    beyond = (values < -ROUNDING) | (values > 1 + ROUNDING)
    if beyond.any():
        worst = float(values[beyond][0]) * math.log(n_neighbors)
        raise InvalidArgument(
            f"entropy: must be in 0..ln {n_neighbors} = {math.log(n_neighbors):.4f} nats, got {worst:.4f}; was it made "
            "with more neighbors?"
        )
    return EndShares(low=float((values <= margin).mean()), high=float((values >= 1 - margin).mean()))


def _bisect(similarities: Float32Array, target_mean: float) -> float:
    low, high = math.log(LOWEST_TEMPERATURE), math.log(HIGHEST_TEMPERATURE)
    target = target_mean * math.log(similarities.shape[1])
    least, most = (float(_entropy(similarities, math.exp(end)).mean(dtype=np.float64)) for end in (low, high))
    if not least <= target <= most:
        raise InvalidArgument(
            f"target_mean: {target_mean} cannot be reached; the nearest centroids are as similar as each other, and "
            f"every temperature gives {least / target * target_mean:.4f} to {most / target * target_mean:.4f}"
        )
    for _ in range(STEPS):
        middle = (low + high) / 2
        if _entropy(similarities, math.exp(middle)).mean(dtype=np.float64) < target:
            low = middle
        else:
            high = middle
    return math.exp(high)


def _entropy(similarities: Float32Array, temperature: float) -> Float32Array:
    from euds.kernels.cluster_entropy_numba import softmax_entropy

    entropy: Float32Array = softmax_entropy(similarities, temperature)
    return entropy
