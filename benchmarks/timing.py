"""Time several contenders fairly: interleaved rounds, rotating inputs, medians, peak memory of one call."""

import contextlib
import ctypes
import gc
import itertools
import math
import random
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

Call = Callable[[int], Any]
"""Runs a contender on the input of that number; inputs rotate, so that a cache is not what is measured."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: quantiles over the rounds."""

    p20: float
    p50: float
    p80: float


FEWEST_ROUNDS = 3
"""Calls of a contender that are timed, however long they take."""

LEAD_CYCLES = 2_000_000
"""Clock cycles, about a millisecond, that the GPU waits before a timed call: Python's launches run ahead of it."""


def interleave(
    contenders: Mapping[str, Call],
    *,
    rounds: int,
    n_inputs: int,
    device: str,
    most_seconds: float = math.inf,
    on_failure: Callable[[str, Exception], None] | None = None,
) -> dict[str, Timing]:
    """Call every contender once a round, after one untimed call each.

    The order is drawn anew for each round: what the one before leaves behind (caches, memory just freed, threads that
    still wait) must not always meet the same contender.

    Args:
        contenders: calls by name.
        rounds: timed calls of each.
        n_inputs: inputs that they know.
        device: "cpu" or "cuda".
        most_seconds: a contender that has had so many, and `FEWEST_ROUNDS`, gets no further turn.
        on_failure: told of a contender that raised, which is then left out; None: the error is raised on.
    """
    clock = _cuda_seconds if device == "cuda" else _cpu_seconds
    running = dict(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    spent = dict.fromkeys(contenders, 0.0)
    # No two calls in a row read the same input, which would still be in the cache.
    turns = itertools.cycle(range(n_inputs))
    order = random.Random(0)
    for round_ in range(rounds + 1):
        for name, call in order.sample(list(running.items()), len(running)):
            start = time.perf_counter()
            try:
                found = clock(call, next(turns))
            except Exception as error:
                if on_failure is None:
                    raise
                on_failure(name, error)
                del running[name], seconds[name]
                continue
            # The first call compiles and warms up.
            if round_ > 0:
                seconds[name].append(found)
                spent[name] += time.perf_counter() - start
            if len(seconds[name]) >= FEWEST_ROUNDS and spent[name] > most_seconds:
                del running[name]
    return {name: _quantiles(found) for name, found in seconds.items()}


def peak_memory_mib(call: Call, *, device: str) -> float:
    """Return the memory that one call takes beyond what was taken before it."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call(0)
        torch.cuda.synchronize()
        return float(torch.cuda.max_memory_allocated() - before) / 2**20
    return _peak_resident_mib(call)


def _peak_resident_mib(call: Call) -> float:
    import psutil

    process = psutil.Process()
    # What earlier calls have freed would be taken again without growing.
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    before = process.memory_info().rss
    highest = [before]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.0005):
            highest[0] = max(highest[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        call(0)
    finally:
        # A thread that still watches would keep the process from its end.
        done.set()
        watcher.join()
    return float(highest[0] - before) / 2**20


def _cpu_seconds(call: Call, at: int) -> float:
    start = time.perf_counter()
    call(at)
    return time.perf_counter() - start


def _cuda_seconds(call: Call, at: int) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    torch.cuda._sleep(LEAD_CYCLES)
    start.record()
    call(at)
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000


def _quantiles(seconds: list[float]) -> Timing:
    if len(seconds) == 1:
        return Timing(*seconds * 3)
    fifths = statistics.quantiles(seconds, n=10, method="inclusive")
    return Timing(fifths[1], statistics.median(seconds), fifths[7])
