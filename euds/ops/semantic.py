"""Semantic entropy over the meaning groups of sampled generations."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument, one_of
from euds.ops.information import information_entropy
from euds.ops.ragged import check_ids, check_offsets
from euds.types import Float64Array

ESTIMATORS = ("discrete", "rao_blackwell", "miller_madow", "chao_shen")


def semantic_entropy(
    groups: npt.ArrayLike,
    *,
    logprobs: npt.ArrayLike | None = None,
    offsets: npt.ArrayLike,
    estimator: str = "discrete",
) -> Float64Array:
    """Return the entropy over the meanings of each sample's generations.

    Source: Kuhn et al. 2023; Farquhar et al. 2024 (Nature 630:625); method.md, "Semantic entropy", estimator `samples`.

    Args:
        groups: (total,) integers, the meaning group of every generation; only equality within a sample matters.
        logprobs: (total,) mean token log-probability of every generation, nats, finite; for "rao_blackwell" only.
        offsets: (n + 1,) integers rising from 0 to total; sample i owns groups[offsets[i]:offsets[i+1]].
        estimator: "discrete" (over member counts), "rao_blackwell" (over summed probabilities, renormalised), or the
            corrections "miller_madow" and "chao_shen" of the discrete one.

    Returns:
        (n,) float64, nats, >= 0; 0 for a sample of no or one generation.

    Raises:
        InvalidArgument: an array is not flat or has another length than groups; logprobs are missing, not finite, or
            given to an estimator that does not use them; the estimator is unknown.
    """
    one_of("estimator", estimator, ESTIMATORS)
    members = check_ids("groups", groups)
    starts = check_offsets(offsets, len(members))
    if estimator != "rao_blackwell":
        if logprobs is not None:
            raise InvalidArgument(f"logprobs: estimator {estimator!r} does not use them; use 'rao_blackwell'")
        counted = "plugin" if estimator == "discrete" else estimator
        return information_entropy(members, starts, estimator=counted)
    if logprobs is None:
        raise InvalidArgument("logprobs: estimator 'rao_blackwell' needs them")
    values = np.asarray(logprobs, np.float64)
    if values.shape != members.shape or not np.isfinite(values).all():
        raise InvalidArgument(f"logprobs: must be {len(members)} finite numbers, one a generation")
    result = np.zeros(len(starts) - 1)
    for i, (start, stop) in enumerate(pairwise(starts)):
        if stop > start:
            result[i] = _rao_blackwell(members[start:stop], values[start:stop])
    return result


def _rao_blackwell(groups: npt.NDArray[np.int64], logprobs: Float64Array) -> float:
    # Relative to the largest, so that very unlikely generations do not all underflow.
    weights = np.exp(logprobs - logprobs.max())
    _, member_of = np.unique(groups, return_inverse=True)
    masses = np.bincount(member_of, weights)
    shares = masses / masses.sum()
    shares = shares[shares > 0]
    return max(float(-(shares * np.log(shares)).sum()), 0.0)
