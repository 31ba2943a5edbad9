"""`euds.score`: score a corpus into a run directory; the same call again resumes."""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from euds.corpus import check_unchanged, verify_parts
from euds.corpus.location import local_output
from euds.corpus.run_files import QUARANTINE_FILE
from euds.engine.cache_settings import TOKEN_COLUMNS, CacheSettings
from euds.engine.config import MEASURES, score_config, stages_of
from euds.engine.execution import Execution
from euds.engine.forget import check_forgettable, check_unneeded, forget
from euds.engine.generations_config import SampleSettings
from euds.engine.generations_from import check_generations, not_taken_over
from euds.engine.label_words_config import LabelWordSettings
from euds.engine.loaded import check_models, tell_of_loading
from euds.engine.manifest import (
    follow_places,
    is_finished,
    result_of,
    warn_of_other_versions,
    write_finished,
    write_started,
)
from euds.engine.prepare import Plan, prepare
from euds.engine.prompts import check_prompts
from euds.engine.split import Split
from euds.engine.work import RESULT_FOLDERS, Work
from euds.errors import InputError, InvalidArgument
from euds.files import check_place, check_writable, needs_storage
from euds.ops.cluster import DEFAULT_NEIGHBORS, DEFAULT_TEMPERATURE
from euds.progress import say
from euds.types import ScoreResult


