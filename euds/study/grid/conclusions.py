"""What the numbers of a task allow to say, by fixed rules: no sentence claims more than its interval."""

from collections.abc import Iterator, Sequence
from statistics import mean, median

from scipy.special import bdtrc

from euds.study.grid.entries import Entry
from euds.study.grid.statistics import LEVEL, MARGIN, Difference
from euds.study.grid.summary import Check, TaskSummary
from euds.study.grid.task import LEAKED, RANDOM, SHUFFLED, is_fixed_steps
from euds.study.grid.wording import interval, names, percent, points, seconds, span, trainings
from euds.study.table import TITLES, keep_name
from euds.study.types import METRICS

HOLDS, LOSES, OPEN, UNKNOWN = "holds", "loses", "open", "not measured"


def verdict(entry: Entry | None) -> str:
    """Return what the data say about holding the full data's result.

    "holds": it is shown to lose less than the margin, after correction over the methods at its keep. "loses": it is
    shown to lose more, at half the level as by the lower side of a two-sided interval. "open": neither. Choosing the
    entry on validation rows makes no correction needless: the same trained models are judged on both sets, so the luck
    of their seeds is in both. Such luck can only make an entry look better, so that nothing is corrected for "loses".
    """
    if entry is None or entry.vs_full is None:
        return UNKNOWN
    if entry.non_inferior:
        return HOLDS
    return LOSES if entry.vs_full.p_holds < LEVEL / 2 else OPEN


def conclusions(summary: TaskSummary) -> list[str]:
    """Return the conclusions on a task as sentences in Markdown."""
    main = (summary.headline_keep, summary.schedules[0])
    others = [(keep, schedule) for schedule in summary.schedules for keep in summary.keeps if (keep, schedule) != main]
    elsewhere = [sentence for place in others for sentence in _against_random(summary, *place)]
    return [
        *_harness(summary),
        *_against_random(summary, *main),
        *_chosen(summary),
        *_no_loss(summary),
        *_igse(summary),
        *_cost(summary),
        *elsewhere,
    ]


def chance_of_failures(checks: Sequence[Check]) -> float:
    """Return the probability that at least as many of as many independent checks fail where nothing is wrong."""
    failed = sum(not check.passed for check in checks)
    return float(bdtrc(failed - 1, len(checks), LEVEL)) if failed else 1.0


def harness_broken(summary: TaskSummary) -> bool:
    """Whether checks of the harness failed in a way that chance does not explain: then no result can be trusted."""
    leaked, shuffled = (_checks_of(summary, method) for method in (LEAKED, SHUFFLED))
    return not all(check.passed for check in leaked) or chance_of_failures(shuffled) < LEVEL


def _checks_of(summary: TaskSummary, method: str) -> list[Check]:
    return [check for check in summary.checks if check.method == method]


def _harness(summary: TaskSummary) -> Iterator[str]:
    for method, meaning in (
        (LEAKED, "training on test rows should beat random"),
        (SHUFFLED, "permuted scores should equal random"),
    ):
        found = _checks_of(summary, method)
        failed = [check for check in found if not check.passed]
        if failed:
            places = "; ".join(f"{keep_name(c.keep)}, {c.schedule}: {interval(c.vs_random)}" for c in failed)
            yield (
                f"**Harness check `{method}` ({meaning}) failed, {len(failed)} of {len(found)}** ({places})"
                f"{_missed(found, failed) if method == SHUFFLED else ': nothing below can be trusted'}."
            )
        elif found:
            yield f"Harness check `{method}` ({meaning}): passed, {len(found)} of {len(found)}."


def _missed(found: Sequence[Check], failed: Sequence[Check]) -> str:
    """What follows from checks that failed, by how likely so many do where nothing is wrong."""
    chance = chance_of_failures(found)
    text = (
        f". Where nothing is wrong, at least {len(failed)} of {len(found)} such intervals miss with a probability of "
        f"{percent(chance)} % (5 % each, if independent; more where few seeds differ much)"
    )
    if chance < LEVEL:
        return f"{text}: that is no chance, and nothing below can be trusted"
    little = "; ".join(
        f"{points(abs(check.vs_random.mean)).lstrip('+')} points at {keep_name(check.keep)}, {check.schedule}"
        for check in failed
    )
    return f"{text}: chance may explain it, but a lead or a loss of that size says little there ({little})"


