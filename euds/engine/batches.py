"""Run batches of a token budget, and go on with half of it when memory runs out."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from euds.measures.batches import batch_tokens, plan_batches
from euds.measures.device import free_cached_memory

Result = TypeVar("Result")

OUT_OF_MEMORY = "out of memory on this row alone"
"""Why a row is given up by `run_batches`."""


class TokenBudget:
    """Tokens that one batch may hold, padding included unless the model needs none; it only ever shrinks."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def halve(self) -> None:
        """Allow half as many tokens from now on."""
        self.tokens = max(1, self.tokens // 2)


def tokens_read(lengths: Sequence[int], budget: int, *, padded: bool) -> int:
    """Return the tokens, padding included, of all batches that sequences of these lengths make."""
    batches = plan_batches(lengths, range(len(lengths)), budget, padded=padded)
    return sum(batch_tokens(lengths, batch, padded=padded) for batch in batches)


def run_batches(
    lengths: Sequence[int],
    budget: TokenBudget,
    step: Callable[[list[int]], Result],
    *,
    padded: bool = True,
    out_of_memory: Callable[[BaseException], bool],
) -> Iterator[tuple[list[int], Result | None]]:
    """Run `step` over batches of positions 0..len(lengths)-1.

    When `step` runs out of memory, the budget is halved for this and all later batches and the batch is tried again in
    smaller ones; a single sequence that does not fit is given up.

    Args:
        lengths: tokens of each sequence.
        budget: shared by all windows of a run; shrinks here.
        step: computes one batch.
        padded: whether `step` pads the batch to its longest sequence; False: it lays them end to end.
        out_of_memory: tells a failed allocation from other errors, which are raised on.

    Yields:
        The positions of a batch with its result, or one position with None where it was given up.
    """
    todo = list(plan_batches(lengths, range(len(lengths)), budget.tokens, padded=padded))
    todo.reverse()
    while todo:
        batch = todo.pop()
        if len(batch) > 1 and batch_tokens(lengths, batch, padded=padded) > budget.tokens:
            todo.extend(reversed(list(plan_batches(lengths, batch, budget.tokens, padded=padded))))
            continue
        try:
            result = step(batch)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
        else:
            yield batch, result
            continue
        # Not before: the error held on to what the batch had in memory.
        free_cached_memory()
        if len(batch) == 1:
            yield batch, None
        else:
            budget.tokens = min(budget.tokens, batch_tokens(lengths, batch, padded=padded))
            budget.halve()
            todo.append(batch)
