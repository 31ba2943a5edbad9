"""The axes that rules look at: short names, columns, and taking the length out of one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from euds.errors import InputError, InvalidArgument, nearest
from euds.ops.semantic import EMBEDDING_ESTIMATORS, ESTIMATORS
from euds.types import Float64Array

if TYPE_CHECKING:
    # The command line reads the names alone.
    import pyarrow as pa

SAMPLE_ESTIMATORS = (*ESTIMATORS, *EMBEDDING_ESTIMATORS)

AXES = {
    "information": "information_entropy_nats",
    "surprisal": "surprisal_nats",
    "generative": "generative_entropy_nats",
    "generative_max": "generative_entropy_max_nats",
    "nll": "nll_nats",
    "varentropy": "varentropy_nats2",
    "semantic": "semantic_entropy_nats",
    **{f"samples_{name}": f"semantic_samples_{name}_nats" for name in SAMPLE_ESTIMATORS},
    "label_words": "semantic_label_words_nats",
}
"""Score columns by short name; `semantic` comes from clusters, `samples_...` from generations, `label_words` from the
task's label words: they do not compare."""

SAMPLE_COLUMNS = tuple(AXES[f"samples_{name}"] for name in SAMPLE_ESTIMATORS)
"""Semantic entropy over generations, by estimator."""

ENTROPIES = ("information_entropy_nats", "generative_entropy_nats", "semantic_entropy_nats")
"""The three axes of IGSE."""


def axis_columns(axes: Sequence[str], scores: "pa.Table", *, fixed_by: str | None = None) -> tuple[str, ...]:
    """Return the score columns that short or full names mean.

    Args:
        axes: names.
        scores: of a run.
        fixed_by: the rule that always looks at these axes; None: they were chosen.

    Raises:
        InvalidArgument: a name is unknown or stands twice.
        InputError: the run has not scored an axis; the message says what to do.
    """
    columns = tuple(AXES.get(axis, axis) for axis in axes)
    for axis, column in zip(axes, columns, strict=True):
        if column not in AXES.values():
            raise InvalidArgument(f"axes: unknown score {axis!r}{nearest(axis, AXES)}; known: {', '.join(AXES)}")
    missing = [column for column in columns if column not in scores.column_names]
    if missing:
        raise InputError(_told(missing, axes, fixed_by))
    if len(set(columns)) < len(columns):
        raise InvalidArgument(f"axes: a score is named twice in {', '.join(axes)}")
    return columns


def measure_of(axis: str) -> str | None:
    """Return the measure that yields an axis, or None if there is no such axis."""
    column = AXES.get(axis, axis)
    if column in ("information_entropy_nats", "surprisal_nats"):
        return "information"
    if column in AXES.values() and column.startswith("semantic_"):
        return "semantic"
    return "generative" if column in AXES.values() else None


def _told(missing: Sequence[str], axes: Sequence[str], rule: str | None) -> str:
    """Say which scores a run lacks, and how to come by them or without them."""
    lacks = f"the run has no {', '.join(missing)}"
    who = f"axes: {lacks}" if rule is None else f"rule: {rule!r} looks at {', '.join(axes)}, and {lacks}"
    other = "score (--axis)" if rule is None else "rule"
    measures = ", ".join(dict.fromkeys(map(_source_of, missing)))
    return (
        f"{who}; take another {other}, or score into a new directory, with measure {measures} (texts that the models "
        "have seen are not computed again if --cache was given)"
    )


def _source_of(column: str) -> str:
    """Return the measure that yields a score, and of semantic entropy the estimate."""
    measure = str(measure_of(column))
    if measure != "semantic":
        return measure
    by = "samples" if column in SAMPLE_COLUMNS else "label_words" if column == AXES["label_words"] else "clusters"
    return f"{measure} (--semantic {by})"


def score_columns(scores: "pa.Table") -> tuple[str, ...]:
    """Return the score columns that a table has."""
    return tuple(column for column in AXES.values() if column in scores.column_names)


def values_of(scores: "pa.Table", column: str) -> Float64Array:
    """Return a numeric column as float64, null as NaN."""
    values: Float64Array = scores.column(column).cast("float64").to_numpy(zero_copy_only=False)
    return values


def without_length(values: Float64Array, n_tokens: Float64Array) -> Float64Array:
    """Return the residual of a least-squares line of the finite values on ln(n_tokens)."""
    log_length = np.log(np.maximum(n_tokens, 1.0))
    known = np.isfinite(values) & np.isfinite(log_length)
    if not known.any():
        return values
    if np.ptp(log_length[known]) == 0:
        # Of one length, the line is the mean.
        centred: Float64Array = values - values[known].mean()
        return centred
    slope, intercept = np.polyfit(log_length[known], values[known], 1)
    residual: Float64Array = values - (slope * log_length + intercept)
    return residual