def _against_random(summary: TaskSummary, keep: float | None, schedule: str) -> Iterator[str]:
    """One sentence for the label-free rules, one for those that use labels, and one on what could have been seen."""
    rules = [entry for entry in summary.at(keep, schedule) if entry.is_rule and entry.vs_random is not None]
    for uses_labels, kind in ((False, "label-free"), (True, "label-using")):
        compared = [entry for entry in rules if entry.uses_labels == uses_labels]
        if not compared or keep is None:
            continue
        better = [entry for entry in compared if entry.better_than_random]
        worse = sorted((entry for entry in compared if entry.worse_than_random), key=_gap)
        if better:
            shown = ", ".join(
                f"`{entry.method}` {interval(entry.vs_random)}{_second(summary, entry)}" for entry in better
            )
            text = (
                f"{len(better)} of {len(compared)} {kind} rules are shown to be better than random after correction "
                f"over all {len(rules)} rules: {shown}"
            )
        else:
            best = max(compared, key=_gap)
            text = (
                f"no {kind} rule is shown to be better than random after correction over all {len(rules)} rules "
                f"({len(compared)} {kind}; the highest is `{best.method}`, {interval(best.vs_random)}"
                f"{_second(summary, best)} before correction)"
            )
        if worse:
            by = "by" if len(worse) == 1 else "the first by"
            text += f"; worse, {len(worse)}: {names([entry.method for entry in worse])}, {by} "
            text += interval(worse[0].vs_random)
        yield f"At {keep_name(keep)}, {schedule}: {text}."
    yield from _power(rules, keep, schedule)


def _second(summary: TaskSummary, entry: Entry) -> str:
    """What the second metric says over the same seeds, where it says the contrary and neither is nothing."""
    random = next((own for own in summary.at(entry.keep, entry.schedule) if own.method == RANDOM), None)
    name = next(pair[1] for pair in METRICS.values() if pair[0] == summary.metric)
    if random is None or entry.vs_random is None or name not in entry.by_seed or name not in random.by_seed:
        return ""
    gap = mean(entry.by_seed[name][seed] - random.by_seed[name][seed] for seed in entry.vs_random.seeds)
    signs = {points(value)[0] for value in (gap, entry.vs_random.mean)}
    return f" (but {TITLES.get(name, name)} {points(gap)})" if signs == {"+", "-"} else ""


def _chosen(summary: TaskSummary) -> Iterator[str]:
    best = summary.headline(summary.best_label_free)
    if best is None:
        return
    n_chosen, n_own = len(summary.choice_seeds), len(best.seeds)
    text = (
        f"The label-free rule that is best on the validation rows at {keep_name(best.keep)} is `{best.method}` "
        f"({percent(best.validation_over(summary.choice_seeds))} over the {n_chosen} seeds that all compared rules "
        f"have, {percent(best.mean)} on the test rows{f' over its {n_own}' if n_own != n_chosen else ''})"
    )
    if best.vs_random is not None:
        text += f"; against random {interval(best.vs_random)}: {_compared(best, best.vs_random)}"
    if best.vs_full is not None:
        said = {
            HOLDS: f"it is shown to lose less than {points(MARGIN).lstrip('+')} points",
            LOSES: f"it loses more than {points(MARGIN).lstrip('+')} points",
            OPEN: "whether it loses is not decided by these runs",
        }[verdict(best)]
        if verdict(best) == OPEN and best.vs_full.mean < 0 and best.vs_full.p < LEVEL:
            margin = points(MARGIN).lstrip("+")
            said = f"it is below them; whether by more than {margin} points is not decided by these runs"
        text += f"; against the full data {interval(best.vs_full)}: {said}"
    yield text + "."


def _compared(entry: Entry, gap: Difference) -> str:
    """What may be said of the chosen rule against random: its models' luck decided its choice, so it is corrected."""
    if entry.better_than_random or entry.worse_than_random:
        return f"{'better' if gap.mean > 0 else 'worse'} than random after correction"
    if gap.p >= LEVEL:
        return "no difference from random is shown"
    return f"{'better' if gap.mean > 0 else 'worse'} than random before correction, not shown after it"


