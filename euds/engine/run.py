"""Run a plan: measure every shard, fit the pool, finish every shard; skip whatever an interrupted run has finished."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from euds.engine.execution import Execution, Runner, with_work
from euds.engine.facts import device_facts, model_facts, pool_facts
from euds.engine.generations_from import check_generations, keep_source_cost
from euds.engine.manifest import is_finished
from euds.engine.pool import fit_pool, is_fitted, pool_seconds
from euds.engine.prepare import Plan
from euds.engine.shards import Shard, cut_shards, read_shards, tasks, write_shards
from euds.engine.split import Split
from euds.engine.work import SHARDS_FILE, Work
from euds.engine.worker import Worker
from euds.errors import InputError
from euds.measures.device import warn_of_emulated_bfloat16
from euds.progress import slow_bar

Facts = dict[str, Any]


def run_plan(plan: Plan, work: Work, execution: Execution, split: Split | None, held: ExitStack) -> Facts | None:
    """Bring every part file into being.

    Args:
        plan: the run.
        work: its intermediate files.
        execution: how shards are worked on.
        split: the piece to do, or None for all.
        held: takes the lock of the piece that finishes the run, to be kept until the manifest is written.

    Returns:
        Facts for the manifest: "models", "pool", "device" and the "seconds" of work that belongs to no single shard;
        None if other pieces of a split run still have shards to do.
    """
    shards = _shards(plan, work)
    worker = Worker(plan, tells_loading=split is None)
    if plan.runs_models:
        warn_of_emulated_bfloat16("dtype", worker.precision.dtype, worker.precision.device)
    all_tasks = list(tasks(shards))
    if split is not None:
        with_work("pieces", split.count, plan, len(all_tasks))
    runner = execution.runner(plan, worker, len(all_tasks))
    with runner:
        # In this order: another piece that finishes a shard records it before it drops what was measured.
        missing = [shard for shard in shards if not worker.measured(shard.index)]
        todo = _unfinished(plan, work, shards)
        unfinished = {shard.index for shard in todo}
        unmeasured = [shard for shard in missing if shard.index in unfinished]
        own = list(tasks(unmeasured))
        if split is not None:
            # Pieces are of all shards: what the others have done must not move the bounds.
            mine = {shard.index for task in all_tasks[split.index :: split.count] for shard in task}
            own = list(tasks([shard for shard in unmeasured if shard.index in mine]))
        _look_at_source(plan, worker.work, own)
        if own:
            work.begin("score", split)
        runner.run("score", own, done=plan.n_rows - sum(shard.n_rows for shard in unmeasured))
        # What a piece has loaded until here is in the seconds of its stages.
        in_stages = 0.0 if split is None else worker.models.seconds
        if split is None:
            _finish(plan, work, worker, runner, todo)
        else:
            with work.looking():
                # Parts are hashed, while the others wait, only where none is missing.
                there = (work.records.path(shard.index).exists() or worker.measured(shard.index) for shard in shards)
                if is_finished(plan) or not all(there):
                    return None
                todo = _unfinished(plan, work, shards)
                if not all(worker.measured(shard.index) for shard in todo):
                    return None
                try:
                    held.enter_context(work.finishing())
                except InputError:
                    return None
            _finish(plan, work, worker, runner, todo)
    models = model_facts(plan, worker.models.encoders, worker.precision)
    return {
        "seconds": {"loading": worker.models.seconds - in_stages, **pool_seconds(work)},
        "models": models,
        "device": device_facts(worker.precision, runner.torch_threads),
        "pool": pool_facts(plan, worker.pool),
    }


def _look_at_source(plan: Plan, work: Work, own: Sequence[Sequence[Shard]]) -> None:
    """Where generations are still to be taken over, check that they are those to take, and keep what they have cost.

    Raises:
        InputError: the other run is gone, or another one by now.
    """
    settings = plan.config.samples
    if settings is None or settings.generations_from is None:
        return
    # Also those that were taken over, and then damaged.
    left = [shard.index for task in own for shard in task if not work.done("generation", shard.index)]
    check_generations(plan.run_dir, settings, plan.fingerprint, left)
    if left:
        keep_source_cost(work, settings)


def _unfinished(plan: Plan, work: Work, shards: Sequence[Shard]) -> list[Shard]:
    """Return the shards without a part that is the one that was recorded; all of them while the pool is not fitted.

    Where what was fitted is damaged, it is fitted anew, and for that all shards are measured again.
    """
    if plan.needs_pool and not is_fitted(work):
        return list(shards)
    return [shard for shard in shards if not work.records.verified(shard.index, plan.part_path(shard.index))]


def _finish(plan: Plan, work: Work, worker: Worker, runner: Runner, todo: Sequence[Shard]) -> None:
    if plan.needs_pool and not is_fitted(work):
        fit_pool(plan, work, worker.models.encoders.tokens)
    # Without a need of the pool, the shards measured just now are finished already.
    left = [shard for shard in todo if worker.measured(shard.index)]
    if left:
        work.begin("finish")
    runner.run("finish", list(tasks(left)), done=plan.n_rows - sum(shard.n_rows for shard in left))


def _shards(plan: Plan, work: Work) -> tuple[Shard, ...]:
    """Return the shards, as they were cut when the run began; cut anew where their list is not there or damaged."""
    path = work.folder / SHARDS_FILE
    if _other_than_counted(plan, read_shards(path)):
        assert plan.config.shard_rows is not None
        shards = []
        with slow_bar("cut", plan.n_rows, "rows") as advance:
            for shard in cut_shards(plan.files, plan.config.shard_rows):
                shards.append(shard)
                advance(shard.n_rows)
        # A file that somebody still writes to would lose rows.
        for file in _other_than_counted(plan, shards):
            raise InputError(
                f"{file}: has changed while the run was prepared; when it is complete, start over with --force-new"
            )
        write_shards(path, shards)
    return read_shards(path)


def _other_than_counted(plan: Plan, shards: Sequence[Shard]) -> list[str]:
    """Return the files of which shards have other rows than were counted, in order."""
    pieces = [piece for shard in shards for piece in shard.slices]
    n_rows: Counter[str] = Counter()
    for piece in pieces:
        n_rows[piece.file] += piece.n_rows
    cut = {(piece.file, piece.file_bytes, n_rows[piece.file]) for piece in pieces}
    counted = {(entry["path"], entry["bytes"], entry["rows"]) for entry in plan.inputs if entry["rows"]}
    return sorted({file for file, *_ in cut ^ counted})
