"""Errors of memory that ran out, as the libraries of a GPU raise them."""

import pytest
import torch

from euds.engine import batches
from euds.engine.batches import TokenBudget, run_batches
from euds.measures.device import is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    ],
)
def test_memory_that_ran_out_is_told_whoever_asked_for_it(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
        ValueError("CUDA error: out of memory"),
    ],
)
def test_other_errors_are_no_lack_of_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_what_torch_keeps_is_given_back_once_a_failed_batch_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    class Block:
        alive = 0

        def __init__(self) -> None:
            Block.alive += 1

        def __del__(self) -> None:
            Block.alive -= 1

    def step(batch: list[int]) -> int:
        block = Block()
        if len(batch) > 1:
            raise MemoryError
        return Block.alive + (block is None)

    freed: list[int] = []
    monkeypatch.setattr(batches, "free_cached_memory", lambda: freed.append(Block.alive))
    found = list(run_batches([3, 3], TokenBudget(6), step, out_of_memory=is_out_of_memory))
    assert found == [([0], 1), ([1], 1)]
    assert freed == [0]
