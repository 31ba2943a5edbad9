"""One progress bar for all long work, on standard error."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

console = Console(stderr=True, highlight=False)

WORTH_A_BAR = 1 << 28
"""Bytes that take a second or so to read."""

RATE_SECONDS = 3600
"""How far back the rate behind an ETA looks; a step, such as a training or a compressed file, may take minutes."""


LINE_SECONDS = 30
"""How often a log has a line of a bar, which it cannot show."""


class Bar:
    """A running bar; `advance` moves it, `note` changes the text behind it (a rate, a count)."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._told = console.get_time()

    def advance(self, steps: float = 1, note: str | None = None) -> None:
        """Move the bar by `steps` and, if given, show `note` behind it."""
        if note is None:
            self._progress.advance(self._task, steps)
        else:
            self._progress.update(self._task, advance=steps, note=note)
        # Of a bar, rich writes only the end into what is no terminal.
        if not (console.is_terminal or console.is_jupyter) and console.get_time() - self._told >= LINE_SECONDS:
            self._told = console.get_time()
            console.print(self._line(), markup=False, soft_wrap=True)

    def _line(self) -> str:
        (task,) = self._progress.tasks
        total = "" if task.total is None else f"/{task.total:,.0f}"
        left = "" if task.time_remaining is None else f", {timedelta(seconds=round(task.time_remaining))} left"
        return f"{task.description} {task.completed:,.0f}{total}{left} {task.fields['note']}".rstrip()


@contextmanager
def bar(title: str, total: int | None, *, done: int = 0) -> Iterator[Bar]:
    """Show a bar over `total` steps (None: unknown) with the ETA."""
    columns = (
        # Names of the user's may look like markup.
        TextColumn("{task.description}", markup=False),
        # Narrow, so that title, rate and counts fit into 80 characters.
        BarColumn(bar_width=8),
        MofNCompleteColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=4, speed_estimate_period=RATE_SECONDS) as progress:
        task = progress.add_task(title, total=total, completed=done, note="")
        # The clock starts here, or the time of the first step would be left out of the rate.
        progress.advance(task, 0)
        yield Bar(progress, task)


@contextmanager
def reading_bar(title: str, total: float, unit: str, n_bytes: int) -> Iterator[Callable[[float], None]]:
    """Show a bar while much is read, with the ETA and the rate; there is none where it is soon read.

    Args:
        title: of the bar.
        total: steps.
        unit: of the steps, for the rate.
        n_bytes: what is read in all.

    Yields:
        What moves the bar by so many steps.
    """
    if n_bytes < WORTH_A_BAR:
        yield lambda steps: None
        return
    start, done = time.perf_counter(), 0.0
    with bar(f"{title}, {unit}", round(total)) as progress:

        def advance(steps: float) -> None:
            nonlocal done
            done += steps
            progress.advance(steps, f"{done / (time.perf_counter() - start):,.0f} {unit}/s")

        yield advance


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own progress bars and notes from the terminal; errors still show."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
