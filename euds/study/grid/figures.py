"""The pictures of a grid's page, as SVG files that are the same bytes for the same numbers."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from euds.report.content import title_of, unit_of
from euds.report.figures import BOX, INK, KEPT, POOL, bin_edges, svg
from euds.selection.describe import short
from euds.study.grid.entries import Entry
from euds.study.grid.kept import axis_values, kept_mask
from euds.study.grid.summary import IGSE, SINGLE, TaskSummary
from euds.study.grid.task import FULL, RANDOM, GridTask
from euds.study.table import TITLES, keep_name
from euds.types import Float64Array

COLORS = (KEPT, BOX, "#2e8b57", "#7b3fa0", "#b8860b", "#d6568c", "#00838f")
MARKS = "osD^vPX"
RANDOM_COLOR, FULL_COLOR = "#8a97a5", INK
PANELS, LINES = 3, 6
"""Panels beside each other, and methods in one of them."""

TWO_COLUMNS = 20
"""Characters of a method's name of which two fit beside each other below a panel."""

FAR_BELOW = 15.0
"""Points below the median from where a method is named at the lower edge: it would press all others together."""

BINS = 20
MAX_CLASSES = 12
AXES_ORDER = ("n_tokens", "information_entropy_nats", "generative_entropy_nats", "semantic_entropy_nats", "nll_nats")


def accuracy_by_keep(path: Path, summary: TaskSummary, schedule: str) -> None:
    """Draw every rule's metric against the data kept, a panel a family, random and full in each."""
    panels = _panels([entry for entry in summary.entries if entry.schedule == schedule and entry.is_rule])
    random = [entry for entry in summary.entries if (entry.method, entry.schedule) == (RANDOM, schedule)]
    full = summary.full(schedule)
    floor = _floor([*(entry for _, entries in panels for entry in entries), *random])
    n_rows = max(1, math.ceil(len(panels) / PANELS))
    height = 0.4 + 3.5 * n_rows

    def draw(figure: Figure) -> None:
        # The keys below the panels have room of their own; an automatic layout would shrink the panels to their widths.
        grid = figure.subplots(n_rows, PANELS, sharex=True, sharey=True, squeeze=False)
        figure.subplots_adjust(0.06, 1.2 / height, 0.99, 1 - 0.6 / height, wspace=0.08, hspace=0.65)
        for axes, (family, entries) in zip(grid.flat, panels, strict=False):
            _references(axes, summary.keeps, random, full)
            _lines(axes, summary.keeps, entries)
            axes.set_title(family, fontsize=10, loc="left", fontweight="bold")
            axes.set_xticks(range(len(summary.keeps)), [keep_name(keep) for keep in summary.keeps])
            axes.tick_params(labelbottom=True)
            axes.set_xlim(-0.4, len(summary.keeps) - 0.6)
            ncols = 2 if max(len(entry.method) for entry in entries) <= TWO_COLUMNS else 1
            axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(-0.02, -0.09), ncols=ncols)
        # The panels share their scale: it is cut off once all of them have had their say on its upper end.
        for axes, (_, entries) in zip(grid.flat, panels, strict=False):
            _named_below(axes, floor, [(summary.keeps.index(entry.keep), entry) for entry in entries])
        for axes in grid.flat[len(panels) :]:
            axes.axis("off")
        for axes in grid[:, 0]:
            axes.set_ylabel(f"{TITLES.get(summary.metric, summary.metric)}, test rows (%)", fontsize=9)
        _reference_legend(figure, random, full)

    _write(path, (10.4, height), draw, layout=None)


