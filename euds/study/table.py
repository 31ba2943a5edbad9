"""A study as a table, for a terminal and for Markdown."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from euds.selection.summary import label_lines
from euds.study.types import Spread, StudyTable

TITLES = {"accuracy": "accuracy", "macro_f1": "macro-F1", "f1": "F1", "exact_match": "exact match"}


def keep_name(keep: float) -> str:
    """A budget as a share of the pool, to three digits: "16 %", "0.333 %"."""
    return f"{100 * keep:.3g} %"


def header(table: StudyTable) -> list[str]:
    """Return the titles of the columns."""
    return ["method", "rows", "kept", *(TITLES[name] for name in table.metrics), "train s", "select s"]


def lines(table: StudyTable) -> Iterator[list[str]]:
    """Yield the cells of each method's line: metrics in percent, mean and standard deviation over seeds, and seconds.

    A selection costs its scores and the search by them.
    """
    for method in table.methods:
        yield [
            method.name,
            f"{method.rows:,}",
            keep_name(method.keep),
            *(_percent(method.metrics[name]) for name in table.metrics),
            f"{method.train_seconds.mean:.0f}",
            f"{method.scoring_seconds + method.search_seconds:.0f}",
        ]


def caption(table: StudyTable) -> str:
    """Return what the numbers mean."""
    seeds = f"{len(table.seeds)} training seed{'s' if len(table.seeds) > 1 else ''}"
    steps = table.config.get("steps")
    length = f"{steps} steps" if steps else f"{table.config['epochs']:g} epochs"
    spread = "percent, mean ± standard deviation" if len(table.seeds) > 1 else "percent"
    return f"{spread} over {seeds}, {table.n_test:,} test rows, {length}"


def notes(methods: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what searches by labels found, method by method; each has at least `name`, and `search` if it has one."""
    return [f"{method['name']}: {line}" for method in methods for line in label_lines(method.get("search") or {})]


def render(table: StudyTable) -> Table:
    """Return the table for a terminal."""
    # Names of methods may look like markup; a long one is folded, so that no number is cut off.
    shown = Table(caption=escape("\n".join([caption(table), *notes(map(asdict, table.methods))])))
    for at, title in enumerate(header(table)):
        shown.add_column(title, justify="right" if at else "left", no_wrap=at > 0, overflow="fold")
    for line in lines(table):
        shown.add_row(*map(escape, line))
    return shown


def _percent(value: Spread) -> str:
    if value.sd is None:
        return f"{100 * value.mean:.1f}"
    return f"{100 * value.mean:.1f} ± {100 * value.sd:.1f}"
