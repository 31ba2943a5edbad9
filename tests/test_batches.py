"""Token-budget batches: everything once, within the budget, and on with half of it when memory runs out."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from euds.engine.batches import TokenBudget, run_batches, tokens_read
from euds.measures.batches import plan_batches

lengths_strategy = st.lists(st.integers(1, 50), max_size=60)


def is_memory_error(error: BaseException) -> bool:
    return isinstance(error, MemoryError)


def tokens_of(lengths: list[int], batch: list[int], padded: bool) -> int:
    own = [lengths[at] for at in batch]
    return max(own) * len(own) if padded else sum(own)


@given(lengths_strategy, st.integers(1, 200), st.booleans())
def test_plan_holds_every_position_once_within_the_budget(lengths: list[int], budget: int, padded: bool) -> None:
    batches = list(plan_batches(lengths, range(len(lengths)), budget, padded=padded))
    assert sorted(at for batch in batches for at in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or tokens_of(lengths, batch, padded) <= budget
    for batch, following in pairwise(batches):
        # No batch ends early.
        assert tokens_of(lengths, [*batch, following[0]], padded) > budget


def test_plan_goes_from_long_to_short_and_keeps_the_order_of_equals() -> None:
    assert list(plan_batches([3, 5, 3, 5], range(4), 10)) == [[1, 3], [0, 2]]
    # Sorts that are not stable often are for a few elements.
    many = [3, 5] * 40
    placed = [at for batch in plan_batches(many, range(80), 50) for at in batch]
    assert placed == [*range(1, 80, 2), *range(0, 80, 2)]


@given(lengths_strategy, st.integers(1, 200), st.booleans())
def test_tokens_read_are_those_of_the_batches(lengths: list[int], budget: int, padded: bool) -> None:
    batches = run_batches(lengths, TokenBudget(budget), list, padded=padded, out_of_memory=is_memory_error)
    read = sum(tokens_of(lengths, batch, padded) for batch, _ in batches)
    assert tokens_read(lengths, budget, padded=padded) == read


@pytest.mark.parametrize(
    ("lengths", "budget", "capacity", "padded", "tried"),
    [
        ([1, 2, 3, 4, 5], 10, 10, True, [[4, 3], [2, 1, 0]]),
        ([5, 4, 3, 2, 1], 100, 12, True, [[0, 1, 2, 3, 4], [0, 1], [2, 3, 4]]),
        ([5, 3, 2, 1, 1], 100, 6, False, [[0, 1, 2, 3, 4], [0], [1, 2, 3], [4]]),
    ],
)
def test_what_does_not_fit_is_tried_in_halves_and_the_longest_first(
    lengths: list[int], budget: int, capacity: int, padded: bool, tried: list[list[int]]
) -> None:
    steps: list[list[int]] = []

    def step(batch: list[int]) -> None:
        steps.append(batch)
        if tokens_of(lengths, batch, padded) > capacity:
            # As torch tells of CUDA's memory.
            raise RuntimeError("out of memory")

    list(run_batches(lengths, TokenBudget(budget), step, padded=padded, out_of_memory=lambda _: True))
    assert steps == tried


@given(lengths_strategy, st.integers(1, 200), st.integers(1, 60), st.booleans())
def test_out_of_memory_halves_the_budget_and_loses_nothing(
    lengths: list[int], budget: int, capacity: int, padded: bool
) -> None:
    shared = TokenBudget(budget)

    def step(batch: list[int]) -> list[int]:
        if tokens_of(lengths, batch, padded) > capacity:
            raise MemoryError
        return batch

    results = list(run_batches(lengths, shared, step, padded=padded, out_of_memory=is_memory_error))
    assert sorted(at for batch, _ in results for at in batch) == list(range(len(lengths)))
    for batch, result in results:
        if result is None:
            assert len(batch) == 1
            assert lengths[batch[0]] > capacity
        else:
            assert result == batch
    assert shared.tokens <= budget


def test_budget_stays_halved_for_the_next_window() -> None:
    shared = TokenBudget(64)

    def step(batch: list[int]) -> int:
        if len(batch) > 4:
            raise MemoryError
        return len(batch)

    list(run_batches([4] * 16, shared, step, out_of_memory=is_memory_error))
    assert shared.tokens == 16
    sizes = [result for _, result in run_batches([4] * 16, shared, step, out_of_memory=is_memory_error)]
    assert sizes == [4, 4, 4, 4]


def test_other_errors_are_not_swallowed() -> None:
    def step(batch: list[int]) -> int:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(run_batches([1, 2], TokenBudget(8), step, out_of_memory=is_memory_error))