def score(
    inputs: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    text_field: str | Sequence[str] = "text",
    id_field: str | None = None,
    label_field: str | None = None,
    source_field: str | None = None,
    measures: str | Sequence[str] = MEASURES,
    semantic: str | Sequence[str] = "clusters",
    samples: SampleSettings | None = None,
    label_words: LabelWordSettings | None = None,
    lm: str | Path | None = None,
    embedder: str | Path | None = None,
    tokenizer: str | Path | None = None,
    max_tokens: int | None = None,
    token_budget: int | None = None,
    shard_rows: int | None = None,
    n_clusters: int | None = None,
    n_neighbors: int = DEFAULT_NEIGHBORS,
    similarity_temperature: float = DEFAULT_TEMPERATURE,
    device: str = "auto",
    dtype: str = "auto",
    seed: int = 0,
    workers: int | None = None,
    ray: bool = False,
    ray_address: str | None = None,
    split: str | None = None,
    cache: str | Path | None = None,
    cache_limit_gb: float | None = None,
    force_new: bool = False,
    dry_run: bool = False,
) -> ScoreResult:
    """Give every row of a corpus its entropies, in a table beside the corpus.

    Labels are carried along, never read by a measure. A score that cannot be had is null: every score of a row without
    a usable text, else only those of the measure that failed, so that a rule which looks at the others may still select
    the row; quarantine.jsonl lists it with the reason. Calling again with the same arguments resumes an interrupted
    run, or returns at once what a finished one has found.

    Args:
        inputs: JSONL and CSV files, plain, gzip or zstd, Parquet or Arrow files, globs (whose `**` enters no folder
            that is a link, and which pass over what a run makes in `out`), URLs of any fsspec protocol, or files of
            fetched data sets.
        out: run directory.
        text_field: field that holds the text, or two fields for pairs, which are joined by a newline.
        id_field: field carried along as `id`, for those who join by an id of their own. Like label and source it
            becomes text, dates, decimals, UUIDs and bytes of UTF-8 too; nested values, other bytes and what
            Python cannot hold, such as a time of an unknown zone, become null, and the row is scored.
        label_field: field carried along as `label`; "label" by itself if there is one (JSONL: in the first 1,000 rows).
        source_field: field carried along as `source`; "source" by itself if there is one, as with "label".
        measures: any of "information", "generative", "semantic"; a single one may stand alone.
        semantic: how semantic entropy is estimated: one or some of "clusters" of embeddings, "samples" of generations,
            "label_words" of the task.
        samples: how generations are sampled, grouped and weighed; None: the defaults of `euds.SampleSettings`.
        label_words: which label words are scored after which prompt; needed for "label_words".
        lm: causal language model for generative entropy, generations and label words: asset name, folder or hub name.
        embedder: sentence encoder for semantic entropy: asset name, folder or hub name.
        tokenizer: model whose tokens information entropy counts; the LM's if None, and lower-cased words without one.
        max_tokens: tokens read of each text; None: 1,024 (or the LM's context) for models, no limit for words.
        token_budget: tokens of a batch, padding included where there is any; None: by device and model.
        shard_rows: rows of a part file, of which at most one a worker is lost in a crash; None: 1,024 to 16,384 by the
            number of rows, the device and whether a model runs, or fewer, so that a part has at most 64 MiB of the
            files on the average (of compressed ones and Parquet, a quarter of that). Batches never cross parts, so it
            is part of the configuration.
        n_clusters: centroids of the semantic clusters; None: by the number of rows.
        n_neighbors: nearest centroids that semantic entropy runs over.
        similarity_temperature: divisor of the cosine similarities, > 0.
        device: "auto", "cpu", "cuda" or "cuda:N".
        dtype: "auto" (float32 on the CPU, bfloat16 on CUDA), "float32", "bfloat16" or "float16".
        seed: of the clustering and of the generations.
        workers: processes, or the most actors under Ray; None: one for each CUDA device, and where there is none, or no
            model, one process, or under Ray an actor for each CPU. They share the cores: scores may differ in their
            last bits, as with any other number of threads. Those beyond the number of shards would have no work and are
            not started. A script that starts processes must call this under `if __name__ == "__main__":`.
        ray: score the shards by actors of Ray Data; `out` and the inputs must be visible to every node.
        ray_address: address of a Ray cluster; None: Ray's own rule.
        split: "I/N" (I in 0..N-1) scores only every N-th shard from the I-th on, "slurm" those of this task of a job
            array; the piece that ends last completes the run.
        cache: folder where texts that the models have seen in an earlier run are looked up, and the others kept; None:
            every text is computed.
        cache_limit_gb: size that the cache is kept within, in 1e9 bytes; None: 10. The least recently used entries go.
        force_new: delete what an earlier scoring left in `out`, its selection and report too, and start over; nothing
            is deleted before all that can be checked of the new run has been.
        dry_run: check everything, say what would be done on standard error, and do nothing.

    Returns:
        Counts, tokens and seconds; the scores are in `out`/scores/part-*.parquet. A dry run, and a piece of a split run
        that leaves shards to others, count rows only.

    Raises:
        InvalidArgument: an argument is impossible; nothing was read.
        InvalidType: an argument is of another type than a path, a name, names or settings.
        InputError: an input, field or model is missing or unreadable, the corpus is empty, `out` cannot be made or
            holds a run with another configuration (the message lists the differences), another process is scoring into
            it, or `force_new` would delete what is no run or what the new one reads.
        BackendUnavailable: `ray` is asked for, but not installed.
        RunStopped: a full disk, killed workers, or a disk, file server or store that fails have ended the run; the
            same call resumes.
    """
    run_dir = local_output(out, "the run directory")
    config = score_config(
        inputs,
        text_field=text_field,
        id_field=id_field,
        label_field=label_field,
        source_field=source_field,
        measures=measures,
        semantic=semantic,
        samples=samples,
        label_words=label_words,
        lm=lm,
        embedder=embedder,
        tokenizer=tokenizer,
        max_tokens=max_tokens,
        token_budget=token_budget,
        shard_rows=shard_rows,
        n_clusters=n_clusters,
        n_neighbors=n_neighbors,
        similarity_temperature=similarity_temperature,
        device=device,
        dtype=dtype,
        seed=seed,
    )
    execution = Execution(workers, ray, ray_address)
    piece = None if split is None else Split.of(split)
    if piece is not None and (force_new or ray):
        raise InvalidArgument("split: goes neither with ray, which divides the work itself, nor with force_new")
    kept = CacheSettings.of(cache, cache_limit_gb)
    cached = not TOKEN_COLUMNS.keys().isdisjoint(stages_of(config.measures, config.semantic))
    unused = config.unused + (["cache"] if kept is not None and not cached else [])
    if unused:
        say(f"warning: no measure of this run uses: {', '.join(unused)}")
    if force_new:
        check_forgettable(run_dir)

    def check(draft: Plan) -> None:
        if force_new or not is_finished(draft):
            check_runnable(draft, execution)

    plan = replace(prepare(config, run_dir, anew=force_new, check=check), cache=kept)
    if force_new or not is_finished(plan):
        shards = range(plan.n_shards) if force_new else not_taken_over(Work(run_dir), plan.n_shards)
        check_generations(run_dir, plan.config.samples, plan.fingerprint, shards)
    if force_new:
        check_unneeded(run_dir, (*plan.files, *plan.folders.values()))
    if dry_run:
        say(plan.describe(anew=force_new))
        return _nothing_scored(plan)
    if force_new:
        # Last of all: whatever is wrong with the new run must not cost the old one.
        if kept is not None:
            check_writable(kept.folder)
        forget(run_dir)
    return execute(plan, execution, piece)


