"""Score in this process; the next shard is read and tokenised while the models work on this one."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from importlib import import_module
from itertools import chain
from types import TracebackType
from typing import Self

from euds.engine.execution import Task, last_row, torch_threads
from euds.engine.meter import Meter
from euds.engine.prepare import Plan
from euds.engine.worker import Worker
from euds.progress import bar


class LocalRunner:
    """Runs one shard after another."""

    def __init__(self, plan: Plan, worker: Worker) -> None:
        self._plan = plan
        self._worker = worker

    def __enter__(self) -> Self:
        """Nothing to start."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let go of the corpus."""
        self._worker.close()

    @property
    def torch_threads(self) -> int | None:
        """Threads of torch in this process; None: no model runs."""
        return torch_threads(self._plan)

    def run(self, step: str, tasks: Sequence[Task], *, done: int) -> None:
        """Run "score" or "finish" over all shards of `tasks`."""
        shards = list(chain.from_iterable(tasks))
        if not shards:
            return
        with bar(step, last_row(tasks, done), done=done) as progress:
            if step == "finish":
                for shard in shards:
                    progress.advance(self._worker.finish(shard))
                return
            if self._plan.folders:
                # Before there are two threads: of two that import transformers at once, one gets half of it.
                for name in ("models", "generation_stages", "label_words"):
                    import_module(f"euds.engine.{name}")
            meter = Meter(progress)
            # The other thread tells whom this one tells.
            context = copy_context()
            with ThreadPoolExecutor(1, thread_name_prefix="read") as reading:
                ahead = reading.submit(context.run, self._worker.read, shards[0])
                for shard, following in zip(shards, [*shards[1:], None], strict=True):
                    ahead.result()
                    if following is not None:
                        ahead = reading.submit(context.run, self._worker.read, following)
                    self._worker.score_shard(shard, meter)
