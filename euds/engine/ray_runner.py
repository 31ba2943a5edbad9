"""Score on Ray: a Ray row is a task of shard descriptors, an actor is a worker, and only counts come back."""

import gc
import logging
import os
import signal
import socket
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from euds.engine.execution import Task, last_row, refuse_other_precision, torch_threads, with_work
from euds.engine.meter import Meter
from euds.engine.prepare import Plan
from euds.engine.shards import Shard
from euds.engine.worker import Worker, run_task
from euds.errors import (
    BackendUnavailable,
    EudsError,
    InputError,
    InvalidArgument,
    InvalidType,
    RunStopped,
    reason_of,
)
from euds.files import needs_storage
from euds.progress import bar

try:
    import ray
    import ray.data
    from ray.util.annotations import RayDeprecationWarning
except ImportError as error:
    raise BackendUnavailable(f"ray: cannot be imported ({error}); in a checkout run: pip install '.[ray]'") from None


ERRORS = {
    one.__name__: one for one in (BackendUnavailable, InvalidArgument, InvalidType, InputError, RunStopped, EudsError)
}
"""What an actor's error may be, the nearest kind first; all take a message alone."""

MOST_VAIN_ROUNDS = 3
"""Times in a row that every task of a round may be lost before a run ends."""


CONNECT_ERRORS = (OSError, RuntimeError, ValueError)
"""What `_reach` and `ray.init` raise where they find no cluster, or cannot read the address."""

CONNECT_SECONDS = 10.0
"""Time that a host has to answer at all; Ray itself had not given up on a silent one after a minute."""


@dataclass
class _Connection:
    """A process has one connection to Ray, which all its runs share.

    The run that started Ray ends it, after all others: its processes would die with the thread that started them.
    """

    changed: threading.Condition = field(default_factory=threading.Condition)
    n_runs: int = 0


_CONNECTION = _Connection()


class RayRunner:
    """Runs tasks on a pool of Ray Data actors, which Ray restarts when they die; their tasks are done again by others.

    Args:
        plan: the run; its directory and inputs must be visible to every node.
        workers: most actors at once; None: one a GPU, or one a CPU where there is no GPU or none is taken.
        address: address of a cluster; None: Ray's own rule.
        n_tasks: of the whole run; more actors would have no work.
    """

    def __init__(self, plan: Plan, *, workers: int | None, address: str | None, n_tasks: int) -> None:
        self._plan = _everywhere(plan)
        self._workers = workers
        self._address = address
        self._n_tasks = n_tasks
        self._started_ray = False
        self._threads: set[int | None] = set()

    @property
    def torch_threads(self) -> int | None:
        """Threads of torch in each actor that has scored; None: they differ, none has, or no model runs."""
        return next(iter(self._threads)) if len(self._threads) == 1 else None

    def __enter__(self) -> Self:
        """Connect to the cluster, or start one here.

        Raises:
            InputError: there is no cluster at the address.
        """
        with _CONNECTION.changed:
            if not ray.is_initialized():
                try:
                    self._connect()
                except CONNECT_ERRORS as error:
                    where = "joined or started" if self._address is None else f"joined at {self._address}"
                    raise InputError(f"ray: no cluster can be {where}: {reason_of(error)}") from error
                self._started_ray = True
            _CONNECTION.n_runs += 1
        return self

    def _connect(self) -> None:
        _reach(self._address or os.environ.get("RAY_ADDRESS") or "auto")
        on_sigterm = signal.getsignal(signal.SIGTERM)
        ray.init(address=self._address, include_dashboard=False, logging_level=logging.WARNING)
        # Ray has put a handler of its own there.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the cluster that was entered; one that was started here first waits for this process' other runs."""
        with _CONNECTION.changed:
            _CONNECTION.n_runs -= 1
            _CONNECTION.changed.notify_all()
            if self._started_ray:
                _CONNECTION.changed.wait_for(lambda: _CONNECTION.n_runs == 0)
                _end_ray()

    def run(self, step: str, tasks: Sequence[Task], *, done: int) -> None:
        """Run "score" or "finish" over all shards of `tasks`.

        Raises:
            RunStopped: round after round, every task was lost with its worker.
        """
        if not tasks:
            return
        needs_gpu = step == "score" and "GPU" in ray.cluster_resources() and self._plan.takes_gpu
        left = dict(enumerate(tasks))
        n_vain = 0
        if step == "score":
            with_work("workers", self._n_workers(needs_gpu), self._plan, self._n_tasks)
        with bar(step, last_row(tasks, done), done=done) as progress, _lost_quietly():
            meter = Meter(progress)
            while left:
                n_vain += 1
                for row in self._rows(step, left, needs_gpu):
                    if row["error"]:
                        raise ERRORS.get(row["kind"], RuntimeError)(row["error"])
                    del left[row["task"]]
                    if step == "score":
                        self._threads.add(row["torch_threads"])
                    n_vain = 0
                    meter(row["rows"], row["tokens"], row["quarantined"])
                if n_vain == MOST_VAIN_ROUNDS:
                    raise RunStopped(
                        f"ray: {n_vain} times in a row every task was lost with its worker (out of memory? do nodes "
                        "go?); Ray's logs say more, and the same command resumes"
                    )
                if left:
                    self._reconnect()

    def _reconnect(self) -> None:
        """End Ray's job, and with it what has died and may be on its way back, which would hold a place."""
        with _CONNECTION.changed:
            if not self._started_ray or _CONNECTION.n_runs > 1:
                return
            _end_ray()
            try:
                self._connect()
            except CONNECT_ERRORS as error:
                text = f"ray: the cluster is gone: {reason_of(error)}; the same command resumes"
                raise RunStopped(text) from error

    def _rows(self, step: str, tasks: Mapping[int, Task], needs_gpu: bool) -> Iterator[dict[str, Any]]:
        """What the actors return for those tasks that are not lost with one, as it comes."""
        rows = [{"task": at, "shards": [shard.to_json() for shard in task]} for at, task in tasks.items()]
        data = ray.data.from_items(rows, override_num_blocks=len(rows))
        # Progress is counted in rows here, not in Ray's blocks, and a shard may take longer than Ray waits for one.
        data.context.enable_progress_bars = False
        data.context.execution_no_progress_timeout_s = -1
        # A task that is lost with its actor is missing in the end, and done again. Ray would keep it for that very
        # actor, which may wait without end where the nodes that are left have no room for it.
        data.context.max_errored_blocks = -1
        data.context.max_consecutive_actor_init_deaths = MOST_VAIN_ROUNDS
        # A class stands for its instances here, which Ray's own types do not say.
        actor: Any = _Actor
        with warnings.catch_warnings():
            # Options without a name of their own, such as the last one, go with Ray 2.64.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            counts = data.map(
                actor,
                fn_constructor_args=(self._plan, step),
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(self._n_workers(needs_gpu), len(rows))),
                num_cpus=1,
                num_gpus=1 if needs_gpu else None,
                max_task_retries=0,
            )
        yield from counts.iter_rows()

    def _n_workers(self, needs_gpu: bool) -> int:
        cluster: dict[str, float] = ray.cluster_resources()
        return self._workers or max(1, int(cluster.get("GPU" if needs_gpu else "CPU", 0)))


