"""All that a grid says about one task, as plain numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

from euds.study.grid.entries import Entry, all_entries
from euds.study.grid.gaps import list_gaps
from euds.study.grid.kept import source_places
from euds.study.grid.statistics import (
    LEVEL,
    MARGIN,
    MIN_SEEDS,
    N_RESAMPLES,
    Bootstrap,
    Components,
    Difference,
    difference,
    variance_components,
)
from euds.study.grid.task import FULL, LEAKED, RANDOM, SHUFFLED, GridTask

SINGLE, IGSE, LENGTH_REMOVED = "single entropy", "IGSE", "length removed"


@dataclass(frozen=True)
class VarianceRow:
    """Where the variance of a method's metric comes from."""

    method: str
    keep: float
    schedule: str
    components: Components


@dataclass(frozen=True)
class Check:
    """A check of the harness, by its interval: "leaked" must lie above random, "shuffled" equal it."""

    method: str
    keep: float
    schedule: str
    passed: bool
    vs_random: Difference


@dataclass(frozen=True)
class SmallestKeep:
    """The smallest keep of a method that is shown to lose less than the margin, as are all larger ones; or None.

    Keeps are taken from the largest down until the first that is not shown: in such a sequence, fixed beforehand, those
    of one method need no correction for each other. Each budget has its own correction over the methods, so that over
    all methods and budgets together a false one is more likely than `LEVEL`.

    Attributes:
        method: of the main schedule.
        corrected: after Holm's correction over the methods at each keep.
        alone: by the method's own test, as if it had been the only one tried.
    """

    method: str
    corrected: float | None
    alone: float | None


@dataclass(frozen=True)
class LengthRemoved:
    """A rule on residuals of the length, beside the same rule on the scores themselves.

    Attributes:
        variant, base: methods; base is None where no method's name stands in the variant's.
        difference: variant minus base, or None.
        relative_length, base_relative_length: mean tokens of the kept rows over those of the pool.
    """

    variant: str
    base: str | None
    difference: Difference | None
    relative_length: float | None
    base_relative_length: float | None


@dataclass(frozen=True)
class Afforded:
    """What random does for no more core-seconds than the best label-free rule, at its schedule.

    Attributes:
        keep: the budget of random that is best on the validation rows, of those that cost no more.
        difference: the rule minus random there, or None where they share too few seeds.
    """

    keep: float
    difference: Difference | None


@dataclass(frozen=True)
class TaskSummary:
    """One task of a grid.

    Attributes:
        name, title, metric, data: as the facts have them.
        n_pool, n_test: rows.
        schedules: the main one first; keeps: ascending; headline_keep: of the conclusions.
        margin, n_resamples, level: of the statistics.
        entries: every method at every keep and schedule.
        choice_seeds: training seeds over which rules are compared on the validation rows: those that random and all
            label-free rules with seeds enough have in common, at the headline keep and main schedule.
        best_label_free, best_single, best_igse: methods there that are best on the validation rows, None without these;
            the test rows had no part in the choice.
        igse_vs_single: best_igse minus best_single on the test rows.
        afforded: random for no more seconds than best_label_free, None where that is not known.
        smallest_keeps, variance, length_removed, checks: see their classes.
        source_places: rows, median and mean rank in the pool of each source along every score; None without sources.
        n_cut: rows of the pool that reach the scoring model's limit, so that their length is not known beyond it.
        length_correlation: Spearman's correlation of each score with the length, -1..1.
        gaps: what is missing, in sentences.
    """

    name: str
    title: str
    metric: str
    data: Mapping[str, int]
    n_pool: int
    n_test: int
    schedules: tuple[str, ...]
    keeps: tuple[float, ...]
    headline_keep: float | None
    margin: float
    n_resamples: int
    level: float
    entries: tuple[Entry, ...]
    choice_seeds: tuple[int, ...]
    best_label_free: str | None
    best_single: str | None
    best_igse: str | None
    igse_vs_single: Difference | None
    afforded: Afforded | None
    smallest_keeps: tuple[SmallestKeep, ...]
    variance: tuple[VarianceRow, ...]
    length_correlation: Mapping[str, float | None]
    length_removed: tuple[LengthRemoved, ...]
    checks: tuple[Check, ...]
    source_places: Mapping[str, Mapping[str, Mapping[str, float]]] | None
    n_cut: int
    gaps: tuple[str, ...]

    def at(self, keep: float | None, schedule: str | None = None) -> list[Entry]:
        """Return the entries at a keep, of the main schedule unless another is named."""
        wanted = schedule or self.schedules[0]
        return [entry for entry in self.entries if (entry.keep, entry.schedule) == (keep, wanted) and not _full(entry)]

    def full(self, schedule: str | None = None) -> Entry | None:
        """Return the full data's entry, of the main schedule unless another is named."""
        wanted = schedule or self.schedules[0]
        return next((entry for entry in self.entries if _full(entry) and entry.schedule == wanted), None)

    def headline(self, method: str | None) -> Entry | None:
        """Return a method's entry at the headline keep and main schedule."""
        return next((entry for entry in self.at(self.headline_keep) if entry.method == method), None)

    def to_json(self) -> dict[str, Any]:
        """Return the summary as plain JSON types, without the metrics by seed: the cells have them."""
        found = asdict(self)
        for entry in found["entries"]:
            del entry["by_seed"]
        return found


