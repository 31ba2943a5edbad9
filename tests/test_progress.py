"""A bar's ETA is right for steps of minutes as for steps of moments."""

import pytest

from euds import progress


@pytest.mark.parametrize("seconds", [0.01, 1.0, 40.0, 130.0, 1500.0])
def test_the_eta_is_that_of_the_rate(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(progress.console, "get_time", lambda: now)
    with progress.bar("train", 50, done=10) as shown:
        task = shown._progress.tasks[0]
        assert task.time_remaining is None
        for step in range(1, 31):
            now += seconds
            shown.advance(1, "a note")
            # Rich shows whole seconds.
            assert task.time_remaining == pytest.approx(seconds * (40 - step), abs=1)
