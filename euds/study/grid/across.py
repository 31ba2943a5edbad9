"""What label-free rules do over all tasks: the evidence for a default."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import stdev

from scipy.special import stdtrit

from euds.study.grid.statistics import LEVEL, MIN_SEEDS, Difference
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
            nothing. Draws of one task share rows and are not: the mean of their half-widths bounds that of their mean,
            however they depend on each other.
        spread: half the width of the 95 % interval that takes the tasks as a sample of others, by Student's t, and no
            less than `half_width`, as few tasks may lie close by luck; a rule keeps one choice of rows a task, whose
            luck is in this one alone.
        by_task: its lead over random on each task's test rows, in the tasks' order.
    """

    method: str
    validation: float
    mean: float
    half_width: float
    spread: float
    by_task: tuple[Difference, ...]


@dataclass(frozen=True)
class OverDraws:
    """A rule over tasks, each of them repeated on several draws of rows.

    Attributes:
        method: the rule.
        by_task: mean lead over random of a task's draws on the test rows, in -1..1, in the order of the tasks.
        ahead: draws on which it leads.
        mean, half_width, spread: over the tasks' means; see `AcrossTasks`.
    """

    method: str
    by_task: tuple[float, ...]
    ahead: int
    mean: float
    half_width: float
    spread: float


def separate_tasks(summaries: Sequence[TaskSummary]) -> list[TaskSummary]:
    """Return the tasks whose rules can be compared, without mixtures of sources, which repeat another task."""
    return [found for found in summaries if found.best_label_free is not None and found.source_places is None]


def across_tasks(summaries: Sequence[TaskSummary], of: Sequence[str] | None = None) -> list[AcrossTasks]:
    """Return the label-free rules that all tasks have compared with random, best on the validation rows first.

    Args:
        summaries: of the tasks.
        of: the task that each is a draw of; None: each is a task of its own.
    """
    if not summaries:
        return []
    methods = [entry.method for entry in summaries[0].at(summaries[0].headline_keep) if entry.is_label_free]
    own = range(len(summaries)) if of is None else of
    found = [rule for method in methods if (rule := _rule(method, summaries, own)) is not None]
    return sorted(found, key=lambda rule: -rule.validation)


def over_draws(tasks: Sequence[Sequence[TaskSummary]]) -> list[OverDraws]:
    """Return the label-free rules that all draws of all tasks have, the largest lead first.

    Args:
        tasks: the draws of each.
    """
    found = []
    for rule in across_tasks([draw for draws in tasks for draw in draws]):
        gaps = iter(rule.by_task)
        own = [[next(gaps) for _ in draws] for draws in tasks]
        means = [sum(gap.mean for gap in draws) / len(draws) for draws in own]
        # Draws of a task share rows: taken as independent they would be too sure.
        half_width = _joined([sum(gap.half_width for gap in draws) / len(draws) for draws in own], range(len(own)))
        ahead = sum(gap.mean > 0 for gap in rule.by_task)
        spread = max(half_width, _student(means))
        found.append(OverDraws(rule.method, tuple(means), ahead, sum(means) / len(means), half_width, spread))
    return sorted(found, key=lambda rule: -rule.mean)


def _rule(method: str, summaries: Sequence[TaskSummary], of: Sequence[Hashable]) -> AcrossTasks | None:
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
    means = [gap.mean for gap in gaps]
    half_width = _joined([gap.half_width for gap in gaps], of)
    spread = max(half_width, _student(means))
    return AcrossTasks(method, sum(leads) / len(leads), sum(means) / len(means), half_width, spread, tuple(gaps))


def _joined(half_widths: Sequence[float], of: Sequence[Hashable]) -> float:
    """Half the width of the interval of a mean, from those of its parts, independent unless `of` says the same."""
    sums = [sum(half for half, own in zip(half_widths, of, strict=True) if own == name) for name in dict.fromkeys(of)]
    return math.hypot(*sums) / len(half_widths)


def _student(values: Sequence[float]) -> float:
    """Half the width of the 95 % interval of the mean of a normal sample; infinite for one value."""
    if len(values) < 2:
        return math.inf
    quantile = float(stdtrit(len(values) - 1, 1 - LEVEL / 2))
    return quantile * stdev(values) / math.sqrt(len(values))
