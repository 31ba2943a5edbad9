"""The tables of a grid's page, in Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt

from euds.report.content import title_of
from euds.selection.auto import MAX_LENGTH_CORRELATION
from euds.study.grid.entries import Entry
from euds.study.grid.statistics import Components, Difference
from euds.study.grid.summary import TaskSummary, VarianceRow
from euds.study.grid.task import FULL
from euds.study.grid.wording import NONE, escape, interval, p_value, percent, seconds, trainings
from euds.study.table import keep_name
from euds.study.types import METRICS


def results(summary: TaskSummary, keep: float, schedule: str) -> str:
    """Every method at one keep and schedule, family by family, the references first."""
    full = summary.full(schedule)
    second = next(names[1] for names in METRICS.values() if names[0] == summary.metric)
    entries = [*([full] if full else []), *summary.at(keep, schedule)]
    header = ["method", "family", "rows", "seeds", summary.metric, second, "against random [95 %]", "Holm p"]
    header += ["against full [95 %]", "no loss shown", "length", "total s"]
    return table(header, (_result(entry, second) for entry in entries), n_text=2)


def costs(summary: TaskSummary, schedule: str) -> str:
    """Seconds of every method at the headline keep and one schedule, and when they are paid for."""
    full = summary.full(schedule)
    entries = [*([full] if full else []), *summary.at(summary.headline_keep, schedule)]
    header = ["method", "scoring s", "search s", "training s", "total s", "saved a training", "paid for after"]
    header += ["with BERT-base"]
    return table(header, (_cost(entry) for entry in entries if not entry.fake))


def smallest_keeps(summary: TaskSummary) -> str:
    """The smallest keep without loss of every method that has one by either reading."""
    found = [row for row in summary.smallest_keeps if row.corrected is not None or row.alone is not None]
    lines = ([f"`{row.method}`", _keep(row.corrected), _keep(row.alone)] for row in found)
    return table(["method", "after correction", "by its own test alone"], lines)


def variance(summary: TaskSummary) -> str:
    """Standard deviations, in points, that selection seed, training seed and the rest add."""
    header = ["method", "kept", "schedule", "selection seeds", "training seeds", "sd of selection", "sd of training"]
    return table([*header, "sd of the rest"], map(_variance_line, summary.variance))


def length_correlations(summary: TaskSummary) -> str:
    """How each score goes with the length."""
    lines = []
    for axis, found in summary.length_correlation.items():
        disguised = found is not None and abs(found) >= MAX_LENGTH_CORRELATION
        lines.append([escape(title_of(axis)), NONE if found is None else f"{found:+.2f}", "yes" if disguised else ""])
    return table(["score", "rank correlation with the length", "length in disguise"], lines)


def source_places(summary: TaskSummary) -> str:
    """Where the rows of each source lie along every score."""
    places = summary.source_places or {}
    sources = sorted({source for found in places.values() for source in found})
    lines = [
        [escape(title_of(axis)), *(_place(found.get(source)) for source in sources)] for axis, found in places.items()
    ]
    return table(["score", *map(escape, sources)], lines)


def source_rates(summary: TaskSummary) -> str:
    """How much of each source a method keeps at the headline keep."""
    entries = [entry for entry in summary.at(summary.headline_keep) if entry.source_rates and not entry.fake]
    sources = sorted({source for entry in entries for source in entry.source_rates or {}})
    lines = []
    for entry in entries:
        rates = entry.source_rates or {}
        shares = [percent(rates.get(source)) for source in sources]
        lines.append([f"`{entry.method}`", *shares, mean_sd(entry), interval(entry.vs_random)])
    return table(
        ["method", *(f"of {escape(source)}, %" for source in sources), summary.metric, "against random"], lines
    )


def length_removed(summary: TaskSummary) -> str:
    """What became of the rules when the length was taken out of their scores."""
    lines = []
    for row in summary.length_removed:
        base = NONE if row.base is None else f"`{row.base}`"
        lengths = [
            NONE if value is None else f"{value:.2f}" for value in (row.base_relative_length, row.relative_length)
        ]
        lines.append([f"`{row.variant}`", base, interval(row.difference), *lengths])
    header = ["variant", "without it", "difference [95 %]", "length before", "length after"]
    return table(header, lines, n_text=2)


def table(header: Sequence[str], lines: Iterable[Sequence[str]], n_text: int = 1) -> str:
    """Return a Markdown table, the first columns to the left and numbers to the right."""
    rule = ["---"] * n_text + ["---:"] * (len(header) - n_text)
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *lines))


def mean_sd(entry: Entry | None) -> str:
    """The main metric in percent, with its standard deviation over seeds if there are several."""
    if entry is None:
        return NONE
    return percent(entry.mean) + (f" ± {percent(entry.sd)}" if entry.sd is not None else "")


def _result(entry: Entry, second: str) -> list[str]:
    marks = " (labels)" if entry.uses_labels else " (check)" if entry.fake else ""
    no_loss = "" if entry.p_inferior is None else "yes" if entry.non_inferior else "no"
    return [
        f"`{entry.method}`{marks}",
        escape(entry.family),
        f"{entry.rows:,}",
        str(len(entry.seeds)),
        mean_sd(entry),
        percent(entry.metrics.get(second)),
        _marked(entry.vs_random, entry.better_than_random or entry.worse_than_random),
        p_value(entry.p_random),
        interval(entry.vs_full),
        no_loss,
        NONE if entry.relative_length is None else f"{entry.relative_length:.2f}",
        seconds(entry.seconds.total),
    ]


def _marked(gap: Difference | None, significant: bool) -> str:
    return f"**{interval(gap)}**" if significant else interval(gap)


def _cost(entry: Entry) -> list[str]:
    cost, found = entry.seconds, entry.break_even
    line = [f"`{entry.method}`", *map(seconds, (cost.scoring, cost.search, cost.training, cost.total))]
    if entry.method == FULL or found is None:
        return [*line, NONE, NONE, NONE]
    bert = NONE if found.saved_bert is None else trainings(found.trainings_bert)
    return [*line, f"{found.saved:,.1f}", trainings(found.trainings), bert]


def _variance_line(row: VarianceRow) -> list[str]:
    parts = row.components
    return [
        f"`{row.method}`",
        keep_name(row.keep),
        row.schedule,
        str(parts.n_selection),
        str(parts.n_training),
        _sd(parts, "selection"),
        _sd(parts, "training"),
        f"{100 * sqrt(parts.residual):.2f}",
    ]


def _sd(parts: Components, name: str) -> str:
    return "0 (clipped)" if name in parts.clipped else f"{100 * sqrt(getattr(parts, name)):.2f}"


def _place(found: Mapping[str, float] | None) -> str:
    return NONE if found is None else f"{found['median']:,.4g} ({found['mean_rank']:.2f})"


def _keep(keep: float | None) -> str:
    return "none" if keep is None else keep_name(keep)
