"""A bar's ETA is right for steps of minutes as for steps of moments, and a log has its lines."""

import subprocess
import sys
from importlib.util import find_spec

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


def test_a_log_has_a_line_every_half_minute(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    now = 1000.0
    monkeypatch.setattr(progress.console, "get_time", lambda: now)
    with progress.bar("score [a]", 5000) as shown:
        for _ in range(7):
            now += 10
            shown.advance(500, "7 tokens/s")
    lines = capfd.readouterr().err.splitlines()
    assert lines[:2] == [
        "score [a] 1,500/5,000, 0:01:10 left 7 tokens/s",
        "score [a] 3,000/5,000, 0:00:40 left 7 tokens/s",
    ]
    # The last is what rich leaves of the bar.
    assert len(lines) == 3
    assert "3500/5000" in lines[2]


def test_a_terminal_has_the_bar_alone(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    now = 1000.0
    monkeypatch.setattr(progress.console, "get_time", lambda: now)
    monkeypatch.setattr(progress.console, "_force_terminal", True)
    with progress.bar("score", None) as shown:
        now += 100
        shown.advance(500)
    assert "score 500" not in capfd.readouterr().err


@pytest.mark.skipif(find_spec("ipywidgets") is not None, reason="with ipywidgets rich shows its bars")
def test_a_notebook_without_widgets_has_the_lines_of_a_log_and_no_warning() -> None:
    notebook = """
import builtins, warnings
class ZMQInteractiveShell: config = {}
builtins.get_ipython = lambda: ZMQInteractiveShell()
warnings.simplefilter("error")
from rich.console import Console
assert Console().is_jupyter
from euds import progress
with progress.bar("score", 10) as shown:
    progress.console.get_time = lambda: 1e9
    shown.advance(4)
"""
    done = subprocess.run([sys.executable, "-c", notebook], capture_output=True, text=True, check=True)
    assert "score 4/10" in done.stderr
