"""Child processes that leave Ctrl-C to their parent and never outlive it, and the one way to keep several at work."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class ChildProcesses:
    """Processes of this machine, each made ready by `initialize(*arguments)`; they start with their first task.

    As a context manager they end with the block: after an error at once, otherwise when they have done their tasks.

    Args:
        n_processes: how many work side by side, >= 1.
        initialize: a function of a module, called once in every process.
        arguments: its arguments; pickled, but for queues and pipes of `context`, which are inherited.
    """

    # Fork would carry torch's threads and CUDA into a child that cannot use them.
    context = multiprocessing.get_context("spawn")

    def __init__(self, n_processes: int, initialize: Callable[..., object], *arguments: Any) -> None:
        self._n_processes = n_processes
        alive, self._alive = self.context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(
            n_processes, mp_context=self.context, initializer=_start, initargs=(alive, initialize, arguments)
        )

    def __enter__(self) -> Self:
        """Return the processes themselves."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the processes; what an error has left unfinished is given up."""
        if error is not None:
            self._alive.close()
        self._pool.shutdown(cancel_futures=True)

    def run(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[tuple[Task, Future[Result]]]:
        """Yield every task with its finished future, in the order they end; those that failed, last of their batch.

        Tasks are drawn as they are needed, two a process: enough to keep it busy, and an interrupt has little to wait
        for.

        Raises:
            BrokenProcessPool: a process was killed or could not start; futures of such a process raise it, too.
        """
        waiting = iter(tasks)
        running: dict[Future[Result], Task] = {}
        while True:
            while len(running) < 2 * self._n_processes and (task := next(waiting, None)) is not None:
                with _deaf_to_interrupts():
                    running[self._pool.submit(function, task)] = task
            if not running:
                return
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            # What others have finished is handed over before the error of one is raised.
            for future in sorted(finished, key=lambda future: future.exception() is not None):
                yield running.pop(future), future


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Let processes that start in here never hear of Ctrl-C, which a terminal sends to all: their parent ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(alive: Connection, initialize: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    """Make this process ready, and end it when its parent closes the other end of the pipe, or is killed."""

    def wait_for_parent() -> None:
        alive.poll(None)
        os._exit(1)

    threading.Thread(target=wait_for_parent, daemon=True).start()
    initialize(*arguments)
