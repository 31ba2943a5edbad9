"""The page of a grid: README.md and its pictures, all of it from numbers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from euds.assets import ASSETS
from euds.files import write_atomic
from euds.report import check_installed
from euds.study.grid import tables
from euds.study.grid.across import across_tasks, over_draws, separate_tasks
from euds.study.grid.conclusions import HOLDS, LOSES, OPEN, conclusions, harness_broken, verdict
from euds.study.grid.methods import METHODS
from euds.study.grid.page_texts import (
    ACROSS,
    ACROSS_DRAWS,
    COST,
    DRAW_BY_DRAW,
    INTRODUCTION,
    OVER_DRAWS,
    READING,
    REPEATED,
    REPETITION,
    SEQUENCE,
)
from euds.study.grid.statistics import LEVEL, MARGIN
from euds.study.grid.summary import TaskSummary, summarise
from euds.study.grid.task import RANDOM, GridTask, is_fixed_steps
from euds.study.grid.wording import NONE, escape, interval, points, span
from euds.study.table import TITLES as METRIC_TITLES
from euds.study.table import keep_name


@dataclass(frozen=True)
class Repeated:
    """What the tasks of a page repeat on other rows: the study that each is a draw of, and the address of its page."""

    tasks: Sequence[GridTask]
    page: str


def write_page(
    folder: Path, tasks: Sequence[GridTask], repeated: Repeated | None = None, again: str | None = None
) -> list[TaskSummary]:
    """Write README.md and img/*.svg; grids that are not finished are shown as far as they go.

    Args:
        folder: for the page; made if missing.
        tasks: facts and cells of every task, in the order of the page.
        repeated: where all of them are draws of others: these, in the same order.
        again: address of the page of other draws of these tasks.

    Returns:
        The summaries that the page was written from.

    Raises:
        MissingExtra: matplotlib is not installed.
        RunStopped: the disk is full.
    """
    summaries = [summarise(task) for task in tasks]
    sections = [_task(folder / "img", task, summary) for task, summary in zip(tasks, summaries, strict=True)]
    seeds = [len(entry.seeds) for summary in summaries for entry in summary.entries if not entry.fake]
    reading = READING.format(resamples=max((found.n_resamples for found in summaries), default=0), margin=100 * MARGIN)
    if repeated is None:
        of = [str(summary.data.get("test_file", summary.name)) for summary in summaries]
        parts = [
            INTRODUCTION.format(seeds=span(seeds or [0])),
            _answer(summaries),
            *_across(summaries, of, repeats=False),
        ]
        parts += [*([REPEATED.format(page=again)] if again else []), reading]
    else:
        parts = [REPETITION.format(page=repeated.page, seeds=span(seeds or [0])), *_over_draws(summaries, repeated)]
        parts += _across(summaries, [task.facts["name"] for task in repeated.tasks], repeats=True)
    parts += sections
    write_atomic(folder / "README.md", lambda handle: handle.write("\n".join(parts).encode()))
    return summaries


def _answer(summaries: Sequence[TaskSummary]) -> str:
    """The table over tasks, and its verdicts counted."""
    lines, verdicts = [], []
    for summary in summaries:
        best, random = summary.headline(summary.best_label_free), summary.headline(RANDOM)
        said = verdict(best)
        if not harness_broken(summary):
            verdicts.append(said)
        lines.append(
            [
                f"[{escape(summary.title)}](#{_anchor(summary.title)})",
                METRIC_TITLES.get(summary.metric, summary.metric),
                NONE if summary.headline_keep is None else keep_name(summary.headline_keep),
                tables.mean_sd(summary.full()),
                tables.mean_sd(random),
                NONE if best is None else f"`{best.method}`",
                tables.mean_sd(best),
                interval(best.vs_random if best else None),
                interval(best.vs_full if best else None),
                said + _doubt(summary),
            ]
        )
    header = [
        "task",
        "metric, %",
        "kept",
        "full",
        "random",
        "best label-free rule",
        "its result",
        "against random",
        "against full",
        "verdict",
    ]
    margin = f"{100 * MARGIN:g} points"
    meaning = (
        f'"{HOLDS}": shown to lose less than {margin} against the full data; "{LOSES}": shown to lose more; "{OPEN}": '
        "neither is shown. The rule is the best on the validation rows, over the seeds that all compared rules have. "
        "No test row had part in that choice, but the same trained models had, so that better, worse and holding are "
        "said after correction over all rules; see also a task's notes on which rules and seeds were trained."
    )
    counted = ", ".join(f"{said} on {verdicts.count(said)}" for said in dict.fromkeys(verdicts))
    trusted = [found for found in summaries if not harness_broken(found)]
    chosen = [best for found in trusted if (best := found.headline(found.best_label_free)) is not None]
    known = [best for best in chosen if best.vs_random is not None]
    better, worse = sum(best.better_than_random for best in known), sum(best.worse_than_random for best in known)
    ahead = sum(best.vs_random is not None and best.vs_random.mean > 0 and best.vs_random.p < LEVEL for best in known)
    alone = f" (better before correction only on {ahead - better})" if ahead > better else ""
    compared = f"Against random it is better on {better}, worse on {worse}, not shown to differ on "
    found = f"That rule, on {len(trusted)} sets of rows: {counted}. {compared}{len(known) - better - worse}{alone}."
    text = f"{found if trusted else 'On no set of rows can the harness be trusted.'} {meaning}"
    return f"## Answer\n\n{tables.table(header, lines)}\n\n{text}\n"


def _doubt(summary: TaskSummary) -> str:
    """What failed checks of the harness say against a verdict."""
    if harness_broken(summary):
        return " (not to be trusted: the harness failed)"
    return (
        "" if all(check.passed for check in summary.checks) else " (a check of the harness failed, perhaps by chance)"
    )


def _across(summaries: Sequence[TaskSummary], of: Sequence[str], *, repeats: bool) -> list[str]:
    """The label-free rules that every task has tried.

    Args:
        summaries: of the tasks.
        of: what each is a draw of; several draws of one thing are no sample of tasks.
        repeats: whether the page repeats the tasks of another.
    """
    tasks = separate_tasks(summaries)
    drawn_of = dict(zip((found.name for found in summaries), of, strict=True))
    own = [drawn_of[task.name] for task in tasks]
    are_draws = repeats or len(set(own)) < len(own)
    rules = across_tasks(tasks, own)
    if len(tasks) < 2 or not rules:
        return []
    titles = [escape(task.title) + ("" if task.metric == "accuracy" else f" ({task.metric.upper()})") for task in tasks]
    header = ["rule", "lead on validation rows", "lead on test rows [95 %]"]
    header += [*([] if are_draws else ["[95 %], tasks as a sample"]), *titles]
    lines = [
        [
            f"`{rule.method}`",
            points(rule.validation),
            f"{points(rule.mean)} {_around(rule.mean, rule.half_width)}",
            *([] if are_draws else [_around(rule.mean, rule.spread)]),
            *map(interval, rule.by_task),
        ]
        for rule in rules
    ]
    return [DRAW_BY_DRAW if repeats else ACROSS_DRAWS if are_draws else ACROSS, tables.table(header, lines) + "\n"]


def _over_draws(summaries: Sequence[TaskSummary], repeated: Repeated) -> list[str]:
    """The evidence for a default: each task's draws with the study's own, and the means over the tasks."""
    firsts = {task.facts["name"]: task for task in repeated.tasks}
    draws = {name: [summarise(task)] for name, task in firsts.items()}
    for task, summary in zip(repeated.tasks, summaries, strict=True):
        draws[task.facts["name"]].append(summary)
    rules = over_draws(list(draws.values()))
    if len(draws) < 2 or not rules:
        return []
    n_draws = sum(map(len, draws.values()))
    header = ["rule", *(f"{escape(own[0].title)} ({len(own)})" for own in draws.values())]
    header += ["mean [95 %]", "[95 %], tasks as a sample", f"ahead, of {n_draws}"]
    lines = [
        [
            f"`{rule.method}`",
            *map(points, rule.by_task),
            f"{points(rule.mean)} {_around(rule.mean, rule.half_width)}",
            _around(rule.mean, rule.spread),
            str(rule.ahead),
        ]
        for rule in rules
    ]
    return [OVER_DRAWS.format(n=len(draws), draws=n_draws), tables.table(header, lines) + "\n"]


def _around(mean: float, half_width: float) -> str:
    return f"[{points(mean - half_width)}, {points(mean + half_width)}]"


def _task(images: Path, task: GridTask, summary: TaskSummary) -> str:
    """One task's section, its pictures written."""
    pictures = _pictures(images, task, summary)
    parts = [f"## {escape(summary.title)}", _setting(task)]
    parts += [_list("Beside the numbers", task.facts.get("notes", [])), _list("Missing here", summary.gaps)]
    parts += ["### Conclusions", _list("", conclusions(summary))]
    keep, main = summary.headline_keep, summary.schedules[0]
    if keep is not None:
        parts += [f"### Results at {keep_name(keep)}, {main}", tables.results(summary, keep, main)]
    parts += [
        _details(f"Results at {keep_name(other)}, {schedule}", tables.results(summary, other, schedule))
        for schedule in summary.schedules
        for other in summary.keeps
        if (other, schedule) != (keep, main) and summary.at(other, schedule)
    ]
    parts += [*pictures, *_sources(summary), *_lengths(summary), *_variance(summary), *_costs(summary)]
    parts += [_searches(task), _methods(task)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _setting(task: GridTask) -> str:
    """Data, models and machine."""
    parts = [("Rows", "data"), ("Trained", "train"), ("Scored by", "scoring_model"), ("Machine", "machine")]
    lines = []
    for title, field in (*parts, ("Versions", "versions")):
        found = task.facts.get(field, {})
        if found:
            # Hashes are for the next run, not for readers.
            shown = {name: value for name, value in found.items() if not name.endswith("_sha256")}
            named = ((name.replace("_", " "), value) for name, value in shown.items())
            lines.append(f"* {title}: {', '.join(f'{_words(name)} {_words(value)}' for name, value in named)}")
    lm = ASSETS.get(task.facts.get("scoring_model", {}).get("lm"))
    lines += [f"* Language model: {_words(lm.what)}"] if lm else []
    lines += [f"* Date: {_words(task.facts['date'])}"] if "date" in task.facts else []
    later = task.facts.get("went_on")
    return "\n".join([*lines, *([f"* Went on: {_words('; '.join(later))}"] if later else [])])


def _words(value: object) -> str:
    return escape(f"{value:,}" if type(value) is int else str(value))


def _pictures(images: Path, task: GridTask, summary: TaskSummary) -> list[str]:
    """Write the pictures that the cells allow; return their Markdown."""
    if summary.headline_keep is None:
        return []
    check_installed("matplotlib")
    from euds.study.grid import figures

    keep, stem, parts = keep_name(summary.headline_keep), _slug(summary.name), []

    def add(kind: str, title: str, caption: str) -> Path:
        parts.extend([f"### {title}", caption, f"![{title}](img/{stem}-{kind}.svg)"])
        return images / f"{stem}-{kind}.svg"

    metric = METRIC_TITLES.get(summary.metric, summary.metric)
    metric = metric[:1].upper() + metric[1:]
    for schedule in summary.schedules:
        caption = "Mean over seeds with its standard deviation; random and the full data lie behind every family."
        path = add(f"keep-{_slug(schedule)}", f"{metric} against data kept, {schedule}", caption)
        figures.accuracy_by_keep(path, summary, schedule)
    caption = "Core-seconds of scoring, search and one training."
    if not is_fixed_steps(summary.schedules[0]):
        caption += " The grey line is what random gets for as many, by keeping more."
    if any(entry.is_rule and entry.seconds.total for entry in summary.at(summary.headline_keep)):
        figures.accuracy_by_seconds(add("seconds", f"{metric} against seconds, {keep}", caption), summary)
    shown = figures.shown_methods(summary)
    if shown:
        caption = "Shares of rows along each score, of the pool and of the rows kept; extreme rows are in the end bars."
        figures.kept_rows(add("rows", f"Where the rows lie, {keep}", caption), task, shown)
    if any(entry.class_rates for entry in summary.at(summary.headline_keep)):
        caption = "How often a method keeps rows of a class, over how often it keeps any row: 1 is in proportion."
        if len({name for entry in summary.entries for name in entry.class_rates or {}}) > figures.MAX_CLASSES:
            caption += f" The {figures.MAX_CLASSES} classes that differ most between methods."
        figures.class_rates(add("classes", f"Classes, {keep}", caption), summary)
    return parts


def _sources(summary: TaskSummary) -> list[str]:
    if summary.source_places is None or summary.headline_keep is None:
        return []
    sizes = next(iter(summary.source_places.values()))
    rows = ", ".join(f"{found['rows']:,} rows of {escape(source)}" for source, found in sizes.items())
    text = f"The pool holds {rows}. Median of each score, and mean rank in the pool (0.50: where the whole pool lies):"
    rates = f"Share of each source that a method keeps at {keep_name(summary.headline_keep)}, and what came of it:"
    return [
        "### Sources",
        text,
        tables.source_places(summary),
        rates,
        _details("Every method", tables.source_rates(summary)),
    ]


def _lengths(summary: TaskSummary) -> list[str]:
    parts = ["### Length"]
    if summary.n_cut:
        parts.append(
            f"{summary.n_cut:,} of {summary.n_pool:,} rows reach the limit of the scoring models and count as of that "
            "length: correlations, `longest` and what is matched or corrected for length see no more of it."
        )
    parts.append(tables.length_correlations(summary))
    if summary.length_removed:
        parts += [
            "With the length taken out of the scores before the rule looks at them:",
            tables.length_removed(summary),
        ]
    return parts


def _variance(summary: TaskSummary) -> list[str]:
    if not summary.variance:
        return []
    text = (
        f"Standard deviations in points of {summary.metric}, from every selection seed with every training seed "
        "(two-way random effects; a negative estimate is given as 0). The rest holds their interaction."
    )
    return ["### Where the spread comes from", text, tables.variance(summary)]


def _costs(summary: TaskSummary) -> list[str]:
    parts = ["### Cost and break-even", COST]
    for at, one in enumerate(summary.schedules):
        # Those behind the main one are there for their break-even alone.
        if at == 0 or any(entry.break_even for entry in summary.at(summary.headline_keep, one)):
            parts.append(_details(f"Seconds of every method, {one}", tables.costs(summary, one)))
    parts.append("### Smallest keep without loss")
    if not summary.smallest_keeps:
        return [*parts, "There is no comparison with the full data."]
    margin = f"{100 * MARGIN:g} points"
    if not any(row.corrected or row.alone for row in summary.smallest_keeps):
        return [
            *parts,
            f"{SEQUENCE} No method is shown to lose less than {margin} at its largest, not even by its own test alone.",
        ]
    text = (
        f"Of {len(summary.smallest_keeps)} methods, those shown to lose less than {margin} at their largest budget, "
        f"and the smallest down to which they are. {SEQUENCE} The second column is what would be said of a method had "
        "it been the only one tried; with so many, only the first counts. It is corrected over the methods at each "
        "budget, not over the budgets as well: where many methods have many budgets, one in the table by chance "
        "alone is more likely than 5 %."
    )
    return [*parts, text, tables.smallest_keeps(summary)]


def _searches(task: GridTask) -> str:
    """What the searches by labels tried, and how far luck alone would carry the best of as many trials."""
    lines = [
        [
            keep_name(float(keep)),
            escape(found["chosen"]),
            f"{found['n_trials']:,}",
            f"{found['seconds']:.1f}",
            f"{100 * found['accuracy']:.1f}",
            f"{100 * found['luck']:.1f}",
        ]
        for keep, found in task.facts.get("validated", {}).items()
    ]
    if not lines:
        return ""
    header = ["kept", "chosen", "trials", "s", "probe's accuracy, %", "points by luck alone"]
    text = "What `validated` found on a validation split of the pool, with a linear probe, for its first seed:"
    return f"### Searches by labels\n\n{text}\n\n{tables.table(header, lines, n_text=2)}"


def _methods(task: GridTask) -> str:
    lines = (
        [f"`{name}`", escape(found["family"]), escape(_description(name, found))]
        for name, found in task.facts["methods"].items()
    )
    return _details("The methods", tables.table(["method", "family", "what it keeps"], lines, n_text=3))


def _description(name: str, found: Mapping[str, Any]) -> str:
    """What a method keeps, in today's words: facts may have older ones, and methods that there are no more."""
    return METHODS[name].description if name in METHODS else str(found.get("description", ""))


def _list(title: str, sentences: Sequence[str]) -> str:
    lines = "\n".join(f"* {sentence}" for sentence in sentences)
    return f"{title}:\n\n{lines}" if title and lines else lines


def _details(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "task"


def _anchor(title: str) -> str:
    """The anchor that code hosts give a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
