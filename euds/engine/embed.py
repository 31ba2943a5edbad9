"""Embed token sequences batch by batch."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from euds.engine.batches import OUT_OF_MEMORY, TokenBudget, run_batches
from euds.measures.device import is_out_of_memory
from euds.measures.semantic import Embedder
from euds.types import Float32Array

EMBEDDING_NOT_FINITE = "the embedding is NaN or zero"


def embed_into(
    vectors: Float32Array,
    rows: Sequence[int],
    lengths: Sequence[int],
    ids_of: Callable[[int], Sequence[int]],
    embedder: Embedder,
    budget: TokenBudget,
) -> Iterator[tuple[list[int], dict[int, str]]]:
    """Embed some rows, and yield those of each batch that is done, and why some of these have no embedding.

    Args:
        vectors: (n, H) float32, written into; a row that runs out of memory stays as it is.
        rows: those to embed, in 0..n-1.
        lengths: tokens of each of `rows`, by which batches are formed.
        ids_of: the tokens of a row without the special ones, not empty where the model has no special tokens; asked
            for when the row's turn has come, as a shard's tokens in lists would take many times what they do in arrays.
        embedder: the model.
        budget: tokens of a padded batch; shrinks where memory runs out.
    """
    batches = run_batches(
        lengths,
        budget,
        lambda batch: embedder.embed([ids_of(rows[at]) for at in batch]),
        out_of_memory=is_out_of_memory,
    )
    for batch, found in batches:
        done = [rows[at] for at in batch]
        if found is None:
            yield done, {done[0]: OUT_OF_MEMORY}
            continue
        vectors[done] = found
        bad = np.flatnonzero(~(np.isfinite(found).all(axis=1) & found.any(axis=1)))
        yield done, {done[at]: EMBEDDING_NOT_FINITE for at in bad.tolist()}
