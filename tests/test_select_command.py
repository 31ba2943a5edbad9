"""`euds select`: every option is handed on, and those that mean nothing are refused."""

import inspect
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import euds
from euds.cli.app import app
from euds.errors import InvalidArgument


def test_the_command_hands_every_option_on(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []

    def record(run_dir: Path, **options: Any) -> None:
        given.append({"run_dir": run_dir, **options})

    defaults = {name: value.default for name, value in inspect.signature(euds.select).parameters.items()}
    monkeypatch.setattr("euds.selection.select.select", record)
    monkeypatch.setattr("euds.selection.summary.summary", str)
    command = ["select", "run", "--keep", "auto", "--rule", "box", "--axis", "nll", "--axis", "semantic"]
    command += ["--group-by", "label", "--adjust", "log_length", "--bins", "8", "--stability", "3", "--margin", "0.01"]
    command += ["--seed", "7", "--out", "kept.parquet", "--columns", "text, id,", "--dry-run"]
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    assert CliRunner().invoke(app, ["select", "run", "--keep", "0.2"], catch_exceptions=False).exit_code == 0
    everything, nothing = given
    assert everything == {
        "run_dir": Path("run"),
        "keep": "auto",
        "rule": "box",
        "axes": ["nll", "semantic"],
        "group_by": "label",
        "adjust": "log_length",
        "bins": 8,
        "stability": 3,
        "margin": 0.01,
        "seed": 7,
        "out": "kept.parquet",
        "columns": ["text", "id"],
        "dry_run": True,
    }
    expected = {**defaults, "run_dir": Path("run"), "keep": "0.2"}
    assert nothing == {name: expected[name] for name in everything}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--margin", "0.01"], "margin: is of --keep auto"),
        (["--streaming", "--rule", "low", "--group-by", "label"], "streaming: takes no"),
        (["--streaming", "--rule", "low", "--adjust", "log_length"], "streaming: takes no"),
        (["--streaming", "--rule", "low", "--stability", "5"], "streaming: takes no"),
    ],
)
def test_options_that_mean_nothing_here_are_refused(options: list[str], message: str) -> None:
    found = CliRunner().invoke(app, ["select", "run", "--keep", "0.2", *options])
    assert isinstance(found.exception, InvalidArgument)
    assert message in str(found.exception)
