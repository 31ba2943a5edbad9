"""Score shards: the one function that a process, a process per GPU, an array task or a Ray actor runs."""

import time
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

from euds.corpus import SliceReader
from euds.engine.batches import TokenBudget, tokens_read
from euds.engine.columns import n_with_reason
from euds.engine.config import stages_of
from euds.engine.finish import finish_shard
from euds.engine.loaded import Models
from euds.engine.meter import Advance
from euds.engine.pool import WORD_IDS, Pool
from euds.engine.prepare import Plan
from euds.engine.read import read_shard
from euds.engine.shard_cost import GENERATION_STAGES
from euds.engine.shards import Shard
from euds.engine.work import Work
from euds.measures.device import Precision, precision

if TYPE_CHECKING:
    from euds.engine.cache import ScoreCache

TOKEN_BUDGET = {"cpu": 512, "cuda": 65536}
"""Tokens of a padded batch by kind of device; on a CPU larger batches only add padding."""

LM_BUDGET = {"cpu": 1024, "cuda": 65536}
"""Tokens of a batch of the causal LM: without padding, more of them spread the cost of reading the weights."""

GENERATION_BUDGET = {"cpu": 8192, "cuda": 1 << 18}
"""Tokens that the LM remembers in a batch of generations or label words, by kind of device."""

TOKENS = "tokens"
LABEL_WORDS = "label_words"


