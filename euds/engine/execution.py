"""Where the shards of a run are scored: in this process, in several, or on Ray."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import current_process
from typing import TYPE_CHECKING, Protocol

from euds.engine.prepare import Plan
from euds.engine.shards import Shard
from euds.errors import InputError, InvalidArgument, instance_of, whole_number
from euds.progress import say

if TYPE_CHECKING:
    # These bring readers and kernels along, which a finished run does without.
    from euds.engine.worker import Worker
    from euds.measures.device import Precision

Task = tuple[Shard, ...]

Facts = Mapping[str, str | None]
"""A precision as JSON."""


class Runner(AbstractContextManager["Runner"], Protocol):
    """Runs a step of a `Worker` over tasks; how many at once and where is its own business."""

    @property
    def torch_threads(self) -> int | None:
        """Threads of torch in each worker; None where they differ, no worker has told yet, or no model runs."""
        ...

    def run(self, step: str, tasks: Sequence[Task], *, done: int) -> None:
        """Run "score" or "finish" over all shards of `tasks`; the bar begins at `done` rows and ends with theirs."""
        ...


def torch_threads(plan: Plan) -> int | None:
    """Return the threads of torch in this process; None: no model runs, and torch is left out."""
    if not plan.runs_models:
        return None
    import torch

    return torch.get_num_threads()


def last_row(tasks: Sequence[Task], done: int) -> int:
    """Return where a bar over the rows of `tasks` ends that begins after `done` rows."""
    return done + sum(shard.n_rows for task in tasks for shard in task)


def with_work(kind: str, count: int, plan: Plan, n_tasks: int) -> int:
    """Return how many of `count` can have work, after saying on standard error that the others cannot.

    Args:
        kind: of them, in the plural, for the message.
        count: that were asked for, or that there are.
        plan: the run.
        n_tasks: of the whole run, finished ones included.
    """
    if count > n_tasks:
        say(
            f"warning: only {n_tasks:,} of {count:,} {kind} can have work: a shard (of {plan.config.shard_rows:,} "
            "rows), or a compressed file, is worked on as a whole; a new run with a smaller --shard-rows, or with more "
            "files if they are compressed, has work for more"
        )
    return min(count, n_tasks)


def refuse_other_precision(plan: Plan, own: "Precision", whose: str, remedy: str) -> None:
    """Refuse to score otherwise than the command has settled, such as on a card that rounds logits in another way.

    Args:
        plan: the run.
        own: of a worker; which card of its host it has does not matter.
        whose: names the worker in the message.
        remedy: what to do, for the message.

    Raises:
        InputError: the kind of device, the dtype or that of the logits is another one.
    """
    settled = plan.fingerprint["precision"]
    if settled is None:
        return
    facts = own.to_json()
    found = {name: facts.get(name) for name in settled}
    if _without_index(found) != _without_index(settled):
        told = f"the command has settled {_named(settled)}, but {whose} has {_named(found)}"
        raise InputError(f"device: {told}; {remedy}")


def _without_index(precision: Facts) -> dict[str, str | None]:
    return {**precision, "device": str(precision["device"]).partition(":")[0]}


def _named(precision: Facts) -> str:
    logits = precision.get("logits")
    return f"{precision['device']} and {precision['dtype']}" + (f" (logits in {logits})" if logits else "")


@dataclass(frozen=True)
class Execution:
    """How a run is carried out; it changes scores in their last bits at most and may differ when a run is resumed.

    Attributes:
        workers: processes; None: one for each CUDA device if there are several and no device was named, else this one.
            There are no more than tasks.
        ray: whether the shards are scored by actors of Ray Data.
        ray_address: address of a Ray cluster; None: Ray's own rule, a local one if it knows none.
    """

    workers: int | None = None
    ray: bool = False
    ray_address: str | None = None

    def __post_init__(self) -> None:
        """Refuse an impossible number of workers, and an address that is none or without Ray."""
        if self.workers is not None:
            object.__setattr__(self, "workers", whole_number("workers", self.workers, least=1))
        if self.ray_address is not None:
            instance_of("ray_address", self.ray_address, str, "an address of a Ray cluster")
            if not self.ray:
                raise InvalidArgument(
                    f"ray_address: {self.ray_address} is of use on Ray only; add --ray, or leave it out"
                )

    def check(self, plan: Plan) -> None:
        """Refuse what a run would be refused for once it has begun.

        Raises:
            BackendUnavailable: Ray is asked for, but not installed.
            InvalidArgument: the device or dtype is unknown, the device is not there, or there would be several
                processes where vLLM takes one, or where this one may start none.
        """
        from euds.measures.device import precision

        if self.ray and plan.config.device.startswith("cuda:"):
            raise InvalidArgument(
                f"device: {plan.config.device} names one GPU of a host, but a Ray worker is given its own; say cuda"
            )
        precision(plan.device, plan.config.dtype)
        several = not self.ray and (self.workers or len(self._cards(plan))) > 1
        if several and current_process().daemon:
            raise InvalidArgument(
                "workers: this process is daemonic, as those of a pool are, and may start no others; give workers=1"
            )
        if self.ray:
            import_module("euds.engine.ray_runner")
        elif several and plan.draws_by_vllm:
            raise InvalidArgument(
                "workers: vLLM takes one process; give each GPU its own --split under CUDA_VISIBLE_DEVICES"
            )

    def runner(self, plan: Plan, worker: "Worker", n_tasks: int) -> Runner:
        """Return the runner; `worker` is this process' own, and `n_tasks` are those of the whole run."""
        if self.ray:
            from euds.engine.ray_runner import RayRunner

            return RayRunner(plan, workers=self.workers, address=self.ray_address, n_tasks=n_tasks)
        devices = self._devices(plan, n_tasks)
        if len(devices) > 1:
            from euds.engine.process_runner import ProcessRunner

            return ProcessRunner(plan, devices)
        from euds.engine.local_runner import LocalRunner

        return LocalRunner(plan, worker)

    def _devices(self, plan: Plan, n_tasks: int) -> list[str]:
        """The device of each process that can have work: all of `_cards` in turn."""
        cards = self._cards(plan)
        count = with_work("workers", self.workers or max(1, len(cards)), plan, n_tasks)
        return [cards[at % len(cards)] if cards else plan.device for at in range(count)]

    def _cards(self, plan: Plan) -> list[str]:
        """The CUDA devices that processes may choose from: none where one was named, or no model takes any."""
        if not plan.takes_gpu or plan.config.device not in ("auto", "cuda"):
            return []
        import torch

        return [f"cuda:{at}" for at in range(torch.cuda.device_count())]
