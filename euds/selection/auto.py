"""The rule `auto`: what the study has found best over its tasks, as far as a run allows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from euds.selection.coverage import MAX_FACILITY_ROWS
from euds.selection.describe import spearman
from euds.selection.rules import Pool

EVIDENCE_AXIS = "generative_entropy_nats"
"""The score whose middle is taken of pairs of fields; docs/rules.md has the numbers."""

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
    2. `middle` of generative entropy, where that is the pool's axis, unless its rank correlation with the length is 0.8
       or more, either way.
    3. Else `random`: nothing else has been shown to help.

    Args:
        pool: with embeddings of single texts, where the run has an encoder and few enough rows; with generative entropy
            as its one axis for pairs of fields, where the run has scored it; else with neither.
    """
    facts: dict[str, Any] = {
        "examined": [],
        "length_correlation": None,
        "max_length_correlation": MAX_LENGTH_CORRELATION,
    }
    if pool.embeddings is not None:
        return Decision("facility", (), "of single texts the rule that did best over the study's draws of rows", facts)
    if not pool.axes:
        reason = (
            "nothing was shown to help here: facility needs single texts, an encoder and at most "
            f"{MAX_FACILITY_ROWS:,} rows, and the middle of generative entropy pairs of fields"
        )
        return Decision("random", (), reason, facts)
    correlation = spearman(pool.values[:, 0], pool.n_tokens)
    facts |= {"examined": [EVIDENCE_AXIS], "length_correlation": correlation}
    if abs(correlation or 0.0) >= MAX_LENGTH_CORRELATION:
        reason = (
            f"generative entropy follows the length: {correlation or 0.0:+.2f}, and no other score was shown to help"
        )
        return Decision("random", (), reason, facts)
    return Decision("middle", pool.axes, "of pairs of fields the rule that was ahead on the study's questions", facts)