class Worker:
    """Everything that one process needs to score shards of a run; models are loaded when they are first needed.

    Args:
        plan: the run.
        device: overrides the plan's device, for a process per GPU; None: the plan's.
        tells_loading: whether the run's manifest has the seconds of loading from this worker; those of others are part
            of the stage that waited for it, or they would be in no count.
    """

    def __init__(self, plan: Plan, device: str | None = None, *, tells_loading: bool = True) -> None:
        self.plan = plan
        self.work = Work(plan.run_dir)
        self.precision: Precision = precision(device or plan.device, plan.config.dtype)
        self.models = Models(plan, self.precision)
        self._tells_loading = tells_loading
        self._reader = SliceReader(plan.columns, plan.carried)

    def score_shard(self, shard: Shard, advance: Advance) -> int:
        """Bring a shard as far as it can come: to its part file, or to where the whole pool must be known first.

        What an interrupted process has finished of it is kept. Order and repetition do not matter: with as many threads
        on the same kind of processor, a shard's part is the same bytes whoever writes it.

        Returns:
            Rows of the shard.
        """
        self.measure(shard, advance)
        if not self.plan.needs_pool:
            self.finish(shard)
        return shard.n_rows

    def read(self, shard: Shard) -> None:
        """Read and tokenise a shard, if that is not done."""
        if self.work.done(TOKENS, shard.index):
            return
        start = self._seconds_worked()
        rows = self._reader.read(shard.slices, first_row_id=shard.first_row_id)
        table = read_shard(self.plan, rows, self.models.encoders)
        self.work.write(TOKENS, shard.index, table, self._seconds_worked() - start)

    def close(self) -> None:
        """Close the corpus file that is open, if any."""
        self._reader.close()

    def measure(self, shard: Shard, advance: Advance) -> None:
        """Run the models over a shard, as far as that is not done."""
        self.read(shard)
        for stage in self.stages[1:]:
            if not self.work.done(stage, shard.index):
                last = stage == self.stages[-1]
                start = self._seconds_worked()
                if stage == "generation":
                    # Those there may be are of other generations, should these come out otherwise.
                    self.work.drop("meanings", shard.index)
                table = self._compute(stage, shard.index, advance if last else _ignore)
                self.work.write(stage, shard.index, table, self._seconds_worked() - start)
        if self.stages == [TOKENS]:
            advance(shard.n_rows, 0, 0)

    def finish(self, shard: Shard) -> int:
        """Write a measured shard's part and its record, and drop its intermediate files.

        A task that is repeated, since the process that did it died before it could say so, or that another piece of a
        split run does at the same time, finds nothing left to do.
        """
        if not self.measured(shard.index) and self.work.records.read(shard.index) is not None:
            return shard.n_rows
        try:
            self.work.records.write(finish_shard(self.plan, self.work, shard.index, self.pool))
        except FileNotFoundError:
            # Who finishes a shard drops its files, and may sweep away what others have half-written.
            if not self.work.records.verified(shard.index, self.plan.part_path(shard.index)):
                raise
            return shard.n_rows
        for stage in (*self.stages, WORD_IDS):
            self.work.drop(stage, shard.index)
        return shard.n_rows

    @cached_property
    def stages(self) -> list[str]:
        """The stages of `measure`, in order."""
        return stages_of(self.plan.config.measures, self.plan.config.semantic)

    def tokens_read(self, stage: str, lengths: Sequence[int]) -> int:
        """Return the tokens, padding included, that a model stage reads of a shard.

        Args:
            stage: of a model that reads texts or the prompts of label words.
            lengths: tokens of each of them.
        """
        padded = stage != "generative" or not self.models.scorer.packs
        if stage == LABEL_WORDS:
            lengths = [self.models.label_words.n_remembered(length) for length in lengths]
        return tokens_read(lengths, self._budgets[stage].tokens, padded=padded)

    def measured(self, shard: int) -> bool:
        """Tell whether all stages of `measure` are done for a shard."""
        return all(self.work.done(stage, shard) for stage in self.stages)

    @cached_property
    def pool(self) -> Pool:
        """What the scores take from the whole pool, as `fit_pool` has left it."""
        return Pool.load(self.work, self.precision.device)

    @cached_property
    def _budgets(self) -> dict[str, TokenBudget]:
        kind = self.precision.kind
        budgets = dict.fromkeys(self.stages[1:], TOKEN_BUDGET[kind])
        budgets |= {"generative": LM_BUDGET[kind]} | dict.fromkeys(("generation", LABEL_WORDS), GENERATION_BUDGET[kind])
        return {stage: TokenBudget(self.plan.config.token_budget or tokens) for stage, tokens in budgets.items()}

    @cached_property
    def _cache(self) -> "ScoreCache | None":
        plan = self.plan
        if plan.cache is None:
            return None
        from euds.engine.cache import ScoreCache

        return ScoreCache(plan.cache, plan.fingerprint["models"], self.precision, self.models.encoders)

    def _seconds_worked(self) -> float:
        # Models are loaded when a stage first needs them, while another thread may read on.
        return time.perf_counter() - (self.models.seconds_here if self._tells_loading else 0.0)

    def _compute(self, stage: str, shard: int, advance: Advance) -> pa.Table:
        tokens, budget = self.work.read(TOKENS, shard), self._budgets[stage]
        # The stages, and the cache before them, tell only of what they give up themselves.
        advance(0, 0, n_with_reason(tokens))
        if stage in GENERATION_STAGES:
            from euds.engine.generation_stages import generation_stage, meanings_stage

            if stage == "generation":
                return generation_stage(self.plan, shard, tokens, self.models.generator, budget, advance)
            return meanings_stage(self.plan, shard, self.models.judges, budget, advance)
        from euds.engine.label_words import label_words_shard
        from euds.engine.models import embedding_shard, generative_shard

        def run(rows: pa.Table) -> pa.Table:
            if stage == LABEL_WORDS:
                return label_words_shard(rows, self.models.label_words, budget, advance)
            if stage == "embeddings":
                return embedding_shard(rows, self.models.embedder, budget, advance)
            return generative_shard(rows, self.models.scorer, budget, advance)

        return run(tokens) if self._cache is None else self._cache.through(stage, tokens, run, advance)


def _ignore(rows: int, tokens: int, quarantined: int) -> None:
    """Count nothing: rows are counted when their last stage is done."""


def run_task(worker: Worker, step: str, task: Sequence[Shard]) -> tuple[int, int, int]:
    """Run "score" or "finish" over the shards of a task; returns rows, non-padding tokens and quarantined rows."""
    rows = tokens = quarantined = 0

    def count(_: int, more_tokens: int, more_quarantined: int) -> None:
        nonlocal tokens, quarantined
        tokens += more_tokens
        quarantined += more_quarantined

    for shard in task:
        rows += worker.finish(shard) if step == "finish" else worker.score_shard(shard, count)
    return rows, tokens, quarantined
