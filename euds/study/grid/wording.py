"""How numbers of a grid are written: percent, points, intervals, seconds."""

from collections.abc import Sequence

from euds.study.grid.statistics import Difference

NONE = "-"


def percent(value: float | None, digits: int = 1) -> str:
    """A share or metric in percent."""
    return NONE if value is None else f"{100 * value:.{digits}f}"


def points(value: float) -> str:
    """A difference in percentage points, with its sign."""
    # A rounded zero has no sign.
    return f"{100 * value:+.1f}" if abs(value) >= 0.0005 else "0.0"


def interval(gap: Difference | None) -> str:
    """A difference with its 95 % interval, in points."""
    return NONE if gap is None else f"{points(gap.mean)} [{points(gap.low)}, {points(gap.high)}]"


def p_value(p: float | None) -> str:
    """A p-value, to three digits."""
    return NONE if p is None else f"{p:.3f}" if p >= 0.001 else "< 0.001"


def seconds(value: float | None) -> str:
    """Seconds, whole above ten."""
    return NONE if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def span(values: Sequence[int]) -> str:
    """One number, or the smallest and largest."""
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def names(methods: Sequence[str], limit: int = 8) -> str:
    """Methods as code, the first few of many."""
    shown = ", ".join(f"`{method}`" for method in methods[:limit])
    return shown + (f" and {len(methods) - limit} more" if len(methods) > limit else "")


def trainings(count: int | None) -> str:
    """A number of trainings; never, where there is none."""
    return "never" if count is None else f"{count:,}"


def escape(text: str) -> str:
    """Text that no Markdown table or tag can break on."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