def _end_ray() -> None:
    """End Ray, or this process' part in it."""
    # Ray Data leaves references in cycles, and Ray ends a process in which another thread frees one meanwhile.
    gc.collect()
    ray.shutdown()


@contextmanager
def _lost_quietly() -> Iterator[None]:
    """Leave the traceback that Ray logs for each lost task to its log file."""
    ray_says = logging.getLogger("ray.data._internal.execution.streaming_executor_state")
    ray_says.addFilter(_hide_lost_task)
    try:
        yield
    finally:
        ray_says.removeFilter(_hide_lost_task)


def _hide_lost_task(record: logging.LogRecord) -> bool:
    if "max_errored_blocks" in record.getMessage():
        # Ray's handler of the console passes over such records.
        record.__dict__["hide"] = True
    return True


def _reach(address: str) -> None:
    """Refuse a host and port where nothing listens; other addresses ("auto", "local") are left to Ray.

    Raises:
        OSError: nothing answers there, or the host is not known.
        ValueError: the port is no number.
    """
    place = urlsplit(address if "://" in address else f"//{address}")
    if place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), timeout=CONNECT_SECONDS).close()


def _everywhere(plan: Plan) -> Plan:
    """Return a plan without a relative path: an actor's working directory is another one."""
    folders = {role: folder.absolute() for role, folder in plan.folders.items()}
    settings = plan.config.samples
    if settings is not None and settings.generations_from is not None:
        settings = replace(settings, generations_from=str(Path(settings.generations_from).absolute()))
    config = replace(plan.config, samples=settings)
    return replace(plan, run_dir=plan.run_dir.absolute(), folders=folders, config=config)


class _Actor:
    """A worker in a Ray actor."""

    def __init__(self, plan: Plan, step: str) -> None:
        self._plan = plan
        self._step = step
        self._made: Worker | None = None

    @property
    def _worker(self) -> Worker:
        # Not in the constructor, where an error would be a worker lost. Finishing runs no model, and may lie on a node
        # without the device of the scores.
        if self._made is None:
            self._made = Worker(self._plan, "cpu" if self._step == "finish" else None, tells_loading=False)
        return self._made

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Run one task; an error comes back as a row, without Ray's traces around it."""
        rows = tokens = quarantined = 0
        message = kind = ""
        try:
            task = tuple(Shard.from_json(shard) for shard in row["shards"])
            with needs_storage(self._plan.run_dir):
                if self._step == "score":
                    remedy = "start the command on a node like the workers, or give --device cpu"
                    refuse_other_precision(self._plan, self._worker.precision, "a Ray worker", remedy)
                rows, tokens, quarantined = run_task(self._worker, self._step, task)
        except EudsError as error:
            message, kind = str(error), next(name for name, one in ERRORS.items() if isinstance(error, one))
        except Exception:  # A defect, which would be taken for a lost actor if it were raised here.
            message, kind = traceback.format_exc(), "RuntimeError"
        threads = torch_threads(self._plan)
        counts = {"rows": rows, "tokens": tokens, "quarantined": quarantined, "torch_threads": threads}
        return {"task": row["task"], **counts, "error": message, "kind": kind}