def accuracy_by_seconds(path: Path, summary: TaskSummary) -> None:
    """Draw every method's metric against scoring, search and one training, random at all keeps beside it."""
    shown = [entry for entry in summary.at(summary.headline_keep) if entry.is_rule and entry.seconds.total]
    families = list(dict.fromkeys(entry.family for entry in shown))
    random = [entry for entry in summary.entries if entry.method == RANDOM and entry.schedule == summary.schedules[0]]
    full = summary.full()
    line = [entry for entry in (*random, full) if entry is not None and entry.seconds.total is not None]
    floor = _floor([*shown, *line])

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot(
            *_at(line), color=RANDOM_COLOR, lw=1.5, marker="D", ms=5, zorder=1, label="random at every keep, full"
        )
        for entry in line:
            name = FULL if entry.method == FULL else f"random {keep_name(entry.keep)}"
            _name(axes, entry, name, FULL_COLOR if entry.method == FULL else "#6b7885", (6, -10), "left")
        for at, family in enumerate(families):
            members = [entry for entry in shown if entry.family == family]
            color, mark = COLORS[at % len(COLORS)], MARKS[at // len(COLORS) % len(MARKS)]
            axes.plot(*_at(members), ls="", ms=7, alpha=0.85, label=family, color=color, marker=mark)
        for entry in shown:
            if entry.method == summary.best_label_free or entry in _front([*line, *shown]):
                _name(axes, entry, entry.method, INK, (-6, 8), "right")
        axes.set_xscale("log")
        # Between round powers of ten there would be no other mark.
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.16, y=0.1)
        _named_below(axes, floor, [(entry.seconds.total or 1.0, entry) for entry in shown])
        axes.set_xlabel("core-seconds of scoring, search and one training (log scale)")
        axes.set_ylabel(f"{TITLES.get(summary.metric, summary.metric)} on the test rows (%)")
        axes.grid(color="#e5e9ee")
        axes.legend(frameon=False, fontsize=8.5, loc="center left", bbox_to_anchor=(1, 0.5))

    _write(path, (10.4, 4.8), draw)


def kept_rows(path: Path, task: GridTask, methods: Sequence[str]) -> None:
    """Draw where the rows of some methods lie on every axis, against the pool."""
    keep = task.headline_keep
    known = ("n_tokens", *task.facts["rows"].get("scores", {}))
    columns = [axis for axis in AXES_ORDER if axis in known and np.isfinite(axis_values(task, axis)).any()]
    assert keep is not None

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(methods), len(columns), sharex="col", squeeze=False)
        for line, method in zip(grid, methods, strict=True):
            weights = kept_mask(task, task.groups[method, keep, task.schedules[0]]).mean(axis=0)
            for axes, axis in zip(line, columns, strict=True):
                _density(axes, axis_values(task, axis), weights)
            line[0].set_ylabel(method, rotation=0, ha="right", va="center", fontsize=9)
        for axes, axis in zip(grid[-1], columns, strict=True):
            axes.set_xlabel(f"{title_of(axis)}\n({unit_of(axis)})", fontsize=9)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False, fontsize=9)

    _write(path, (10.4, 0.9 + 1.15 * len(methods)), draw)


def shown_methods(summary: TaskSummary) -> list[str]:
    """Return the methods whose rows are drawn: random, the best of the main kinds, and one of each other family."""
    here = {entry.method: entry for entry in summary.at(summary.headline_keep) if not entry.fake}
    wanted = [RANDOM, summary.best_label_free, summary.best_igse, summary.best_single]
    for family in (IGSE, SINGLE, "typical", "stratified", "coverage", "labels"):
        members = [entry for entry in here.values() if entry.family == family]
        if members and not any(here[name].family == family for name in wanted if name in here):
            wanted.append(max(members, key=lambda entry: entry.validation_over(summary.choice_seeds) or 0.0).method)
    return list(dict.fromkeys(name for name in wanted if name is not None and name in here))


