"""Form batches by a budget of tokens."""

from collections.abc import Iterator, Sequence

import numpy as np


def batch_tokens(lengths: Sequence[int], batch: Sequence[int], *, padded: bool) -> int:
    """Return the tokens of a batch: once padded to its first, longest sequence, or laid end to end."""
    return lengths[batch[0]] * len(batch) if padded else sum(lengths[at] for at in batch)


def plan_batches(
    lengths: Sequence[int], positions: Sequence[int], budget: int, *, padded: bool = True
) -> Iterator[list[int]]:
    """Yield batches of `positions`, longest first, each within `budget` tokens, once padded or laid end to end.

    A sequence longer than the budget is a batch of its own. Equal lengths keep their order, so the batches of a window
    depend on nothing but the window and the budget.
    """
    keys = np.array([lengths[at] for at in positions])
    order = np.argsort(-keys, kind="stable")
    batch: list[int] = []
    tokens = 0
    for at in order:
        position = positions[int(at)]
        # Padded, every sequence is as long as the batch's first.
        more = lengths[batch[0]] if batch and padded else lengths[position]
        if batch and tokens + more > budget:
            yield batch
            batch, tokens, more = [], 0, lengths[position]
        batch.append(position)
        tokens += more
    if batch:
        yield batch