def _no_loss(summary: TaskSummary) -> Iterator[str]:
    margin = points(MARGIN).lstrip("+")
    for keep in summary.keeps:
        judged = [entry for entry in summary.at(keep) if not entry.fake and entry.vs_full is not None]
        if not judged:
            continue
        held = [entry.method for entry in judged if entry.non_inferior]
        lost = [e for e in judged if e.vs_full is not None and e.vs_full.mean < 0 and e.vs_full.p < LEVEL]
        start = f"At {keep_name(keep)}, {summary.schedules[0]}: "
        if held:
            text = f"shown to lose less than {margin} points against the full data, after correction: {names(held)}"
        else:
            text = f"no method is shown to lose less than {margin} points against the full data, after correction"
        below = f"{len(lost)} of {len(judged)} are shown to be below them by anything at all, before correction"
        yield f"{start}{text}; {below}{_random_too(judged)}."


def _random_too(judged: Sequence[Entry]) -> str:
    random = next((entry for entry in judged if entry.method == RANDOM), None)
    return "" if random is None else f"; random itself is at {interval(random.vs_full)}"


def _igse(summary: TaskSummary) -> Iterator[str]:
    gap = summary.igse_vs_single
    if gap is not None:
        shown = "not shown to differ" if gap.p >= LEVEL else "ahead" if gap.mean > 0 else "behind"
        yield (
            f"The combination against a single entropy, each the best of its kind on the validation rows: "
            f"`{summary.best_igse}` minus `{summary.best_single}` is {interval(gap)}, not corrected for their choice: "
            f"{shown}."
        )


def _cost(summary: TaskSummary) -> Iterator[str]:
    best = summary.headline(summary.best_label_free)
    if best is None:
        return
    yield from _for_as_much(summary, best)
    if is_fixed_steps(best.schedule):
        yield f"At equal steps fewer rows save no training: the selection of `{best.method}` is never paid for."
    if best.break_even is None:
        return
    found = best.break_even
    if found.trainings is None:
        yield f"`{best.method}` saves no training time here, so its selection is never paid for."
        return
    text = (
        f"Scores and search of `{best.method}` cost {found.selection:,.0f} core-seconds, a training saves "
        f"{found.saved:,.0f} (a ratio of {found.selection / found.saved:.1f}): paid for after "
        f"{trainings(found.trainings)} training{'s' if found.trainings > 1 else ''}"
    )
    if found.trainings_bert is not None:
        text += f"; with BERT-base, extrapolated, after {trainings(found.trainings_bert)}"
    random = summary.headline(RANDOM)
    free = random is not None and (random.seconds.selection or 0.0) < found.selection
    yield text + (". Random selection costs no scores." if free else ".")


def _for_as_much(summary: TaskSummary, best: Entry) -> Iterator[str]:
    """What random and the full data give for no more seconds, as they need not pay for scores."""
    total, afforded = best.seconds.total, summary.afforded
    if total is None:
        return
    if afforded is not None:
        random = next(entry for entry in summary.at(afforded.keep) if entry.method == RANDOM)
        gap = (
            f"; the rule minus random {interval(afforded.difference)}, not corrected for this choice"
            if afforded.difference is not None
            else ""
        )
        yield (
            f"For no more core-seconds random gets {percent(random.mean)} at {keep_name(random.keep)}, of the budgets "
            f"within these seconds the best on the validation rows ({seconds(random.seconds.total)} with one training, "
            f"against {percent(best.mean)} of `{best.method}` for {seconds(total)}{gap})."
        )
    full = summary.full(best.schedule)
    if full is not None and full.seconds.total is not None and full.seconds.total <= total:
        yield (
            f"The full data give {percent(full.mean)} for no more core-seconds ({seconds(full.seconds.total)} with one "
            f"training, against {seconds(total)} of `{best.method}`): for one training, selecting saves nothing."
        )


def _power(rules: Sequence[Entry], keep: float | None, schedule: str) -> Iterator[str]:
    """What the runs could have shown: without it, "no rule is better" reads as if all were alike."""
    gaps = [entry.vs_random for entry in rules if entry.vs_random is not None]
    if gaps and keep is not None:
        half = median(gap.half_width for gap in gaps)
        least = median(gap.least_shown(len(gaps)) for gap in gaps)
        seeds = span([len(gap.seeds) for gap in gaps])
        yield (
            f"At {keep_name(keep)}, {schedule}, with {seeds} seeds a rule, half the width of an interval is "
            f"{100 * half:.1f} points, and the least difference that would be shown after correction over "
            f"{len(gaps)} rules {100 * least:.1f} (medians over the rules): smaller ones stay unseen."
        )


def _gap(entry: Entry) -> float:
    assert entry.vs_random is not None
    return entry.vs_random.mean
