"""How the command line ends when a signal comes, early or late, and when a benchmark fails."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import euds
from euds.cli import doctor
from euds.cli.app import app

LATE = """
import atexit, os, sys
from euds.cli.app import main
atexit.register(lambda: os.kill(os.getpid(), {number}))
sys.argv = ["euds", "{command}"]
main()
"""

EARLY = """
import signal, sys
from euds.cli import app
# Whoever runs the tests may be deaf to Ctrl-C, as a shell's background jobs are.
signal.signal(signal.SIGINT, signal.default_int_handler)
app.app = lambda: signal.raise_signal({number})
sys.argv = ["euds", "{verb}", "a"]
app.main()
"""

FAILING = """
import errno, os, sys
from euds.cli import app

def fail():
    raise OSError(errno.{name}, os.strerror(errno.{name}), {path!r})

app.app = fail
app.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("command", "code"), [("--help", 0), ("--nonsense", 2)])
def test_a_signal_after_the_end_changes_nothing(command: str, code: int, number: signal.Signals) -> None:
    script = LATE.format(command=command, number=int(number))
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
    assert "resumes" not in ended.stderr


@pytest.mark.parametrize(
    ("verb", "number", "said"),
    [
        ("study", signal.SIGINT, "interrupted; the same command resumes\n"),
        ("score", signal.SIGTERM, "terminated; the same command resumes\n"),
        ("finetune", signal.SIGINT, "interrupted\n"),
        ("estimate", signal.SIGTERM, "terminated\n"),
    ],
)
def test_only_verbs_that_resume_say_so(verb: str, number: signal.Signals, said: str) -> None:
    script = EARLY.format(verb=verb, number=int(number))
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr) == (128 + number, said)


@pytest.mark.parametrize(
    ("name", "path", "code", "said"),
    [
        ("EIO", "run/table.json", 75, "error: run/table.json: the file system or the network failed (Input/output"),
        ("ESTALE", None, 75, "error: a file: the file system or the network failed (Stale file handle)"),
        ("ENOSPC", "/tmp", 75, "error: /tmp: cannot be written: No space left on device; make room"),
        ("ENOENT", "a", 1, "Traceback"),
    ],
)
def test_a_disk_that_fails_ends_any_verb_in_one_line(name: str, path: str | None, code: int, said: str) -> None:
    script = FAILING.format(name=name, path=path)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == code
    assert ended.stderr.startswith(said)
    assert (len(ended.stderr.splitlines()) == 1) == (code == 75)


def test_a_run_of_which_no_row_could_be_scored_is_no_success(
    tmp_path: Path, write_jsonl: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, good = write_jsonl([{"text": None}] * 3, "bad.jsonl"), write_jsonl([{"text": "a film"}], "good.jsonl")
    command = ["score", "--measures", "information", "--out"]
    # The second time it is finished; a dry run has scored nothing either, and is right.
    for more, code, said in (
        (["--dry-run"], 0, ""),
        ([], 2, "3 rows = 0 scored + 3 quarantined"),
        ([], 2, "already finished; nothing was computed; 3 rows = 0 scored"),
        (["--json"], 2, '"n_scored": 0'),
    ):
        found = CliRunner().invoke(app, [*command, str(tmp_path / "run"), str(corpus), *more])
        assert (found.exit_code, said in found.stdout) == (code, True)
        assert found.exception is None or isinstance(found.exception, SystemExit)
    assert "3 x field 'text' is null" in CliRunner().invoke(app, [*command, str(tmp_path / "run"), str(corpus)]).stdout
    assert CliRunner().invoke(app, [*command, str(tmp_path / "one"), str(good)]).exit_code == 0
    # A piece that leaves shards to others says nothing of them.
    nothing = euds.ScoreResult(tmp_path, 3, 0, 0, 0, 0, {}, 0.0)
    monkeypatch.setattr("euds.engine.score.score", lambda *arguments, **named: nothing)
    assert CliRunner().invoke(app, [*command, str(tmp_path / "run"), str(corpus)]).exit_code == 0


def test_a_failing_benchmark_keeps_no_other_from_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "benchmarks").mkdir()
    for name, code in (("a", "sys.exit(3)"), ("b", "open(__file__ + '.ran', 'x')"), ("c", "1 / 0")):
        (tmp_path / "benchmarks" / f"bench_{name}.py").write_text(f"import sys\n{code}\n")
    monkeypatch.setattr(doctor, "__file__", str(tmp_path / "euds" / "cli" / "doctor.py"))
    with pytest.raises(typer.Exit) as ended:
        doctor.bench()
    assert ended.value.exit_code == 1
    assert "bench: a, c failed" in capsys.readouterr().err
    assert (tmp_path / "benchmarks" / "bench_b.py.ran").exists()


def test_work_outlives_whoever_read_what_it_says(write_jsonl: Callable[..., Path], tmp_path: Path) -> None:
    corpus = write_jsonl([{"text": "a b c"}] * 5)
    reader, writer = os.pipe()
    os.close(reader)
    command = ["score", str(corpus), "--out", str(tmp_path / "run"), "--measures", "information", "--json"]
    # Buffered as by default, whatever the tests run under.
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with os.fdopen(writer, "wb") as nobody:
        ended = subprocess.run(
            [sys.executable, "-m", "euds", *command],
            stdout=subprocess.PIPE,
            stderr=nobody,
            env=buffered,
            timeout=120,
            check=False,
        )
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["n_scored"] == 5
