"""What long work says of itself: bars and messages on standard error, or events for the caller's own front end."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from euds.errors import not_of_the_work


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Go on without a word where nobody reads any more: what runs long may outlive the terminal that began it."""
        self.quiet = True
        # What is left in the buffer would fail again as Python ends, and turn the exit code into 120.
        with suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), self.file.fileno())


console = _Console(
    stderr=True,
    highlight=False,
    # Rich would put pictures into names such as `a:100:b`.
    emoji=False,
    # In a notebook rich shows bars by ipywidgets alone, and without them warns instead.
    force_jupyter=None if find_spec("ipywidgets") else False,
)

WORTH_A_BAR = 2.0
"""Seconds after which a step that is mostly over at once has a bar."""

TELL_SECONDS = 0.1
"""How often such a bar moves, as its steps may be rows that take microseconds."""

RATE_SECONDS = 3600
"""How far back the rate behind an ETA looks; a step, such as a training or a compressed file, may take minutes."""


LINE_SECONDS = 30
"""How often a log has a line of a bar, which it cannot show."""


@dataclass(frozen=True)
class StepProgress:
    """How far a step of a call has come, as its bar would show it.

    Attributes:
        title: the step, such as "score", "finish", "embed".
        done: of the step, in its unit: rows, but files, bytes or examples where the title says so.
        total: of the step, None where it is not known.
        seconds_left: by the rate so far, None before there is one.
        note: rates and counts for people to read, such as "2,100 tokens/s, 3 quarantined"; may be empty.
    """

    title: str
    done: float
    total: float | None
    seconds_left: float | None
    note: str


@dataclass(frozen=True)
class Message:
    """A line for people to read; a warning begins with "warning: "."""

    text: str


Listener = Callable[[StepProgress | Message], object]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listen(listener: Listener) -> Iterator[None]:
    """Give progress and messages of the calls inside to a function, instead of showing them on standard error.

    What the listener raises ends the call, as Ctrl-C does: the same call resumes where it can be resumed. It belongs to
    this thread (or asyncio task), so that calls in several threads have their own. It is called at every step, often
    many times a second, and work waits for it. Warnings of Ray's actors go to Ray's log.

    Args:
        listener: called with a StepProgress or a Message.
    """

    def tell(event: StepProgress | Message) -> None:
        try:
            listener(event)
        except Exception as error:
            not_of_the_work(error)
            raise

    before = _listener.set(tell)
    try:
        yield
    finally:
        _listener.reset(before)


def listen_on(listener: Listener) -> None:
    """Like `listen`, for all that this thread of a child process will ever do."""
    _listener.set(listener)


def say(text: str) -> None:
    """Show a message, or give it to who listens."""
    listener = _listener.get()
    if listener is None:
        console.print(text, markup=False, soft_wrap=True)
    else:
        listener(Message(text))


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
        if _listener.get() is not None:
            self.tell()
            return
        # Of a bar, rich writes only the end into what is no terminal.
        if not (console.is_terminal or console.is_jupyter) and console.get_time() - self._told >= LINE_SECONDS:
            self._told = console.get_time()
            console.print(self._line(), markup=False, soft_wrap=True)

    def tell(self) -> None:
        """Tell who listens, if anyone does, where the bar is."""
        listener = _listener.get()
        if listener is not None:
            (task,) = self._progress.tasks
            note = task.fields["note"]
            listener(StepProgress(task.description, task.completed, task.total, task.time_remaining, note))

    def _line(self) -> str:
        (task,) = self._progress.tasks
        total = "" if task.total is None else f"/{task.total:,.0f}"
        left = "" if task.time_remaining is None else f", {timedelta(seconds=round(task.time_remaining))} left"
        return f"{task.description} {task.completed:,.0f}{total}{left} {task.fields['note']}".rstrip()


@contextmanager
def bar(title: str, total: int | None, *, done: int = 0) -> Iterator[Bar]:
    """Show a bar over `total` steps (None: unknown) with the ETA, or tell who listens."""
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
    unseen = _listener.get() is not None
    with Progress(
        *columns, console=console, refresh_per_second=4, speed_estimate_period=RATE_SECONDS, disable=unseen
    ) as progress:
        task = progress.add_task(title, total=total, completed=done, note="")
        # The clock starts here, or the time of the first step would be left out of the rate.
        progress.advance(task, 0)
        shown = Bar(progress, task)
        shown.tell()
        yield shown


@contextmanager
def slow_bar(title: str, total: float, unit: str) -> Iterator[Callable[[float], None]]:
    """Show a bar of a step once it has taken a while, with the ETA and the rate; most are over before.

    Args:
        title: of the bar.
        total: steps.
        unit: of the steps, for the rate.

    Yields:
        What moves the bar by so many steps.
    """
    start = console.get_time()
    due, done, told = start + WORTH_A_BAR, 0.0, 0.0
    shown: Bar | None = None
    with ExitStack() as open_bars:

        def tell(now: float) -> None:
            nonlocal due, told, shown
            if shown is None:
                # What was done before is in the bar from its start, or it would count as done at once.
                told = int(done)
                shown = open_bars.enter_context(bar(f"{title}, {unit}", round(total), done=told))
            steps, told, due = done - told, done, now + TELL_SECONDS
            shown.advance(steps, f"{done / max(now - start, 1e-9):,.0f} {unit}/s")

        def advance(steps: float) -> None:
            nonlocal done
            done += steps
            now = console.get_time()
            if now >= due:
                tell(now)

        yield advance
        if shown is not None:
            tell(console.get_time())


@contextmanager
def search_bar() -> Iterator[Callable[[float], None]]:
    """Show a bar of a box search once it has taken a while, as `slow_bar`; yields what takes the share that is done."""
    done = 0.0
    with slow_bar("search", 100, "%") as advance:

        def reached(share: float) -> None:
            nonlocal done
            advance(100 * share - done)
            done = 100 * share

        yield reached
        # The search itself tells no end.
        reached(1.0)


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
