"""Score a sample of a corpus' rows for its own sake: what did it take?"""

import re
import resource
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from euds.corpus import Slice, SliceReader, generations_path, meanings_path, read_rows
from euds.engine.finish import finish_shard
from euds.engine.meter import Meter
from euds.engine.pool import WORD_IDS, Pool, fit_pool, pool_seconds
from euds.engine.prepare import Plan
from euds.engine.read import read_shard
from euds.engine.records import Record
from euds.engine.shards import Shard
from euds.engine.work import Work
from euds.engine.worker import TOKENS, Worker
from euds.measures.device import Precision
from euds.measures.tokens import TextEncoder
from euds.ops.cluster import default_n_clusters, index_centroids
from euds.ops.embeddings import unit_rows
from euds.progress import bar

Seconds = dict[str, float]

WARM_UP_ROWS = 16
"""Rows scored once before the clock starts: models are loaded and kernels compiled meanwhile."""

PARSED_ROWS = 1024
"""Rows at the corpus' beginning whose parsing is timed: drawn ones, far apart, would be reached at another cost."""

CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
FORGET_PEAK = "5"
"""Written to `CLEAR_REFS`, it makes `VmHWM` of `STATUS` the memory of now (Linux from 4.0 on)."""

WARM_UP, SAMPLE = 0, 1
"""The two shards."""


@dataclass(frozen=True, eq=False)
class ScoredSample:
    """A sample after it was scored.

    Attributes:
        worker: that scored it, with its models.
        tokens: the sample as `read_shard` gave it.
        record: of its part.
        part: file of its scores.
        kept: all of its files that a run keeps: scores, and generations and meanings where they are sampled.
        seconds: of the sample by stage, without loading and warm-up.
        fixed_seconds: what of them would not grow with the rows, by stage: of "finish", in any part.
        work_bytes: of its intermediate files.
        peak_bytes: memory at its largest, on a GPU that of the GPU, else that of this process meanwhile.
    """

    worker: Worker
    tokens: pa.Table
    record: Record
    part: Path
    kept: tuple[Path, ...]
    seconds: Mapping[str, float]
    fixed_seconds: Mapping[str, float]
    work_bytes: int
    peak_bytes: int


def score_sample(draft: Plan, slices: Sequence[Slice], corpus_rows: int) -> ScoredSample:
    """Score rows into the run directory of `draft`, which is empty, all in one shard.

    Args:
        draft: settings, files and models of the run, as `draft_of` gives them.
        slices: one a row.
        corpus_rows: of the corpus that they are of.
    """
    _forget_peak()
    warm_up, sample = Shard(WARM_UP, 0, tuple(slices[:WARM_UP_ROWS])), Shard(SAMPLE, 0, tuple(slices))
    # As many rows a shard as the sample has make two shards of it and the shorter warm-up.
    config = replace(draft.config, shard_rows=sample.n_rows)
    plan = replace(draft, config=config, n_rows=warm_up.n_rows + sample.n_rows)
    worker = Worker(plan)
    encoders = worker.models.encoders
    with SliceReader(plan.columns, plan.carried) as reader:
        rows = list(reader.read(slices, first_row_id=0))
    with bar("sample", sample.n_rows) as progress:
        for shard in (warm_up, sample):
            start = time.perf_counter()
            tokens = read_shard(plan, rows[: shard.n_rows], encoders)
            worker.work.write(TOKENS, shard.index, tokens, time.perf_counter() - start)
            worker.measure(shard, Meter(progress) if shard is sample else _uncounted)
    fixed, counting = _count(plan, worker.work, encoders.tokens, warm_up.n_rows)
    if plan.needs_pool:
        fit_pool(plan, worker.work, encoders.tokens)
    left = [stage for stage in (*worker.stages, WORD_IDS) if worker.work.done(stage, SAMPLE)]
    work_bytes = sum(worker.work.path(stage, SAMPLE).stat().st_size for stage in left)
    pool = _with_clusters_of(worker, corpus_rows, config.seed)
    # The first time compiles kernels.
    _, short, record = (finish_shard(plan, worker.work, shard, pool) for shard in (WARM_UP, WARM_UP, SAMPLE))
    fixed["finish"] = _fixed_part(short, record)
    reading = record.seconds["read"] + _parse_seconds_per_row(plan) * sample.n_rows
    seconds = {**record.seconds, "read": reading, **counting}
    part = plan.part_path(SAMPLE)
    kept = [part]
    if config.samples is not None:
        kept += [generations_path(plan.run_dir, SAMPLE), meanings_path(plan.run_dir, SAMPLE)]
    peak = _peak_bytes(worker.precision)
    return ScoredSample(worker, tokens, record, part, tuple(kept), seconds, fixed, work_bytes, peak)


def _uncounted(rows: int, tokens: int, quarantined: int) -> None:
    """Leave the warm-up out of the bar, which is for the sample."""


def _with_clusters_of(worker: Worker, corpus_rows: int, seed: int) -> Pool:
    """Return a sample's pool with random centroids added: the search takes as long as it has centroids.

    Args:
        worker: of the sample.
        corpus_rows: of the corpus, whose pool would have more of them.
        seed: of the random ones.
    """
    pool = worker.pool
    if pool.centroids is None:
        return pool
    own = pool.centroids.centroids
    n_more = max(0, default_n_clusters(corpus_rows) - len(own))
    more = np.random.default_rng(seed).standard_normal((n_more, own.shape[1]), np.float32)
    centroids = index_centroids(np.concatenate([own, unit_rows(more)[0]]), worker.precision.device)
    return replace(pool, centroids=centroids)


def _fixed_part(short: Record, whole: Record) -> float:
    """Return the seconds that finishing takes of any part, however few its rows: of none, on the line through two."""
    (few, few_seconds), (many, many_seconds) = ((one.counts["rows"], one.seconds["finish"]) for one in (short, whole))
    if few == many:
        return 0.0
    a_row = max(0.0, many_seconds - few_seconds) / (many - few)
    return max(0.0, many_seconds - a_row * many)


def _parse_seconds_per_row(plan: Plan) -> float:
    """Return what reading a row of the corpus takes before its text is tokenised."""
    start = time.perf_counter()
    n_rows = sum(1 for _ in read_rows(plan.files, columns=plan.columns, stop=PARSED_ROWS))
    return (time.perf_counter() - start) / n_rows


def _count(plan: Plan, work: Work, encoder: TextEncoder | None, warm_up_rows: int) -> tuple[Seconds, Seconds]:
    """Return the seconds that counting takes of almost no rows, and of the sample; none without information entropy."""
    if "information" not in plan.config.measures:
        return {}, {}
    alone = replace(plan, config=replace(plan.config, measures=("information",), semantic=()))
    taken = []
    # The first time warms up.
    for n_rows in (plan.n_rows, warm_up_rows, plan.n_rows):
        fit_pool(replace(alone, n_rows=n_rows), work, encoder)
        taken.append(pool_seconds(work)["information"])
    _, fixed, whole = taken
    return {"information": fixed}, {"information": max(fixed, whole)}


def _forget_peak() -> None:
    """Have Linux count this process's peak of memory anew: it may have done much else before."""
    # Another system, or one that does not let it be written to, tells the peak since the process began.
    with suppress(OSError):
        CLEAR_REFS.write_text(FORGET_PEAK)


def _peak_bytes(precision: Precision) -> int:
    if precision.kind == "cuda":
        import torch

        return int(torch.cuda.max_memory_reserved(precision.torch_device))
    with suppress(OSError):
        told = re.search(r"^VmHWM:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
        if told is not None:
            return int(told[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
