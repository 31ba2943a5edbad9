"""`euds.estimate`: what scoring a corpus would take, told by scoring a sample of it."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

from euds.corpus import draw_sample
from euds.engine.config import MEASURES, score_config
from euds.engine.estimate_extrapolation import extrapolate
from euds.engine.estimate_result import Estimate
from euds.engine.estimate_sample import score_sample
from euds.engine.generations_config import SampleSettings
from euds.engine.label_words_config import LabelWordSettings
from euds.engine.loaded import tell_of_loading
from euds.engine.prepare import draft_of, shard_rows_of
from euds.engine.shards import largest_task
from euds.errors import InputError, InvalidArgument, real_number, whole_number
from euds.measures.device import precision
from euds.scratch import scratch_folder

SAMPLE_ROWS = {"cpu": 256, "cuda": 4096}
"""Rows scored by kind of device; fewer would not fill a GPU's batches."""

MODEL_FREE_ROWS = 4096
"""Rows scored without a model: of fewer, milliseconds are timed, and most of these do not grow with the rows."""


def estimate(
    inputs: str | Path | Sequence[str | Path],
    *,
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
    device: str = "auto",
    dtype: str = "auto",
    sample_rows: int | None = None,
    seed: int = 0,
    workers: int = 1,
    price_per_hour: float | None = None,
) -> Estimate:
    """Tell what `euds.score` of the same rows by the same models would take, by scoring a random sample of them.

    The corpus is passed over once, to count its rows and draw the sample; compressed files are read a second time.
    Everything is written into a temporary directory that is deleted.

    The time of a model that reads texts or prompts is extrapolated by the tokens it would read, with the padding that
    shards of such lengths hold; the fixed cost of finishing a part by the number of parts; everything else, generation
    included, by the number of rows. Clusters are searched for as many centroids as the run will have. Reading is timed
    over the first 1,024 rows; the tokens of the pool are counted by one process, whatever `workers`. A shard, and a
    compressed file, go to one worker: where there are fewer of them, workers are idle. Left out: hashing the corpus,
    and fitting the semantic clusters, which looks at no more than 65,536 rows or 64 a cluster. A sample may miss the
    longest texts, and with them the largest batch in memory.

    Args:
        inputs, text_field, id_field, label_field, source_field, measures, semantic, samples, label_words, lm, embedder,
            tokenizer, max_tokens, token_budget, shard_rows, device, dtype: as for `euds.score`, but generations cannot
            be taken over from another run.
        sample_rows: rows to score; None: 256, on a GPU or without a model 4,096.
        seed: of the sample and of the generations.
        workers: that the run would have, each like the device measured here.
        price_per_hour: of a worker, in any currency.

    Raises:
        InvalidArgument: an argument is impossible; nothing was read.
        InvalidType: an argument is of another type than a name, names or settings.
        InputError: an input, field or model is missing or unreadable, or the corpus is empty.
        RunStopped: there is no room for the temporary directory, or a disk or file server failed.
    """
    workers = whole_number("workers", workers, least=1)
    sample_rows = None if sample_rows is None else whole_number("sample_rows", sample_rows, least=2)
    price_per_hour = None if price_per_hour is None else _price(price_per_hour)
    if isinstance(samples, SampleSettings) and samples.generations_from is not None:
        raise InvalidArgument("generations_from: an estimate samples generations of its own rows; leave it out")
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
        device=device,
        dtype=dtype,
        seed=seed,
    )
    with scratch_folder() as folder:
        plan = draft_of(config, folder)
        tell_of_loading(plan)
        kind = precision(plan.device, dtype).kind
        if sample_rows is None:
            sample_rows = SAMPLE_ROWS[kind] if plan.runs_models else MODEL_FREE_ROWS
        start = time.perf_counter()
        file_rows, slices = draw_sample(plan.files, sample_rows, config.seed)
        pass_seconds = time.perf_counter() - start
        n_rows = sum(file_rows)
        if n_rows == 0:
            raise InputError(f"{', '.join(map(str, plan.files))}: the corpus has no rows")
        sizes = [file.stat().st_size for file in plan.files]
        shard_rows = shard_rows_of(plan.config, n_rows, plan.files, sizes, kind if plan.runs_models else None)
        return extrapolate(
            score_sample(plan, slices, n_rows),
            n_rows=n_rows,
            n_bytes=sum(sizes),
            # A run passes twice over its corpus before it scores: to count the rows, and to cut shards.
            planning_seconds=2 * pass_seconds,
            shard_rows=shard_rows,
            largest_task=largest_task(plan.files, file_rows, shard_rows),
            workers=workers,
            price_per_hour=price_per_hour,
        )


def _price(price_per_hour: float) -> float:
    price = real_number("price_per_hour", price_per_hour)
    # Written so that NaN is refused too.
    if not 0 <= price < math.inf:
        raise InvalidArgument(f"price_per_hour: must be at least 0 and finite, got {price}")
    return price
