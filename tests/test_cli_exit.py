"""How the command line ends when a signal comes late: what was done stays done."""

import signal
import subprocess
import sys

import pytest

LATE = """
import atexit, os, sys
from euds.cli.app import main
atexit.register(lambda: os.kill(os.getpid(), {number}))
sys.argv = ["euds", "{command}"]
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("command", "code"), [("--help", 0), ("--nonsense", 2)])
def test_a_signal_after_the_end_changes_nothing(command: str, code: int, number: signal.Signals) -> None:
    script = LATE.format(command=command, number=int(number))
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
    assert "resumes" not in ended.stderr