def check_runnable(draft: Plan, execution: Execution) -> None:
    """Refuse what a run would be refused for once it has begun, as far as that shows without reading its corpus.

    Raises:
        InvalidArgument, InputError, BackendUnavailable: as `check_place`, `Execution.check`, `check_prompts` and
            `check_models`, or something stands where the run keeps its files.
    """
    check_place(draft.run_dir)
    check_names(draft)
    tell_of_loading(draft)
    execution.check(draft)
    check_prompts(draft)
    check_models(draft)


def check_names(draft: Plan) -> None:
    """Refuse a file where the run makes a folder, and a folder where it writes a file.

    Raises:
        InputError: there is one.
    """
    made = RESULT_FOLDERS if draft.config.samples is not None else ("scores",)
    for name in ("work", *made, QUARANTINE_FILE):
        path = draft.run_dir / name
        if os.path.lexists(path) and path.is_dir() == (name == QUARANTINE_FILE):
            what = "a folder" if path.is_dir() else "a file or a broken link"
            raise InputError(f"{path}: is {what}, where the run keeps its own; choose another --out")


def execute(plan: Plan, execution: Execution, split: Split | None = None) -> ScoreResult:
    """Run what is left of a plan."""
    work = Work(plan.run_dir)
    with needs_storage(plan.run_dir):
        result = None if is_finished(plan) else _run(plan, work, execution, split)
        if result is None:
            verify_parts(plan.run_dir)
            result = replace(result_of(plan.run_dir, follow_places(plan)), already_finished=True)
        if is_finished(plan):
            # Also what looking has made anew, or a run that was killed between its manifest and here.
            work.remove_left()
    return result


def _run(plan: Plan, work: Work, execution: Execution, split: Split | None) -> ScoreResult | None:
    """Run what is left under the locks; None if another process has finished the run meanwhile."""
    with ExitStack() as held:
        held.enter_context(work.locked(split))
        with work.looking():
            # Others may have begun, or even ended, since the plan was made.
            write_started(plan)
        if is_finished(plan):
            return None
        warn_of_other_versions(plan)
        # Running loads torch and the models; a finished run never gets here.
        from euds.engine.run import run_plan

        facts = run_plan(plan, work, execution, split, held)
        if facts is None:
            say("this piece is done; the piece that ends last completes the run")
            return _nothing_scored(plan)
        # All parts are there: an actor or a piece may have been killed while it wrote, or is late with one of them.
        work.sweep()
        check_unchanged(plan.inputs)
        manifest = write_finished(plan, work, facts)
        _warn_of_few_rows(plan, manifest)
    if plan.cache is not None:
        from euds.engine.cache_upkeep import keep_within

        keep_within(plan.cache.folder, plan.cache.limit_bytes)
    return result_of(plan.run_dir, manifest)


def _warn_of_few_rows(plan: Plan, manifest: Mapping[str, Any]) -> None:
    """Warn of a run without a score, and of one with fewer texts than clusters."""
    if not manifest["counts"]["scored"]:
        say("warning: no row could be scored; quarantine.jsonl has the reasons")
    wanted, clusters = plan.config.n_clusters, manifest["pool"].get("clusters")
    if wanted is not None and clusters is not None and clusters["n_clusters"] < wanted:
        say(f"warning: n_clusters: {wanted:,} asked for, {clusters['n_clusters']:,} taken, as many as embeddings")


def _nothing_scored(plan: Plan) -> ScoreResult:
    return ScoreResult(plan.run_dir, plan.n_rows, 0, 0, 0, 0, {}, 0.0)
