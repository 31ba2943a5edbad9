"""Rates behind a progress bar."""

import time

from euds.progress import Bar


class Meter:
    """Shows rows, non-padding tokens a second and quarantined rows behind a bar."""

    def __init__(self, progress: Bar) -> None:
        self._progress = progress
        self._start = time.perf_counter()
        self._tokens = 0
        self._quarantined = 0

    def __call__(self, rows: int, tokens: int, quarantined: int) -> None:
        """Count what a batch has done."""
        self._tokens += tokens
        self._quarantined += quarantined
        rate = self._tokens / (time.perf_counter() - self._start)
        self._progress.advance(rows, f"{rate:,.0f} tokens/s, {self._quarantined} quarantined")
