"""Every method of a grid at every keep and schedule: its result, its comparisons, what it kept and what it cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from euds.study.grid.costs import BreakEven, Seconds, break_even, seconds_of
from euds.study.grid.kept import class_rates, kept_mask, relative_length
from euds.study.grid.statistics import LEVEL, Bootstrap, Difference, difference, holm
from euds.study.grid.task import FULL, RANDOM, GridTask, Group, is_fixed_steps
from euds.study.types import spread


@dataclass(frozen=True)
class Entry:
    """One method at one keep and schedule.

    Attributes:
        method, family, uses_labels, fake: as the facts have them.
        keep: share of the pool; schedule: how long it trained.
        rows: training rows.
        seeds: training seeds.
        mean, sd: main metric over seeds, 0..1; sd is None for one seed.
        metrics: means over seeds of all test metrics; by_seed: their values by training seed.
        validation: main metric on the validation rows by training seed, or None without them.
        vs_random, vs_full: paired differences at the same keep and schedule; None without a counterpart.
        p_random: Holm-adjusted two-sided p of `vs_random`, over the methods at this keep without fakes.
        p_inferior: Holm-adjusted p of being worse than full by the margin or more, over the same and random.
        class_rates, source_rates: share kept of each label and source; None without them.
        relative_length: mean tokens of the kept rows over those of the pool.
        seconds: what it cost.
        break_even: against the full data; None where a cost or the full data is not known, and at equal steps, where
            fewer rows save no training.
    """

    method: str
    family: str
    uses_labels: bool
    fake: bool
    keep: float
    schedule: str
    rows: int
    seeds: tuple[int, ...]
    mean: float
    sd: float | None
    metrics: Mapping[str, float]
    by_seed: Mapping[str, Mapping[int, float]]
    validation: Mapping[int, float] | None
    vs_random: Difference | None
    vs_full: Difference | None
    p_random: float | None
    p_inferior: float | None
    class_rates: Mapping[str, float] | None
    source_rates: Mapping[str, float] | None
    relative_length: float | None
    seconds: Seconds
    break_even: BreakEven | None

    def validation_over(self, seeds: Sequence[int]) -> float | None:
        """Return the mean of `validation` over some seeds; None where one of them is not known."""
        known = self.validation or {}
        return sum(known[seed] for seed in seeds) / len(seeds) if seeds and known.keys() >= set(seeds) else None

    @property
    def better_than_random(self) -> bool:
        """Whether it beats random after correction."""
        return self.vs_random is not None and self.vs_random.mean > 0 and _small(self.p_random)

    @property
    def worse_than_random(self) -> bool:
        """Whether random beats it after correction."""
        return self.vs_random is not None and self.vs_random.mean < 0 and _small(self.p_random)

    @property
    def non_inferior(self) -> bool:
        """Whether it is shown to lose less than the margin against the full data, after correction."""
        return _small(self.p_inferior)

    @property
    def is_rule(self) -> bool:
        """Whether it is a selection to judge: no reference, no check of the harness."""
        return not self.fake and self.method not in (FULL, RANDOM)

    @property
    def is_label_free(self) -> bool:
        """Whether it is a rule that reads no label."""
        return self.is_rule and not self.uses_labels


def all_entries(task: GridTask, bootstrap: Bootstrap) -> list[Entry]:
    """Return the entries of a task, by schedule (the main one first), then in the order of its methods."""
    entries = []
    for schedule in task.schedules:
        for keep in (*task.keeps, None):
            entries += _adjusted([_entry(task, group, bootstrap) for group in _family(task, schedule, keep)])
    return entries


def _family(task: GridTask, schedule: str, keep: float | None) -> list[Group]:
    """The methods at one keep, or the full data alone."""
    groups = task.at(schedule, keep)
    return [group for group in groups if (group.method == FULL) == (keep is None)]


def _entry(task: GridTask, group: Group, bootstrap: Bootstrap) -> Entry:
    facts = task.facts["methods"][group.method]
    values = group.metric(task.metric)
    assert values is not None
    over_seeds = spread(values.tolist())
    validation = group.metric(task.metric, "validation")
    masks = kept_mask(task, group)
    random, full = task.groups.get((RANDOM, group.keep, group.schedule)), task.full(group.schedule)
    seeds = tuple(cell.seed for cell in group.cells)
    cost = seconds_of(group, task.facts, task.timed)
    is_full = group.method == FULL
    names = sorted(set.intersection(*(set(cell.metrics["test"]) for cell in group.cells)))
    found = {name: group.metric(name) for name in names}
    by_seed = {name: dict(zip(seeds, own.tolist(), strict=True)) for name, own in found.items() if own is not None}
    return Entry(
        method=group.method,
        family=facts["family"],
        uses_labels=bool(facts.get("uses_labels")),
        fake=bool(facts.get("fake")),
        keep=group.keep,
        schedule=group.schedule,
        rows=group.cells[0].n_train,
        seeds=seeds,
        mean=over_seeds.mean,
        sd=over_seeds.sd,
        metrics={name: float(own.mean()) for name, own in found.items() if own is not None},
        by_seed=by_seed,
        validation=None if validation is None else dict(zip(seeds, validation.tolist(), strict=True)),
        vs_random=_compare(group, random, bootstrap) if not is_full else None,
        vs_full=_compare(group, full, bootstrap),
        p_random=None,
        p_inferior=None,
        class_rates=class_rates(task, masks),
        source_rates=class_rates(task, masks, "source"),
        relative_length=relative_length(task, masks),
        seconds=cost,
        break_even=(
            None
            if full is None or is_full or is_fixed_steps(group.schedule)
            else break_even(cost, seconds_of(full, task.facts, task.timed), task.facts.get("train", {}))
        ),
    )


def _compare(group: Group, other: Group | None, bootstrap: Bootstrap) -> Difference | None:
    return None if other is None or other is group else difference(group.scores, other.scores, bootstrap)


def _adjusted(entries: list[Entry]) -> list[Entry]:
    """Fill in the p-values that depend on all methods at a keep."""
    against_random = {entry.method: entry.vs_random.p for entry in entries if entry.is_rule and entry.vs_random}
    against_full = {
        entry.method: entry.vs_full.p_inferior for entry in entries if not entry.fake and entry.vs_full is not None
    }
    p_random = dict(zip(against_random, holm(list(against_random.values())), strict=True))
    p_inferior = dict(zip(against_full, holm(list(against_full.values())), strict=True))
    return [
        replace(entry, p_random=p_random.get(entry.method), p_inferior=p_inferior.get(entry.method))
        for entry in entries
    ]


def _small(p: float | None) -> bool:
    return p is not None and p < LEVEL
