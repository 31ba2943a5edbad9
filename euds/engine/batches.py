"""Form batches by a token budget, and go on with half of it when memory runs out."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

Result = TypeVar("Result")


class TokenBudget:
    """Tokens that one batch may hold, padding included; it only ever shrinks."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def halve(self) -> None:
        """Allow half as many tokens from now on."""
        self.tokens = max(1, self.tokens // 2)


def plan(lengths: Sequence[int], positions: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield batches of `positions`, longest first, each within `budget` tokens once padded.

    A sequence longer than the budget is a batch of its own. Equal lengths keep their order, so the batches of a window
    depend on nothing but the window and the budget.
    """
    keys = np.array([lengths[at] for at in positions])
    order = np.argsort(-keys, kind="stable")
    batch: list[int] = []
    for at in order:
        position = positions[int(at)]
        longest = lengths[batch[0]] if batch else lengths[position]
        if batch and longest * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def run_batches(
    lengths: Sequence[int],
    budget: TokenBudget,
    step: Callable[[list[int]], Result],
    *,
    out_of_memory: Callable[[BaseException], bool],
) -> Iterator[tuple[list[int], Result | None]]:
    """Run `step` over batches of positions 0..len(lengths)-1.

    When `step` runs out of memory, the budget is halved for this and all later batches and the batch is tried again in
    smaller ones; a single sequence that does not fit is given up.

    Args:
        lengths: tokens of each sequence.
        budget: shared by all windows of a run; shrinks here.
        step: computes one batch.
        out_of_memory: tells a failed allocation from other errors, which are raised on.

    Yields:
        The positions of a batch with its result, or one position with None where it was given up.
    """
    todo = list(plan(lengths, range(len(lengths)), budget.tokens))
    todo.reverse()
    while todo:
        batch = todo.pop()
        if len(batch) > 1 and lengths[batch[0]] * len(batch) > budget.tokens:
            todo.extend(reversed(list(plan(lengths, batch, budget.tokens))))
            continue
        try:
            result = step(batch)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if len(batch) == 1:
                yield batch, None
            else:
                budget.tokens = min(budget.tokens, lengths[batch[0]] * len(batch))
                budget.halve()
                todo.append(batch)
            continue
        yield batch, result
