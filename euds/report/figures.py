"""The figures of a report, as SVG pictures that stand in the page itself."""

import base64
import io
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from euds.report.content import Content, title_of, unit_of
from euds.selection.describe import short
from euds.study.table import TITLES as METRIC_TITLES
from euds.types import Float64Array

POOL, KEPT, REGION, BOX, INK = "#b9c2cc", "#0b6fb8", "#f2b705", "#c2410c", "#27313b"
BINS = 48
SHOWN_QUANTILES = (0.005, 0.995)
"""A handful of extreme rows would squeeze all others into a few bars; those beyond are counted in the end bars."""


@dataclass(frozen=True)
class Picture:
    """An image as a data URI, and its description for those who cannot see it."""

    uri: str
    alt: str


DRAWING = threading.Lock()
"""matplotlib's settings are those of the whole process: of two threads that change and restore them, neither would be
left with its own."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    # Labels come from data; a dollar sign is no mathematics.
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def histogram(content: Content, column: str) -> Picture:
    """The pool's and the kept rows' distribution on one axis, the interval shaded."""
    values = content.values(column)
    finite = values[np.isfinite(values)]
    edges = bin_edges(finite, BINS)
    kept = values[content.kept]
    kept = kept[np.isfinite(kept)]

    def draw(axes: Axes) -> None:
        bars = edges.tolist()
        axes.hist(np.clip(finite, *edges[[0, -1]]), bars, color=POOL, label=f"pool, {len(finite):,} rows")
        if len(kept):
            axes.hist(np.clip(kept, *edges[[0, -1]]), bars, color=KEPT, label=f"kept, {len(kept):,} rows")
        if column in content.bounds:
            left, right = np.clip(content.bounds[column], *edges[[0, -1]]).tolist()
            axes.axvspan(left, right, color=REGION, alpha=0.28, lw=0, zorder=0, label="interval")
            for side in (left, right):
                axes.axvline(side, color=REGION, lw=1.5)
        axes.set_xlabel(f"{title_of(column)} ({unit_of(column)})")
        axes.set_ylabel("rows")
        # Above the bars, where it can hide none.
        axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, columnspacing=1)

    return _picture(f"Histogram of {title_of(column)}, pool and kept rows", 4.6, 2.7, draw)


def joint(content: Content, first: str, second: str) -> Picture:
    """Where the rows lie on two axes, the box drawn."""
    x, y = content.values(first), content.values(second)
    known = np.isfinite(x) & np.isfinite(y)
    x_edges, y_edges = bin_edges(x[known], BINS), bin_edges(y[known], BINS)
    counts, _, _ = np.histogram2d(x[known], y[known], (x_edges, y_edges))
    bounds = content.bounds

    def draw(axes: Axes) -> None:
        mesh = axes.pcolormesh(x_edges, y_edges, np.ma.masked_equal(counts.T, 0), cmap="Blues", vmin=0, rasterized=True)
        axes.figure.colorbar(mesh, ax=axes, label="rows", shrink=0.85)
        if first in bounds and second in bounds:
            left, right = np.clip(bounds[first], *x_edges[[0, -1]]).tolist()
            bottom, top = np.clip(bounds[second], *y_edges[[0, -1]]).tolist()
            axes.plot([left, right, right, left, left], [bottom, bottom, top, top, bottom], color=BOX, lw=2)
        axes.set_xlabel(f"{title_of(first)} ({unit_of(first)})")
        axes.set_ylabel(f"{title_of(second)} ({unit_of(second)})")

    return _picture(f"Rows by {title_of(first)} and {title_of(second)}", 4.6, 3.6, draw)


def study(table: Mapping[str, Any]) -> Picture:
    """Every method's main metric: mean over seeds with its standard deviation, single seeds as dots.

    A dashed line marks the mean of each random selection.
    """
    metric = table["metrics"][0]
    methods = table["methods"][::-1]

    def draw(axes: Axes) -> None:
        for at, method in enumerate(methods):
            found = method["metrics"][metric]
            color = INK if method["rule"] is None else KEPT
            values = [100 * value for value in found["values"]]
            width = 100 * (found["sd"] or 0)
            axes.errorbar(100 * found["mean"], at, xerr=width, fmt="D", color=color, capsize=4, ms=6)
            axes.plot(values, [at] * len(values), "o", color=color, alpha=0.45, ms=4)
            if method["rule"] == "random":
                axes.axvline(100 * found["mean"], color=POOL, lw=1.2, ls="--", zorder=0)
        axes.set_yticks(range(len(methods)), [f"{short(method['name'])} ({method['rows']:,})" for method in methods])
        axes.set_ylim(-0.6, len(methods) - 0.4)
        axes.set_xlabel(f"{METRIC_TITLES[metric]} (%)")
        axes.grid(axis="x", color="#e5e9ee")
        axes.set_axisbelow(True)

    return _picture("Metric of every method with its spread over seeds", 7.6, 0.9 + 0.42 * len(methods), draw)


def learning_curves(found: Mapping[str, Any]) -> Picture:
    """Accuracy of the probe on parts of the pool, the rule's and random ones, against the full pool and the margin."""
    full = 100 * found["full_accuracy"]

    def draw(axes: Axes) -> None:
        for curve, color, mark in zip(found["curves"], (KEPT, INK), "os", strict=False):
            kept = np.array(curve["fractions"])
            shown = np.geomspace(kept[0], 1, 100)
            axes.plot(shown, full - 100 * curve["scale"] * (shown ** -curve["exponent"] - 1), color=color, lw=1.2)
            spread = [100 * sd for sd in curve["loss_sd"]]
            accuracy = [full - 100 * loss for loss in curve["loss"]]
            axes.errorbar(kept, accuracy, yerr=spread, fmt=mark, color=color, capsize=3, ms=5, label=curve["rule"])
        axes.axhline(full, color=INK, lw=1, label="full data")
        axes.axhspan(full - 100 * found["margin"], full, color=REGION, alpha=0.3, lw=0, label="margin")
        axes.set_xscale("log")
        axes.set_xticks([0.05, 0.1, 0.2, 0.5, 1], ["5 %", "10 %", "20 %", "50 %", "100 %"])
        axes.minorticks_off()
        axes.set_xlabel("part of the pool kept")
        axes.set_ylabel("accuracy of the probe (%)")
        axes.legend(frameon=False, fontsize=8, loc="lower right")

    return _picture("Accuracy of the probe by the part of the pool kept", 7.6, 3.4, draw)


