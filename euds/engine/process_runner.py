"""Score in several processes of this machine, such as one for each GPU."""

from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.queues import Queue
from types import TracebackType
from typing import Self

from euds.engine.execution import Task, last_row, refuse_other_precision
from euds.engine.meter import Meter
from euds.engine.prepare import Plan
from euds.engine.worker import Worker, run_task
from euds.errors import RunStopped
from euds.measures.device import precision
from euds.ops.ranks import check_threads
from euds.processes import ChildProcesses
from euds.progress import Message, StepProgress, bar, listen_on, say

_worker: Worker | None = None
"""The worker of this process, in a process of the pool."""

_said: list[str] = []
"""What this process has to say, until its task is done: the parent shows it above its bar, or tells who listens."""

Done = tuple[tuple[int, int, int], list[str]]
"""What `run_task` returns, and what was said meanwhile."""


class ProcessRunner:
    """Runs tasks in a process for each device; a process that dies ends the run, which can be resumed.

    Attributes:
        torch_threads: of each process, its share of the cores; None: no model runs.

    Raises:
        InputError: scores of one of the devices would not be those that the command has settled.
    """

    def __init__(self, plan: Plan, devices: Sequence[str]) -> None:
        remedy = "set CUDA_VISIBLE_DEVICES to cards of one kind, or name one card with --device"
        for device in dict.fromkeys(devices):
            refuse_other_precision(plan, precision(device, plan.config.dtype), f"a process on {device}", remedy)
        n_threads = max(1, check_threads(None) // len(devices))
        self.torch_threads = n_threads if plan.runs_models else None
        turns = ChildProcesses.context.Queue()
        for device in devices:
            turns.put(device)
        self._processes = ChildProcesses(len(devices), _start, plan, turns, n_threads)

    def __enter__(self) -> Self:
        """The processes start with their first task."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the processes, after an error at once: what they have not finished will be done again."""
        self._processes.__exit__(kind, error, at)

    def run(self, step: str, tasks: Sequence[Task], *, done: int) -> None:
        """Run "score" or "finish" over all shards of `tasks`."""
        if not tasks:
            return
        with bar(step, last_row(tasks, done), done=done) as progress:
            meter = Meter(progress)
            try:
                for _, future in self._processes.run(partial(_run, step), tasks):
                    meter(*_counts(future))
            except BrokenProcessPool:
                raise RunStopped(
                    "a scoring process was killed (out of memory?), or could not start (a script must call euds.score "
                    'under if __name__ == "__main__"); the same command resumes'
                ) from None


def _start(plan: Plan, turns: "Queue[str]", n_threads: int) -> None:
    """Make this process a worker on a device of its own, with its share of the cores."""
    global _worker
    listen_on(_keep)
    if plan.runs_models:
        import torch

        torch.set_num_threads(n_threads)
    else:
        import numba

        numba.set_num_threads(min(n_threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    _worker = Worker(plan, turns.get(), tells_loading=False)


def _keep(event: StepProgress | Message) -> None:
    if isinstance(event, Message):
        _said.append(event.text)


def _counts(future: Future[Done]) -> tuple[int, int, int]:
    """What a task has counted, after passing on what its process has said, also where the task has failed."""
    try:
        counts, said = future.result()
    except Exception as error:
        for text in getattr(error, "__notes__", ()):
            say(text)
        raise
    for text in said:
        say(text)
    return counts


def _run(step: str, task: Task) -> Done:
    assert _worker is not None
    try:
        counts = run_task(_worker, step, task)
    except Exception as error:
        # There is no result that could carry it to the parent.
        for text in _said:
            error.add_note(text)
        raise
    said = _said.copy()
    _said.clear()
    return counts, said
