"""What a selection costs, and after how many trainings it has paid for itself."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from euds.study.grid.statistics import MIN_SEEDS
from euds.study.grid.task import FULL, Group

BERT_BASE_PARAMETERS = 85_056_000
"""Parameters that every token meets, as `euds.measures.parameters` counts them. Training takes about 6 * parameters *
tokens floating-point operations, forward and backward (Kaplan et al. 2020), so at the same tokens and speed seconds go
with parameters."""

PARAMETERS_MET = {"all-minilm-l6-v2": 10_647_552}
"""The same by asset, for facts of an older version, which do not tell."""


@dataclass(frozen=True)
class Seconds:
    """Core-seconds of one selection and one training, wall-clock times threads; None: not measured.

    Attributes:
        scoring: all scores that the method needs, with reading the pool for them; paid once per pool.
        search: choosing the rows, counted as if on one core.
        training: one fine-tuning, the fastest of its first `MIN_SEEDS` seeds: other work on the machine only ever slows
            it, and the fastest of more seeds would be faster by chance. None where one of them ran on another machine
            than that of the facts: no fair comparison.
    """

    scoring: float | None
    search: float | None
    training: float | None

    @property
    def selection(self) -> float | None:
        """Scoring and search."""
        return None if self.scoring is None or self.search is None else self.scoring + self.search

    @property
    def total(self) -> float | None:
        """Scoring, search and one training."""
        return None if self.selection is None or self.training is None else self.selection + self.training


@dataclass(frozen=True)
class BreakEven:
    """How many trainings pay for a selection.

    Attributes:
        selection: core-seconds of scoring and search.
        saved: core-seconds that one training saves against the full data; may be negative.
        trainings: least number after which less was paid than saved; None: it never saves.
        saved_bert, trainings_bert: the same extrapolated to BERT-base, None where the trained model's size is unknown.
    """

    selection: float
    saved: float
    trainings: int | None
    saved_bert: float | None
    trainings_bert: int | None


def seconds_of(group: Group, facts: Mapping[str, Any], timed: Collection[str]) -> Seconds:
    """Return what a method cost; `timed` are the cells whose seconds are of the facts' own machine."""
    needs = set(facts["methods"][group.method].get("needs") or ())
    known: Mapping[str, float] = facts["seconds"]
    # Whoever scores reads the pool once more than whoever trains on it.
    needs |= {"read"} & known.keys() if needs else set()
    machine = facts.get("machine", {})
    threads, training_threads = machine.get("scoring_threads", 1), machine.get("threads_per_worker", 1)
    scoring = threads * math.fsum(known[need] for need in needs) if needs <= known.keys() else None
    searches = facts.get("search_seconds", {}).get(group.method, {})
    free = 0.0 if group.method == FULL or not needs else None
    first = group.cells[:MIN_SEEDS]
    own = all(cell.cell in timed for cell in first)
    training = training_threads * min(cell.train_seconds for cell in first) if own else None
    return Seconds(scoring, searches.get(f"{group.keep:g}", free), training)


def break_even(cost: Seconds, full: Seconds, train: Mapping[str, Any]) -> BreakEven | None:
    """Compare a method's cost with what it saves against the full data; None where the cost is not known.

    Args:
        cost: of the method.
        full: of the full data.
        train: facts of what was fine-tuned; its size decides whether BERT-base can be extrapolated to.
    """
    if cost.selection is None or cost.training is None or full.training is None:
        return None
    saved = full.training - cost.training
    parameters = train.get("parameters_met", PARAMETERS_MET.get(train.get("model", "")))
    saved_bert = None if parameters is None else saved * BERT_BASE_PARAMETERS / parameters
    return BreakEven(
        selection=cost.selection,
        saved=saved,
        trainings=_trainings(cost.selection, saved),
        saved_bert=saved_bert,
        trainings_bert=None if saved_bert is None else _trainings(cost.selection, saved_bert),
    )


def _trainings(paid: float, saved: float) -> int | None:
    return math.floor(paid / saved) + 1 if saved > 0 else None
