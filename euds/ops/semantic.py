"""Semantic entropy of sampled generations: over their meaning groups, or straight from their embeddings."""

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument, one_of, positive_number
from euds.ops.embeddings import check_embeddings
from euds.ops.information import information_entropy
from euds.ops.pool import as_floats
from euds.ops.ragged import PIECES, WORTH_THREADS, check_ids, check_offsets, table_entries
from euds.types import Float64Array, Int64Array

ESTIMATORS = ("discrete", "rao_blackwell", "miller_madow", "chao_shen")
EMBEDDING_ESTIMATORS = ("nearest_neighbor", "kernel_language")
"""Estimators over embeddings of the generations, without groups; each has a function of its own."""

LAPLACIANS = ("combinatorial", "normalized")
KERNEL_SCALES = ("trace", "unit_diagonal")

ROUNDING_NATS = 1e-6
"""How far above 0 the rounding of a float32 log-softmax can put a log-probability."""


def semantic_entropy(
    groups: npt.ArrayLike,
    *,
    logprobs: npt.ArrayLike | None = None,
    offsets: npt.ArrayLike,
    estimator: str = "discrete",
    text_ids: npt.ArrayLike | None = None,
) -> Float64Array:
    """Return the entropy over the meanings of each sample's generations.

    Source: Kuhn et al. 2023; Farquhar et al. 2024 (Nature 630:625); docs/method.md, "Semantic entropy", `samples`.

    Args:
        groups: (total,) integers, the meaning group of every generation; only equality within a sample matters.
        logprobs: (total,) mean token log-probability of every generation, nats, <= 0; for "rao_blackwell" only. -inf is
            probability 0: the generation adds nothing to its group.
        offsets: (n + 1,) integers rising from 0 to total; sample i owns groups[offsets[i]:offsets[i+1]].
        estimator: "discrete" (over member counts, 0..ln N), "rao_blackwell" (over summed probabilities, renormalised,
            0..ln N), or the corrections "miller_madow" and "chao_shen" of the discrete one (which may exceed ln N).
        text_ids: (total,) integers, equal for equal texts; for "rao_blackwell" only. The probability of a text drawn
            more than once in a sample then counts once, as its first generation has it. None: every generation counts.

    Returns:
        (n,) float64, nats, >= 0; 0 for a sample of one generation; NaN for one of none, and for "rao_blackwell" where
        every generation of a sample has probability 0, so that nothing weighs its groups.

    Raises:
        InvalidArgument: an array is not flat or has another length than groups; logprobs are missing, NaN, above 0
            (the message names the first position); logprobs or text_ids are given to an estimator that does not use
            them; the estimator is unknown.
    """
    one_of("estimator", estimator, ESTIMATORS)
    members = check_ids("groups", groups)
    starts = check_offsets(offsets, len(members))
    if estimator == "rao_blackwell":
        entropy = _rao_blackwell(members, logprobs, starts, text_ids)
    else:
        for name, given in (("logprobs", logprobs), ("text_ids", text_ids)):
            if given is not None:
                raise InvalidArgument(f"{name}: estimator {estimator!r} does not use them; use 'rao_blackwell'")
        plain = "plugin" if estimator == "discrete" else estimator
        entropy = information_entropy(members, starts, estimator=plain)
    entropy[np.diff(starts) == 0] = np.nan
    return entropy


def n_groups(groups: npt.ArrayLike, offsets: npt.ArrayLike) -> Int64Array:
    """Return how many different meaning groups each sample's generations form, (n,) int64; 0 for no generation.

    Args:
        groups: (total,) integers, the meaning group of every generation.
        offsets: (n + 1,) integers rising from 0 to total.

    Raises:
        InvalidArgument: an array is not flat and of integers, or offsets do not rise from 0 to total.
    """
    from euds.kernels.semantic_numba import ragged_n_groups

    members = check_ids("groups", groups)
    result: Int64Array = ragged_n_groups(members, check_offsets(offsets, len(members)))
    return result


def nearest_neighbor_entropy(
    embeddings: npt.ArrayLike, offsets: npt.ArrayLike, *, similarity_temperature: float = 1.0
) -> Float64Array:
    """Return the semantic nearest-neighbour entropy (SNNE) of each sample's generations.

    SNNE = -(1/N) sum_i ln sum_j exp(cos(e_i, e_j) / tau), j over all N generations, i itself included. It needs no
    groups and no log-probabilities: high where generations are far from each other. A score on the scale of nats, not
    the entropy of a distribution, so it is negative. It also falls as ln N: compare samples of equal N only.
    Source: Nguyen, Payani, Mirzasoleiman 2025 (Findings of ACL; arXiv 2506.00245), black-box form, with cosines of
    embeddings as the similarity.

    Args:
        embeddings: (total, H) real numbers, one row a generation; their lengths do not matter.
        offsets: (n + 1,) integers rising from 0 to total.
        similarity_temperature: tau, divisor of the cosines, > 0.

    Returns:
        (n,) float64, nats, in -(1/tau + ln N)..-1/tau: the lower end where all generations point the same way; -1/tau
        for one generation. NaN for a sample without generations, or with one whose embedding has no direction (zeros,
        NaN or infinity).

    Raises:
        InvalidArgument: embeddings are not a matrix of real numbers, offsets do not rise from 0 to total, or
            similarity_temperature is not finite and above 0.
    """
    from euds.kernels.similarity_entropy_numba import ragged_neighbor_entropy

    rows = check_embeddings(embeddings)
    starts = check_offsets(offsets, len(rows))
    temperature = positive_number("similarity_temperature", similarity_temperature)
    result: Float64Array = ragged_neighbor_entropy(rows, starts, temperature)
    return result


