"""Entropies as they are defined, one sample at a time, in float64."""

from collections import Counter
from collections.abc import Sequence
from math import expm1, log, log1p

import numpy as np

from euds.types import Float64Array


def token_stats(logits: Float64Array, target: int | None = None) -> dict[str, float]:
    """Statistics of one next-token distribution; logits (V,), -inf for tokens that cannot occur."""
    z = np.asarray(logits, np.float64)
    if np.isnan(z).any() or (z == np.inf).any() or (z == -np.inf).all():
        return dict.fromkeys(("entropy", "varentropy", "logsumexp", "max_prob", "target_logprob"), float("nan"))
    top = z.max()
    log_sum = np.log(np.exp(z - top).sum())
    # The difference to the maximum first: far from 0, the log-sum-exp is not exact.
    logp = z - top - log_sum
    p = np.exp(logp)
    possible = p > 0
    entropy = -(p[possible] * logp[possible]).sum()
    varentropy = (p[possible] * (logp[possible] + entropy) ** 2).sum()
    return {
        "entropy": float(entropy),
        "varentropy": float(varentropy),
        "logsumexp": float(top + log_sum),
        "max_prob": float(p.max()),
        "target_logprob": float("nan") if target is None else float(logp[target]),
    }


def information_entropy(ids: Sequence[int], estimator: str = "plugin") -> float:
    """Entropy of the token counts of one sample, nats."""
    return count_entropy(list(Counter(ids).values()), estimator)


def unigram_surprisal(ids: Sequence[int], counts: Sequence[int]) -> float:
    """Mean surprisal of one sample under the add-one-smoothed unigram of the pool, nats; NaN of an empty one."""
    types = sum(count > 0 for count in counts)
    total = sum(counts) + types
    return -sum(log((counts[token] + 1) / total) for token in ids) / len(ids) if ids else float("nan")


def cluster_entropy(embedding: Float64Array, centroids: Float64Array, m: int, temperature: float) -> float:
    """Entropy of the softmax over the m nearest centroids' cosine similarities, nats."""
    similarities = np.sort(centroids @ embedding)[::-1][:m] / temperature
    return token_stats(similarities)["entropy"]


def semantic_entropy(
    groups: Sequence[int], logprobs: Sequence[float] | None = None, estimator: str = "discrete"
) -> float:
    """Entropy over the meaning groups of one sample's generations, nats; NaN of none."""
    if not groups:
        return float("nan")
    if estimator != "rao_blackwell":
        return count_entropy(list(Counter(groups).values()), {"discrete": "plugin"}.get(estimator, estimator))
    assert logprobs is not None
    masses: dict[int, float] = {}
    for group, logprob in zip(groups, logprobs, strict=True):
        masses[group] = masses.get(group, 0.0) + float(np.exp(logprob))
    total = sum(masses.values())
    if total == 0:
        return float("nan")
    return -sum(mass / total * log(mass / total) for mass in masses.values() if mass > 0)


def count_entropy(counts: Sequence[int], estimator: str) -> float:
    """Entropy of a distribution seen through counts: plugin, miller_madow or chao_shen, nats."""
    n = sum(counts)
    if n == 0:
        return 0.0
    shares = [count / n for count in counts]
    plugin = -sum(share * log(share) for share in shares)
    if estimator == "plugin":
        return plugin
    if estimator == "miller_madow":
        return plugin + (len(counts) - 1) / (2 * n)
    singletons = sum(count == 1 for count in counts)
    coverage = 1 - (n - 1 if singletons == n else singletons) / n
    adjusted = [coverage * share for share in shares]
    # All of a distribution in one type has no entropy, and its chance to be seen no logarithm.
    return sum(-p * log(p) / -expm1(n * log1p(-p)) for p in adjusted if 0 < p < 1)
