"""Run the models over a shard's tokens, batch by batch."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa

from euds.engine.batches import OUT_OF_MEMORY, TokenBudget, run_batches
from euds.engine.columns import nullable, ragged, usable
from euds.engine.embed import embed_into
from euds.engine.meter import Advance
from euds.engine.shard_cost import with_tokens_read
from euds.measures.device import is_out_of_memory
from euds.measures.generative import GenerativeScorer, GenerativeScores
from euds.measures.semantic import Embedder

TOO_SHORT = "one token and no BOS: nothing to predict"
LOGITS_NOT_FINITE = "the model's logits are NaN or infinite"


def generative_shard(tokens: pa.Table, scorer: GenerativeScorer, budget: TokenBudget, advance: Advance) -> pa.Table:
    """Score one shard.

    Returns:
        One line a row: the four generative columns, null where there is no score, `n_scored_tokens`, and `reason` for
        a usable row that got none.
    """
    n = tokens.num_rows
    ids, offsets = ragged(tokens, "tokens")
    able = usable(tokens)
    long_enough = [at for at in able if offsets[at + 1] - offsets[at] + scorer.n_context >= 2]
    reasons: list[str | None] = [None] * n
    for at in set(able) - set(long_enough):
        reasons[at] = TOO_SHORT
    columns = {name: np.full(n, np.nan, np.float32) for name in ("entropy", "entropy_max", "nll", "varentropy")}
    positions = np.zeros(n, np.int32)
    lengths = [int(offsets[at + 1] - offsets[at]) for at in long_enough]

    def step(batch: list[int]) -> Callable[[], GenerativeScores]:
        rows = [long_enough[at] for at in batch]
        return scorer.begin([ids[offsets[at] : offsets[at + 1]] for at in rows])

    advance(n - len(long_enough), 0, len(able) - len(long_enough))
    batches = run_batches(lengths, budget, step, padded=not scorer.packs, out_of_memory=is_out_of_memory)
    for batch, scores in _one_behind(batches):
        rows = [long_enough[at] for at in batch]
        if scores is None:
            reasons[rows[0]] = OUT_OF_MEMORY
        else:
            for name, column in columns.items():
                column[rows] = getattr(scores, name)
            positions[rows] = scores.n_positions
            for at in rows:
                if not all(np.isfinite(column[at]) for column in columns.values()):
                    reasons[at] = LOGITS_NOT_FINITE
        failed = sum(reasons[at] is not None for at in rows)
        advance(len(rows), sum(lengths[at] for at in batch), failed)
    scored = (positions > 0) & np.array([reason is None for reason in reasons])
    return pa.table(
        {
            "generative_entropy_nats": nullable(columns["entropy"], scored),
            "generative_entropy_max_nats": nullable(columns["entropy_max"], scored),
            "nll_nats": nullable(columns["nll"], scored),
            "varentropy_nats2": nullable(columns["varentropy"], scored),
            "n_scored_tokens": pa.array(positions, mask=~scored),
            "reason": pa.array(reasons, pa.string()),
        }
    )


def _one_behind(
    batches: Iterable[tuple[list[int], Callable[[], GenerativeScores] | None]],
) -> Iterator[tuple[list[int], GenerativeScores | None]]:
    """Wait for a batch only when the device has been given the next one, so that it never waits for Python."""
    before: tuple[list[int], Callable[[], GenerativeScores] | None] | None = None
    for begun in batches:
        if before is not None:
            yield _waited_for(before)
        before = begun
    if before is not None:
        yield _waited_for(before)


def _waited_for(
    begun: tuple[list[int], Callable[[], GenerativeScores] | None],
) -> tuple[list[int], GenerativeScores | None]:
    batch, wait = begun
    return batch, None if wait is None else wait()


def embedding_shard(tokens: pa.Table, embedder: Embedder, budget: TokenBudget, advance: Advance) -> pa.Table:
    """Embed one shard.

    Returns:
        One line a row: `embedding`, a fixed-size float32 list that is NaN where there is none, and `reason` for a
        usable row that got none; in the schema's metadata the tokens read, `embedded_tokens`.
    """
    n = tokens.num_rows
    ids, offsets = ragged(tokens, "embedder_tokens")
    able = usable(tokens)
    reasons: list[str | None] = [None] * n
    embeddings = np.full((n, embedder.width), np.nan, np.float32)
    lengths = np.diff(offsets)[able].tolist()

    def ids_of(row: int) -> list[int]:
        found: list[int] = ids[offsets[row] : offsets[row + 1]].tolist()
        return found

    advance(n - len(able), 0, 0)
    for rows, failed in embed_into(embeddings, able, lengths, ids_of, embedder, budget):
        for at, reason in failed.items():
            reasons[at] = reason
        advance(len(rows), int((offsets[np.add(rows, 1)] - offsets[rows]).sum()), len(failed))
    column = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.reshape(-1)), embedder.width)
    table = pa.table({"embedding": column, "reason": pa.array(reasons, pa.string())})
    return with_tokens_read(table, {"embedded_tokens": sum(lengths)})