def summarise(task: GridTask, *, n_resamples: int = N_RESAMPLES, seed: int = 0) -> TaskSummary:
    """Return what a task's cells say; grids that are not finished are summarised as far as they go.

    Args:
        task: facts and cells.
        n_resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    bootstrap = Bootstrap(task.n_test, n_resamples=n_resamples, seed=seed)
    entries = all_entries(task, bootstrap)
    main = [entry for entry in entries if entry.schedule == task.schedules[0] and not _full(entry)]
    at_headline = [entry for entry in main if entry.keep == task.headline_keep]
    seeds = _choice_seeds(at_headline)
    label_free = [entry for entry in at_headline if entry.is_label_free]
    best_label_free = _best(label_free, seeds)
    best_igse = _best([entry for entry in label_free if entry.family == IGSE], seeds)
    best_single = _best([entry for entry in label_free if entry.family == SINGLE], seeds)
    return TaskSummary(
        name=task.facts["name"],
        title=task.facts["title"],
        metric=task.metric,
        data=task.facts["data"],
        n_pool=task.n_pool,
        n_test=task.n_test,
        schedules=task.schedules,
        keeps=task.keeps,
        headline_keep=task.headline_keep,
        margin=MARGIN,
        n_resamples=n_resamples,
        level=LEVEL,
        entries=tuple(entries),
        choice_seeds=seeds,
        best_label_free=best_label_free,
        best_single=best_single,
        best_igse=best_igse,
        igse_vs_single=_between(task, best_igse, best_single, bootstrap),
        afforded=_afforded(task, main, best_label_free, bootstrap),
        smallest_keeps=tuple(_smallest_keeps(main)),
        variance=tuple(_variance(task)),
        length_correlation=task.facts["length_correlation"],
        length_removed=tuple(_length_removed(task, at_headline, bootstrap)),
        checks=tuple(_checks(entries)),
        source_places=source_places(task),
        n_cut=task.n_cut,
        gaps=tuple(list_gaps(task, entries)),
    )


def _full(entry: Entry) -> bool:
    return entry.method == FULL


def _choice_seeds(entries: Sequence[Entry]) -> tuple[int, ...]:
    """Seeds that all rules to choose from share: more seeds for some of them would be another comparison for each."""
    judged = [
        set(entry.validation)
        for entry in entries
        if (entry.is_label_free or entry.method == RANDOM)
        and entry.validation is not None
        and len(entry.seeds) >= MIN_SEEDS
    ]
    return tuple(sorted(set.intersection(*judged))) if judged else ()


def _best(entries: Sequence[Entry], seeds: Sequence[int]) -> str | None:
    """The method with the best validation mean over the seeds; of equals the first in the facts' order."""
    judged = [
        (found, entry.method)
        for entry in entries
        if len(entry.seeds) >= MIN_SEEDS and (found := entry.validation_over(seeds)) is not None
    ]
    return max(judged, key=lambda pair: pair[0])[1] if judged else None


