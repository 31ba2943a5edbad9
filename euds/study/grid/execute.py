"""Train the cells of a grid in several processes, each with its share of the cores."""

from collections.abc import Callable, Iterable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING

from euds.errors import RunStopped
from euds.ops.ranks import check_threads
from euds.processes import ChildProcesses
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

    Raises:
        RunStopped: a process was killed; what is finished has been handed over.
    """
    try:
        with ChildProcesses(workers, _start, bench) as processes:
            for job, future in processes.run(_train, jobs):
                on_done(job, future.result())
    except BrokenProcessPool:
        raise RunStopped("a training process was killed (out of memory?); the same command resumes") from None


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


def _start(bench: Bench) -> None:
    """Make this process a silent trainer."""
    global _bench
    # The parent shows one bar for all.
    listen_on(lambda event: None)
    _bench = bench


def _train(job: Job) -> FineTuned:
    assert _bench is not None
    return train_here(job, _bench)
