"""The rule `auto`: choose among the other rules by what the scores alone show."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from euds.ops.independence import box_agreement
from euds.ops.search import region_stability
from euds.selection.describe import spearman
from euds.selection.rules import Pool

MAX_LENGTH_CORRELATION = 0.8
"""An axis whose ranks follow the length this closely would select by length in disguise."""

MIN_OVERLAP = 0.5
"""A region that shares less than half of its rows with that of a resampled pool is not worth its name."""


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


def decide(pool: Pool, budget: int) -> Decision:
    """Choose a rule without any label; the same pool and budget always give the same.

    1. An axis whose rank correlation with the length is 0.8 or more, either way, is left out.
    2. If two or three axes are left: `box` over them, given that (a) its lift is above the 95 % quantile of what
       independent axes reach, and (b) the boxes of resampled pools share on average at least half of its rows.
    3. Else `middle` on the axis left that follows the length least; of equals, the first.
    4. If no axis is left: `random`.
    """
    correlations = [spearman(values, pool.n_tokens) or 0.0 for values in pool.values.T]
    left = [at for at, found in enumerate(correlations) if abs(found) < MAX_LENGTH_CORRELATION]
    facts: dict[str, Any] = {
        "examined": list(pool.axes),
        "length_correlation": dict(zip(pool.axes, correlations, strict=True)),
        "max_length_correlation": MAX_LENGTH_CORRELATION,
        "min_overlap": MIN_OVERLAP,
        "agreement": None,
        "overlap": None,
    }
    if not left:
        return Decision("random", (), "every score follows the length", facts)
    why = "one score does not follow the length"
    if len(left) > 1:
        axes = tuple(pool.axes[at] for at in left)
        agreement = box_agreement(pool.values[:, left], keep=budget)
        overlap = region_stability(pool.values[:, left], keep=budget, rule="box", n_replicates=50).overlap
        facts |= {"agreement": asdict(agreement), "overlap": overlap}
        why = f"lift {agreement.lift:.2f} against {agreement.chance_lift:.2f} by chance, overlap {overlap:.2f}"
        if agreement.lift > agreement.chance_lift and overlap >= MIN_OVERLAP:
            return Decision("box", axes, f"the scores agree and the box is stable: {why}", facts)
        why = f"no box is both beyond chance and stable: {why}"
    least = left[int(np.argmin([abs(correlations[at]) for at in left]))]
    return Decision("middle", (pool.axes[least],), f"{why}; {pool.axes[least]} follows the length least", facts)
