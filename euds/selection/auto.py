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
    if EVIDENCE_AXIS not in scores.column_names:
        return False
    correlation = spearman(values_of(scores, EVIDENCE_AXIS), values_of(scores, "n_tokens"))
    return abs(correlation or 0.0) < MAX_LENGTH_CORRELATION


def decide(pool: Pool) -> Decision:
    """Choose a rule without any label; the same pool always gives the same.

    1. `middle` of generative entropy, unless its rank correlation with the length is 0.8 or more, either way.
    2. Else `facility`, where the pool has embeddings.
    3. Else `random`: no other score has been shown to help.

    Args:
        pool: with embeddings only where `takes_middle` says no; without, with generative entropy as its one axis, or
            with none where the run has not scored it.
    """
    if pool.embeddings is not None:
        reason = "the run has no generative entropy, or it follows the length; of the rules on embeddings the best"
        return Decision("facility", (), reason, {"examined": [], "length_correlation": None})
    correlation = spearman(pool.values[:, 0], pool.n_tokens) if pool.axes else None
    facts = {
        "examined": list(pool.axes),
        "length_correlation": correlation,
        "max_length_correlation": MAX_LENGTH_CORRELATION,
    }
    if not pool.axes:
        return Decision("random", (), "the run has no generative entropy, and no other score was shown to help", facts)
    if abs(correlation or 0.0) >= MAX_LENGTH_CORRELATION:
        return Decision("random", (), f"generative entropy follows the length: {correlation:+.2f}", facts)
    return Decision("middle", pool.axes, "the rule that the study found best over its tasks", facts)