def group_counts(counts: Mapping[int, int], what: str, of: str) -> Picture:
    """Bars of how often each number occurs."""

    def draw(axes: Axes) -> None:
        axes.bar(list(counts), list(counts.values()), color=KEPT)
        axes.set_xlabel(what)
        axes.set_ylabel(of)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return _picture(f"{of} by {what}", 4.6, 2.7, draw)


def rates(kind: str, by_group: Mapping[str, Mapping[str, float]], overall: float) -> Picture:
    """Keep rate per label or source, against the rate of the whole pool."""
    names = list(by_group)[::-1]

    def draw(axes: Axes) -> None:
        places = range(len(names))
        axes.barh(places, [100 * by_group[name]["rate"] for name in names], color=KEPT)
        axes.set_yticks(places, [short(name) for name in names])
        axes.axvline(100 * overall, color=INK, lw=1.2, ls="--")
        axes.set_xlabel("kept (%), dashed: whole pool")

    return _picture(f"Share of rows kept by {kind}", 4.6, 0.9 + 0.32 * len(names), draw)


def svg(
    salt: str,
    size: tuple[float, float],
    draw: Callable[[Figure], object],
    layout: Literal["constrained"] | None = "constrained",
) -> bytes:
    """Return a drawn figure as SVG: the same bytes for the same salt and numbers; size in inches."""
    # The salt, the missing date, and that nobody's own settings count make it so.
    settings = {**STYLE, "svg.hashsalt": salt}
    with DRAWING, style.context(["default", settings]), warnings.catch_warnings():
        # Text of an SVG is drawn by the fonts of whoever reads it.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure = Figure(size, layout=layout)
        draw(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, dpi=110)
    return buffer.getvalue()


def bin_edges(values: Float64Array, bins: int) -> Float64Array:
    """Return edges over the shown quantiles of finite values."""
    low, high = np.quantile(values, SHOWN_QUANTILES)
    edges: Float64Array = np.linspace(low, high if high > low else low + 1, bins + 1)
    return edges


def _picture(alt: str, width: float, height: float, draw: Callable[[Axes], None]) -> Picture:
    content = svg(alt, (width, height), lambda figure: draw(figure.add_subplot()))
    return Picture(f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}", alt)
