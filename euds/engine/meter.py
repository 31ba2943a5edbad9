"""Show how far a run has come: rows, non-padding tokens a second, quarantined rows."""

import time
from collections.abc import Callable

from euds.progress import Bar

Advance = Callable[[int, int, int], None]
"""Told after each batch: rows done, non-padding tokens in them, rows given up."""


class Meter:
    """Counts behind a bar."""

    def __init__(self, progress: Bar) -> None:
        self._progress = progress
        self._start = time.perf_counter()
        self._tokens = 0
        self._quarantined = 0

    def __call__(self, rows: int, tokens: int, quarantined: int) -> None:
        """Count what a batch or a shard has done."""
        self._tokens += tokens
        self._quarantined += quarantined
        rate = self._tokens / (time.perf_counter() - self._start)
        counted = self._tokens or self._quarantined
        note = f"{rate:,.0f} tokens/s, {self._quarantined} quarantined" if counted else None
        self._progress.advance(rows, note)
