"""Train the cells of a grid in several processes, each with its share of the cores."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from euds.errors import RunStopped
from euds.ops.ranks import check_threads
from euds.processes import deaf_to_interrupts, end_with_parent
from euds.progress import listen_on
from euds.study.examples import Rows
from euds.study.types import FineTuned, Task, TrainConfig

if TYPE_CHECKING:
    from euds.study.grid.config import Planned

ONE_THREAD = 1
"""Threads of a training process on the CPU: two processes of one thread train more than one process of two."""


@dataclass(frozen=True, eq=False)
class Job:
    """A cell with the rows it trains on."""

    planned: "Planned"
    cell: str
    positions: tuple[int, ...]
    train: Rows
    config: TrainConfig


@dataclass(frozen=True, eq=False)
class Bench:
    """What all cells of a study have in common: the task, the rows that judge them, and the classes of the pool."""

    task: Task
    tests: dict[str, Rows]
    classes: frozenset[str]


_bench: Bench | None = None
"""What this process trains for, in a process of the pool."""


def default_workers() -> int:
    """Return how many processes train side by side: one for each core that is ours, one alone where there is a GPU."""
    import torch

    return 1 if torch.cuda.is_available() else check_threads(None)


def train_jobs(jobs: Iterable[Job], bench: Bench, *, workers: int, on_done: Callable[[Job, FineTuned], None]) -> None:
    """Train every job and hand over each result as soon as it is there, in any order.

    Jobs are drawn as they are needed, two a process, so that an interrupt has little to wait for.

    Raises:
        RunStopped: a process was killed; what is finished has been handed over.
    """
    # Fork would carry torch's threads and CUDA into a child that cannot use them.
    context = multiprocessing.get_context("spawn")
    alive, parent = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(bench, alive))
    running: dict[Future[FineTuned], Job] = {}
    waiting: Iterator[Job] = iter(jobs)
    try:
        while True:
            while len(running) < 2 * workers and (job := next(waiting, None)) is not None:
                with deaf_to_interrupts():
                    running[pool.submit(_train, job)] = job
            if not running:
                break
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            # Those that failed last: what others have finished is handed over before the error is raised.
            for future in sorted(finished, key=lambda future: future.exception() is not None):
                on_done(running.pop(future), future.result())
    except BrokenProcessPool:
        raise RunStopped("a training process was killed (out of memory?); the same command resumes") from None
    except BaseException:
        parent.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def train_here(job: Job, bench: Bench) -> FineTuned:
    """Train one job in this process, with the threads that a training process has."""
    import torch

    from euds.study.cell import fine_tune

    torch.set_num_threads(ONE_THREAD)
    planned = job.planned
    tuned, _ = fine_tune(
        job.train,
        bench.tests,
        task=bench.task,
        config=job.config,
        seed=planned.seed,
        title=f"{planned.method}, seed {planned.seed}, {len(job.train):,} rows",
        classes=bench.classes,
    )
    return tuned


def _start(bench: Bench, alive: Connection) -> None:
    """Make this process a silent trainer."""
    global _bench
    end_with_parent(alive)
    # The parent shows one bar for all.
    listen_on(lambda event: None)
    _bench = bench


def _train(job: Job) -> FineTuned:
    assert _bench is not None
    return train_here(job, _bench)
