"""The rule `auto`: what the study has found best over its tasks, as far as a run allows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from euds.selection.axes import values_of
from euds.selection.describe import spearman
from euds.selection.rules import Pool

EVIDENCE_AXIS = "generative_entropy_nats"
"""The score whose middle is taken; docs/rules.md has the numbers."""

MAX_LENGTH_CORRELATION = 0.8
"""A score whose ranks follow the length this closely would select by length in disguise."""


@dataclass(frozen=True)
class Decision:
    """The rule and the axes that `auto` settled on, why, and the facts behind it."""

    rule: str
    axes: tuple[str, ...]
    reason: str
    facts: Mapping[str, Any]

    def to_record(self) -> dict[str, Any]:
        """Return it as selection.json holds it."""
        return {"rule": self.rule, "axes": list(self.axes), "reason": self.reason, **self.facts}


def takes_middle(scores: pa.Table) -> bool:
    """Whether a run has scored generative entropy, and it is not length in disguise."""
    return EVIDENCE_AXIS in scores.column_names and not _is_length(_correlation(scores))


def decide(pool: Pool, scores: pa.Table) -> Decision:
    """Choose a rule without any label; the same pool always gives the same.

    1. `middle` of generative entropy, unless its rank correlation with the length is 0.8 or more, either way.
    2. Else `facility`, where the pool has embeddings.
    3. Else `random`: no other score has been shown to help.

    Args:
        pool: with embeddings only where `takes_middle` says no; without, with generative entropy as its one axis,
            or with none where the run has not scored it.
        scores: its rows.
    """
    scored = EVIDENCE_AXIS in scores.column_names
    correlation = spearman(pool.values[:, 0], pool.n_tokens) if pool.axes else _correlation(scores)
    facts = {
        "examined": [EVIDENCE_AXIS] if scored else [],
        "length_correlation": correlation,
        "max_length_correlation": MAX_LENGTH_CORRELATION,
    }
    if pool.axes and not _is_length(correlation):
        return Decision("middle", pool.axes, "the rule that the study found best over its tasks", facts)
    reason = "the run has no generative entropy"
    if scored:
        reason = f"generative entropy follows the length: {correlation or 0.0:+.2f}"
    if pool.embeddings is not None:
        return Decision("facility", (), f"{reason}; of the other rules the best in the study", facts)
    return Decision("random", (), f"{reason}, and no other score was shown to help", facts)


def _correlation(scores: pa.Table) -> float | None:
    """Rank correlation of generative entropy with the length; None where it is not scored, or one of them constant."""
    if EVIDENCE_AXIS not in scores.column_names:
        return None
    return spearman(values_of(scores, EVIDENCE_AXIS), values_of(scores, "n_tokens"))


def _is_length(correlation: float | None) -> bool:
    return abs(correlation or 0.0) >= MAX_LENGTH_CORRELATION
