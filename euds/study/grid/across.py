"""What label-free rules do over all tasks: the evidence for a default."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from euds.study.grid.statistics import MIN_SEEDS, Difference
from euds.study.grid.summary import TaskSummary
from euds.study.grid.task import RANDOM


@dataclass(frozen=True)
class AcrossTasks:
    """A rule over tasks, each at its headline keep and main schedule.

    Attributes:
        method: the rule.
        validation: mean over tasks of its lead over random on the validation rows, in -1..1, over the seeds that all
            rules of a task share.
        mean: the same on the test rows.
        half_width: of the 95 % interval of `mean`, from those of the tasks taken as independent; of other tasks it says
            nothing.
        by_task: its lead over random on each task's test rows, in the tasks' order.
    """

    method: str
    validation: float
    mean: float
    half_width: float
    by_task: tuple[Difference, ...]


def separate_tasks(summaries: Sequence[TaskSummary]) -> list[TaskSummary]:
    """Return the tasks whose rules can be compared, without mixtures of sources, which repeat another task."""
    return [found for found in summaries if found.best_label_free is not None and found.source_places is None]


def across_tasks(summaries: Sequence[TaskSummary]) -> list[AcrossTasks]:
    """Return the label-free rules that all tasks have compared with random, best on the validation rows first."""
    if not summaries:
        return []
    methods = [entry.method for entry in summaries[0].at(summaries[0].headline_keep) if entry.is_label_free]
    found = [rule for method in methods if (rule := _rule(method, summaries)) is not None]
    return sorted(found, key=lambda rule: -rule.validation)


def _rule(method: str, summaries: Sequence[TaskSummary]) -> AcrossTasks | None:
    gaps, leads = [], []
    for summary in summaries:
        entry, random = summary.headline(method), summary.headline(RANDOM)
        if entry is None or random is None or entry.vs_random is None or len(entry.seeds) < MIN_SEEDS:
            return None
        judged, baseline = (found.validation_over(summary.choice_seeds) for found in (entry, random))
        if judged is None or baseline is None:
            return None
        gaps.append(entry.vs_random)
        leads.append(judged - baseline)
    half_width = math.sqrt(sum(((gap.high - gap.low) / 2) ** 2 for gap in gaps)) / len(gaps)
    mean = sum(gap.mean for gap in gaps) / len(gaps)
    return AcrossTasks(method, sum(leads) / len(leads), mean, half_width, tuple(gaps))