def _between(task: GridTask, first: str | None, second: str | None, bootstrap: Bootstrap) -> Difference | None:
    """Compare two methods at the headline keep and main schedule."""
    if first is None or second is None or task.headline_keep is None:
        return None
    one, other = (task.groups[method, task.headline_keep, task.schedules[0]] for method in (first, second))
    return difference(one.scores, other.scores, bootstrap)


def _afforded(task: GridTask, main: Sequence[Entry], best: str | None, bootstrap: Bootstrap) -> Afforded | None:
    """Find what random does for the seconds of a method at the headline keep; test rows have no part in the choice."""
    own = next((entry for entry in main if (entry.method, entry.keep) == (best, task.headline_keep)), None)
    if own is None or own.seconds.total is None:
        return None
    total = own.seconds.total
    found = [
        entry
        for entry in main
        if entry.method == RANDOM and entry.validation and entry.seconds.total is not None
        if entry.seconds.total <= total
    ]
    # More seeds at some budgets would be another comparison for each.
    shared = sorted(set.intersection(*(set(entry.validation or ()) for entry in found))) if found else []
    judged = [(value, entry.keep) for entry in found if (value := entry.validation_over(shared)) is not None]
    if not judged:
        return None
    keep = max(judged)[1]
    rule, random = (task.groups[name, at, own.schedule] for name, at in ((own.method, own.keep), (RANDOM, keep)))
    return Afforded(keep, difference(rule.scores, random.scores, bootstrap))


def _smallest_keeps(main: Sequence[Entry]) -> list[SmallestKeep]:
    rules = [entry for entry in main if not entry.fake]
    found = []
    for method in dict.fromkeys(entry.method for entry in rules if entry.vs_full is not None):
        # A budget that cannot be judged yet ends the search, too.
        own = sorted((entry for entry in rules if entry.method == method), key=lambda entry: -entry.keep)
        corrected = [entry.keep for entry in takewhile(lambda entry: entry.non_inferior, own)]
        alone = [entry.keep for entry in takewhile(_holds_alone, own)]
        found.append(SmallestKeep(method, min(corrected, default=None), min(alone, default=None)))
    return found


def _holds_alone(entry: Entry) -> bool:
    return entry.vs_full is not None and entry.vs_full.p_inferior < LEVEL


def _variance(task: GridTask) -> list[VarianceRow]:
    return [VarianceRow(*place, variance_components(table)) for place, table in task.blocks().items()]


def _length_removed(task: GridTask, at_headline: Sequence[Entry], bootstrap: Bootstrap) -> list[LengthRemoved]:
    others = {entry.method: entry for entry in at_headline if entry.family != LENGTH_REMOVED}
    found = []
    for entry in at_headline:
        if entry.family == LENGTH_REMOVED:
            # A variant is named after its base, with something added.
            base = max((name for name in others if name in entry.method), key=len, default=None)
            between = _between(task, entry.method, base, bootstrap)
            base_length = others[base].relative_length if base is not None else None
            found.append(LengthRemoved(entry.method, base, between, entry.relative_length, base_length))
    return found


def _checks(entries: Sequence[Entry]) -> list[Check]:
    found = []
    for entry in entries:
        gap = entry.vs_random
        if entry.method in (LEAKED, SHUFFLED) and gap is not None:
            # By the interval alone: a rule must be shown to differ, a harness must not fail for want of seeds.
            passed = gap.low > 0 if entry.method == LEAKED else gap.low <= 0 <= gap.high
            found.append(Check(entry.method, entry.keep, entry.schedule, passed, gap))
    return found