def kernel_language_entropy(
    embeddings: npt.ArrayLike,
    offsets: npt.ArrayLike,
    *,
    diffusion_time: float = 0.3,
    laplacian: str = "combinatorial",
    kernel_scale: str = "trace",
) -> Float64Array:
    """Return the kernel language entropy (KLE) of each sample's generations.

    The generations are the nodes of a graph with edges w_ij = max(cos(e_i, e_j), 0), no loops; K = exp(-t L) is its
    heat kernel, scaled to trace 1; KLE = -tr(K ln K), the von Neumann entropy. 0 where everything means one thing, ln N
    where nothing is connected. At a fixed t it falls as N grows: compare samples of equal N only.
    Source: Nikitin et al. 2024 (NeurIPS; arXiv 2405.20003), with cosines of embeddings in place of entailment weights.

    Args:
        embeddings: (total, H) real numbers, one row a generation; their lengths do not matter.
        offsets: (n + 1,) integers rising from 0 to total.
        diffusion_time: t, > 0; 0.3 is the paper's with the combinatorial Laplacian. The eigenvalues of the normalised
            one do not grow with N, so it wants a larger t (about 3 to 10) to spread the scores.
        laplacian: "combinatorial" (D - W) or "normalized" (I - D^-1/2 W D^-1/2, where cosines up to 1e-6 are no edges;
            a node without edges has a zero row).
        kernel_scale: "trace" (K / tr K) or "unit_diagonal" (K_ij / (N sqrt(K_ii K_jj)), as in the paper's code).

    Returns:
        (n,) float64, nats, in 0..ln N; 0 for one generation. NaN for a sample without generations, or with one whose
        embedding has no direction (zeros, NaN or infinity).

    Raises:
        InvalidArgument: embeddings are not a matrix of real numbers, offsets do not rise from 0 to total,
            diffusion_time is not finite and above 0, or laplacian or kernel_scale is unknown.
    """
    from euds.kernels.similarity_entropy_numba import ragged_heat_entropy

    rows = check_embeddings(embeddings)
    starts = check_offsets(offsets, len(rows))
    time = positive_number("diffusion_time", diffusion_time)
    normalized = one_of("laplacian", laplacian, LAPLACIANS) == "normalized"
    unit_diagonal = one_of("kernel_scale", kernel_scale, KERNEL_SCALES) == "unit_diagonal"
    result: Float64Array = ragged_heat_entropy(rows, starts, time, normalized, unit_diagonal)
    return result


def _rao_blackwell(
    members: Int64Array, logprobs: npt.ArrayLike | None, starts: Int64Array, text_ids: npt.ArrayLike | None
) -> Float64Array:
    from euds.kernels import semantic_numba as kernels
    from euds.kernels.grouping_numba import ragged_first_equal

    if logprobs is None:
        raise InvalidArgument("logprobs: estimator 'rao_blackwell' needs them")
    values = _check_logprobs(logprobs, starts)
    if text_ids is not None:
        texts = check_ids("text_ids", text_ids)
        if len(texts) != len(members):
            raise InvalidArgument(f"text_ids: must be {len(members)}, one a generation; got {len(texts)}")
        drawn_before = ragged_first_equal(texts, starts) != np.arange(len(texts))
        values = np.where(drawn_before, -np.inf, values)
    n_ids = table_entries(members)
    n = len(starts) - 1
    result: Float64Array
    if n_ids is None:
        result = kernels.ragged_mass_entropy(members, values, starts)
    elif len(members) < WORTH_THREADS:
        result = kernels.dense_mass_entropy(members, values, starts, 0, n, n_ids)
    else:
        result = kernels.ragged_mass_entropy_dense(members, values, starts, n_ids, min(PIECES, n))
    return result


def _check_logprobs(logprobs: npt.ArrayLike, starts: Int64Array) -> Float64Array:
    values = as_floats("logprobs", logprobs).astype(np.float64, copy=False)
    if values.shape != (starts[-1],):
        raise InvalidArgument(f"logprobs: must be {starts[-1]} numbers, one a generation; got shape {values.shape}")
    # Written so that NaN counts as bad.
    bad = ~(values <= ROUNDING_NATS)
    if bad.any():
        at = int(np.argmax(bad))
        sample = int(np.searchsorted(starts, at, side="right")) - 1
        raise InvalidArgument(f"logprobs: must be at most 0, got {values[at]} at position {at} (sample {sample})")
    return np.ascontiguousarray(values)
