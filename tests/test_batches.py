"""Token-budget batches: everything once, within the budget, and on with half of it when memory runs out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from euds.engine.batches import TokenBudget, plan, run_batches

lengths_strategy = st.lists(st.integers(1, 50), max_size=60)


def is_memory_error(error: BaseException) -> bool:
    return isinstance(error, MemoryError)


@given(lengths_strategy, st.integers(1, 200))
def test_plan_holds_every_position_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(plan(lengths, range(len(lengths)), budget))
    assert sorted(at for batch in batches for at in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[at] for at in batch)
        assert len(batch) == 1 or longest * len(batch) <= budget


def test_plan_goes_from_long_to_short_and_keeps_the_order_of_equals() -> None:
    assert list(plan([3, 5, 3, 5], range(4), 10)) == [[1, 3], [0, 2]]


@given(lengths_strategy, st.integers(1, 200), st.integers(1, 60))
def test_out_of_memory_halves_the_budget_and_loses_nothing(lengths: list[int], budget: int, capacity: int) -> None:
    shared = TokenBudget(budget)

    def step(batch: list[int]) -> list[int]:
        if max(lengths[at] for at in batch) * len(batch) > capacity:
            raise MemoryError
        return batch

    results = list(run_batches(lengths, shared, step, out_of_memory=is_memory_error))
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
