"""Parallel Numba kernels that use the caller's number of threads, and leave it as it was.

Numba's OpenMP layer sets the thread count of the OpenMP pool that torch shares: left to itself, the first parallel
kernel gives torch all cores, whatever its caller had asked for.
"""

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import numba
from numba.core import config

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def parallel_njit(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compile a function with `prange` loops; other compiled code cannot call it."""
    compiled: Callable[Arguments, Result] = numba.njit(cache=True, nogil=True, parallel=True)(function)

    @wraps(function)
    def call(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        torch = sys.modules.get("torch")
        if torch is None:
            return compiled(*arguments, **named)
        threads, before = torch.get_num_threads(), numba.get_num_threads()
        try:
            numba.set_num_threads(min(threads, config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
            return compiled(*arguments, **named)
        finally:
            numba.set_num_threads(before)
            torch.set_num_threads(threads)

    return call
