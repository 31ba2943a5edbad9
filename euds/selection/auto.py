"""The rule `auto`: what the study has found best over its tasks, as far as a run allows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from euds.selection.describe import spearman
from euds.selection.rules import Pool

EVIDENCE_AXIS = "generative_entropy_nats"
"""The score whose middle is taken where embeddings are not to be had; docs/rules.md has the numbers."""

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


def decide(pool: Pool) -> Decision:
    """Choose a rule without any label; the same pool always gives the same.

    1. `facility`, where the pool has embeddings.
    2. Else `middle` of generative entropy, unless its rank correlation with the length is 0.8 or more, either way.
    3. Else `random`: no other score has been shown to help.

    Args:
        pool: with embeddings, where the run has an encoder and few enough rows; without, with generative entropy as
            its one axis, or with none where the run has not scored it.
    """
    facts: dict[str, Any] = {
        "examined": [],
        "length_correlation": None,
        "max_length_correlation": MAX_LENGTH_CORRELATION,
    }
    if pool.embeddings is not None:
        return Decision("facility", (), "the rule that did best over the study's draws of rows", facts)
    if not pool.axes:
        return Decision(
            "random", (), "the run has no embeddings for facility, and no generative entropy, the next best", facts
        )
    correlation = spearman(pool.values[:, 0], pool.n_tokens)
    facts |= {"examined": [EVIDENCE_AXIS], "length_correlation": correlation}
    if abs(correlation or 0.0) >= MAX_LENGTH_CORRELATION:
        reason = (
            f"generative entropy follows the length: {correlation or 0.0:+.2f}, and no other score was shown to help"
        )
        return Decision("random", (), reason, facts)
    return Decision("middle", pool.axes, "without embeddings for facility, the next best in the study", facts)
