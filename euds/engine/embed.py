"""Embed token sequences batch by batch."""

from collections.abc import Iterator, Sequence

import numpy as np

from euds.engine.batches import TokenBudget, run_batches
from euds.measures.device import is_out_of_memory
from euds.measures.semantic import Embedder
from euds.types import Float32Array

OUT_OF_MEMORY = "out of memory on this row alone"
EMBEDDING_NOT_FINITE = "the embedding is NaN or zero"


def embed_into(
    vectors: Float32Array,
    ids: Sequence[Sequence[int]],
    lengths: Sequence[int],
    embedder: Embedder,
    budget: TokenBudget,
) -> Iterator[tuple[list[int], dict[int, str]]]:
    """Embed sequences, and yield the positions of each batch that is done, and why some of these have no embedding.

    Args:
        vectors: (n, H) float32, written into; a sequence that runs out of memory leaves its row as it is.
        ids: n sequences of tokens without the special ones, none empty where the model has no special tokens.
        lengths: (n,) tokens of each, by which batches are formed.
        embedder: the model.
        budget: tokens of a padded batch; shrinks where memory runs out.
    """
    batches = run_batches(
        lengths,
        budget,
        lambda batch: embedder.embed([ids[at] for at in batch]),
        out_of_memory=is_out_of_memory,
    )
    for batch, found in batches:
        if found is None:
            yield batch, {batch[0]: OUT_OF_MEMORY}
            continue
        vectors[batch] = found
        bad = np.flatnonzero(~(np.isfinite(found).all(axis=1) & found.any(axis=1)))
        yield batch, {batch[at]: EMBEDDING_NOT_FINITE for at in bad.tolist()}
