"""Score in several processes of this machine, such as one for each GPU."""

import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Self

from euds.engine.execution import Task
from euds.engine.meter import Meter
from euds.engine.prepare import Plan
from euds.engine.worker import Worker, run_task
from euds.errors import EudsError
from euds.progress import bar

_worker: Worker | None = None
"""The worker of this process, in a process of the pool."""


class ProcessRunner:
    """Runs tasks in a process for each device; a process that dies ends the run, which can be resumed."""

    def __init__(self, plan: Plan, devices: Sequence[str]) -> None:
        self._plan = plan
        self._n_processes = len(devices)
        # Fork would carry torch's threads and CUDA into a child that cannot use them.
        context = multiprocessing.get_context("spawn")
        turns = context.Queue()
        for device in devices:
            turns.put(device)
        self._pool = ProcessPoolExecutor(
            len(devices), mp_context=context, initializer=_start, initargs=(plan, turns, len(devices))
        )

    def __enter__(self) -> Self:
        """The processes start with their first task."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let the processes finish the task they are at, and no more."""
        self._pool.shutdown(cancel_futures=True)

    def run(self, step: str, tasks: Sequence[Task], *, done: int) -> None:
        """Run "score" or "finish" over all shards of `tasks`."""
        if not tasks:
            return
        waiting = iter(tasks)
        running: set[Future[tuple[int, int, int]]] = set()
        with bar(step, self._plan.n_rows, done=done) as progress:
            meter = Meter(progress)
            try:
                while True:
                    # Two tasks a process: enough to keep it busy, and an interrupt has little to wait for.
                    while len(running) < 2 * self._n_processes and (task := next(waiting, None)) is not None:
                        running.add(self._pool.submit(_run, step, task))
                    if not running:
                        return
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        meter(*future.result())
            except BrokenProcessPool:
                raise EudsError("a scoring process was killed (out of memory?); the same command resumes") from None


def _start(plan: Plan, turns: "multiprocessing.Queue[str]", n_processes: int) -> None:
    """Make this process a worker on a device of its own, with its share of the cores."""
    global _worker
    threading.Thread(target=_die_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // n_processes))
    _worker = Worker(plan, turns.get())


def _run(step: str, task: Task) -> tuple[int, int, int]:
    assert _worker is not None
    return run_task(_worker, step, task)


def _die_with_parent() -> None:
    """End this process when its parent is killed, which closes no queue."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