def class_rates(path: Path, summary: TaskSummary) -> None:
    """Draw how often each method keeps each class, over how often it keeps any row."""
    shown = [entry for entry in summary.at(summary.headline_keep) if entry.class_rates and not entry.fake]
    names = _varying([entry.class_rates or {} for entry in shown])
    ratios = np.array([[(entry.class_rates or {})[name] / entry.keep for name in names] for entry in shown])

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        # As far below 1 as above it on a scale of doublings; a class left out altogether is darkest.
        shades = np.clip(np.log2(np.maximum(ratios, 1e-9)), -2, 2)
        mesh = axes.imshow(shades, cmap="PuOr_r", vmin=-2, vmax=2, aspect="auto")
        for (row, column), ratio in np.ndenumerate(ratios):
            dark = abs(shades[row, column]) > 1.3
            axes.text(column, row, f"{ratio:.2f}", ha="center", va="center", fontsize=8, color="white" if dark else INK)
        axes.set_yticks(range(len(shown)), [entry.method for entry in shown], fontsize=8.5)
        axes.set_xticks(range(len(names)), [short(name, 14) for name in names], fontsize=8.5)
        if len(names) > LINES:
            axes.tick_params(axis="x", rotation=45)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        bar = figure.colorbar(mesh, ax=axes, ticks=[-2, -1, 0, 1, 2], fraction=0.04, pad=0.02)
        bar.ax.set_yticklabels(["1/4 or less", "1/2", "as often as any row", "2 x", "4 x or more"], fontsize=8)
        bar.outline.set_visible(False)

    _write(path, (min(10.4, 4.6 + 0.75 * len(names)), 1.0 + 0.25 * len(shown)), draw)


def _panels(entries: Sequence[Entry]) -> list[tuple[str, list[Entry]]]:
    """Families with their entries; one of many methods takes several panels."""
    panels = []
    for family in dict.fromkeys(entry.family for entry in entries):
        methods = list(dict.fromkeys(entry.method for entry in entries if entry.family == family))
        for start in range(0, len(methods), LINES):
            part = methods[start : start + LINES]
            title = family if len(methods) <= LINES else f"{family} ({start // LINES + 1})"
            panels.append((title, [entry for entry in entries if entry.method in part]))
    return panels


def _references(axes: Axes, keeps: Sequence[float], random: Sequence[Entry], full: Entry | None) -> None:
    if random:
        # Out to the sides, so that it also lies behind the points beside the first and last budget.
        own = [random[0], *random, random[-1]]
        inner = [float(keeps.index(entry.keep)) for entry in random]
        places = [inner[0] - 0.35, *inner, inner[-1] + 0.35]
        means, widths = _means(own)
        axes.fill_between(places, means - widths, means + widths, color=RANDOM_COLOR, alpha=0.25, lw=0)
        axes.plot(places, means, color=RANDOM_COLOR, lw=1.5, ls="--")
    if full is not None:
        width = 100 * (full.sd or 0.0)
        axes.axhspan(100 * full.mean - width, 100 * full.mean + width, color=FULL_COLOR, alpha=0.1, lw=0)
        axes.axhline(100 * full.mean, color=FULL_COLOR, lw=1)


def _lines(axes: Axes, keeps: Sequence[float], entries: Sequence[Entry]) -> None:
    methods = list(dict.fromkeys(entry.method for entry in entries))
    for at, method in enumerate(methods):
        own = sorted((entry for entry in entries if entry.method == method), key=lambda entry: entry.keep)
        # Beside each other, so that no bar hides another.
        shift = 0.08 * (at - (len(methods) - 1) / 2)
        places = [keeps.index(entry.keep) + shift for entry in own]
        means, widths = _means(own)
        color = COLORS[at % len(COLORS)]
        axes.errorbar(
            places, means, yerr=widths, color=color, marker=MARKS[at], ms=4.5, lw=1.2, capsize=2, label=method
        )
    axes.grid(axis="y", color="#e5e9ee")
    axes.set_axisbelow(True)


def _floor(entries: Sequence[Entry]) -> float:
    """Return the lower edge of the metric, in percent: below every entry that is not far below the others."""
    values = 100 * np.array([entry.mean - (entry.sd or 0.0) for entry in entries])
    near = values[values >= np.median(values) - FAR_BELOW] if len(values) else values
    return float(near.min()) - 1.5 if len(near) else 0.0


