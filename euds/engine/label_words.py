"""The stage of semantic entropy over label words: score them after the prompts of a shard."""

import numpy as np
import pyarrow as pa

from euds.engine.batches import OUT_OF_MEMORY, TokenBudget, run_batches
from euds.engine.columns import nullable, ragged, usable
from euds.engine.meter import Advance
from euds.engine.models import LOGITS_NOT_FINITE
from euds.engine.shard_cost import with_tokens_read
from euds.measures.device import is_out_of_memory
from euds.measures.label_words import LabelWordScorer, LabelWordScores

COLUMN = "semantic_label_words_nats"


def label_words_shard(tokens: pa.Table, scorer: LabelWordScorer, budget: TokenBudget, advance: Advance) -> pa.Table:
    """Score the label words after each prompt of one shard.

    A batch counts the tokens that the model remembers at its end: of words with several tokens, one prompt each.

    Returns:
        One line a row: `semantic_label_words_nats`, null where there is no score, and `reason` for a usable row that
        got none; in the schema's metadata the tokens read, `prompt_tokens` and `word_tokens`.
    """
    n = tokens.num_rows
    ids, offsets = ragged(tokens, "label_prompt_tokens")
    able = usable(tokens)
    reasons: list[str | None] = [None] * n
    entropy = np.full(n, np.nan, np.float32)
    prompts = [int(offsets[at + 1] - offsets[at]) for at in able]

    def step(batch: list[int]) -> LabelWordScores:
        return scorer.score([ids[offsets[able[at]] : offsets[able[at] + 1]].tolist() for at in batch])

    advance(n - len(able), 0, 0)
    lengths = [scorer.n_remembered(length) for length in prompts]
    for batch, scores in run_batches(lengths, budget, step, out_of_memory=is_out_of_memory):
        rows = [able[at] for at in batch]
        if scores is None:
            reasons[rows[0]] = OUT_OF_MEMORY
        else:
            entropy[rows] = scores.entropy
            for at, finite in zip(rows, np.isfinite(scores.entropy), strict=True):
                reasons[at] = None if finite else LOGITS_NOT_FINITE
        advance(len(rows), sum(prompts[at] for at in batch), sum(reasons[at] is not None for at in rows))
    cost = {"prompt_tokens": sum(prompts), "word_tokens": scorer.n_read * len(able)}
    table = pa.table({COLUMN: nullable(entropy, np.isfinite(entropy)), "reason": pa.array(reasons, pa.string())})
    return with_tokens_read(table, cost)
