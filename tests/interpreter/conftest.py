"""What every test under Triton's interpreter needs: an exact fma, and outputs full of NaN."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

# Triton reads the variable when it is imported, so an ordinary run, which compiles, cannot run these.
collect_ignore_glob = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["test_*.py"]


@pytest.fixture(autouse=True)
def _poison() -> Iterator[None]:
    """Fill what the launchers allocate with NaN, so that a value never written is seen."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def _fma_rounds_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Older interpreters multiply, round, add and round, which no GPU does."""
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    def create_fma(self: Any, x: Any, y: Any, z: Any) -> Any:
        # The product of two float32 is exact in float64.
        exact = x.data.astype(np.float64) * y.data.astype(np.float64) + z.data.astype(np.float64)
        return TensorHandle(exact.astype(z.data.dtype), z.dtype.scalar)

    monkeypatch.setattr(InterpreterBuilder, "create_fma", create_fma)