def _named_below(axes: Axes, floor: float, placed: Sequence[tuple[float, Entry]]) -> None:
    """Cut the metric off at `floor`, and name what lies below it at the edge."""
    axes.set_ylim(bottom=floor)
    below = sorted(((x, entry) for x, entry in placed if 100 * entry.mean < floor), key=lambda pair: pair[0])
    for at, (x, entry) in enumerate(below):
        text = f"{entry.method} {100 * entry.mean:.0f} \u2193"
        axes.annotate(
            text, (x, floor), (0, 4 + 10 * at), textcoords="offset points", ha="center", fontsize=7.5, color=INK
        )


def _reference_legend(figure: Figure, random: Sequence[Entry], full: Entry | None) -> None:
    handles = [
        mpl.lines.Line2D([], [], color=color, lw=lw, ls=style, label=f"{name}, mean ± sd")
        for name, color, lw, style, there in (
            (RANDOM, RANDOM_COLOR, 1.5, "--", bool(random)),
            ("full data", FULL_COLOR, 1, "-", full is not None),
        )
        if there
    ]
    figure.legend(handles=handles, loc="upper right", ncols=2, frameon=False, fontsize=9)


def _means(entries: Sequence[Entry]) -> tuple[Float64Array, Float64Array]:
    return 100 * np.array([entry.mean for entry in entries]), 100 * np.array([entry.sd or 0.0 for entry in entries])


def _at(entries: Sequence[Entry]) -> tuple[list[float], list[float]]:
    timed = [entry for entry in entries if entry.seconds.total]
    return [entry.seconds.total or 0.0 for entry in timed], [100 * entry.mean for entry in timed]


def _name(axes: Axes, entry: Entry, name: str, color: str, offset: tuple[int, int], side: str) -> None:
    if entry.seconds.total:
        place = (entry.seconds.total, 100 * entry.mean)
        text = axes.annotate(
            name, place, offset, textcoords="offset points", ha=side, va="center", fontsize=8, color=color
        )
        # Readable where it lies on a mark.
        text.set_bbox({"facecolor": "white", "alpha": 0.75, "pad": 0.5, "lw": 0})


def _front(entries: Sequence[Entry]) -> list[Entry]:
    """Those that no other method beats in both seconds and metric."""
    front: list[Entry] = []
    for entry in sorted(entries, key=lambda entry: (entry.seconds.total or 0.0, -entry.mean)):
        if not front or entry.mean > front[-1].mean:
            front.append(entry)
    return front


def _density(axes: Axes, values: Float64Array, weights: Float64Array) -> None:
    """Shares of the pool and of the kept rows per bin; rows beyond the shown quantiles count in the end bins."""
    known = np.isfinite(values)
    edges = bin_edges(values[known], BINS)
    inside = np.clip(values[known], *edges[[0, -1]])
    pool, _ = np.histogram(inside, edges)
    kept, _ = np.histogram(inside, edges, weights=weights[known])
    axes.stairs(pool / pool.sum(), edges, fill=True, color=POOL, label="pool")
    if kept.sum() > 0:
        axes.stairs(kept / kept.sum(), edges, color=KEPT, lw=1.6, label="kept")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _varying(maps: Sequence[Mapping[str, float]]) -> list[str]:
    """Return all classes, or of many those whose rate differs most among the methods."""
    names = list(maps[0]) if maps else []
    if len(names) > MAX_CLASSES:
        spreads = {name: max(found[name] for found in maps) - min(found[name] for found in maps) for name in names}
        chosen = set(sorted(names, key=lambda name: -spreads[name])[:MAX_CLASSES])
        names = [name for name in names if name in chosen]
    return names


def _write(
    path: Path,
    size: tuple[float, float],
    draw: Callable[[Figure], None],
    layout: Literal["constrained"] | None = "constrained",
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(svg(path.name, size, draw, layout))
