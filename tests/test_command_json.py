"""`--json`: one object on standard output, with the keys of the Python results and numbers that JSON has."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import euds
from euds.cli.app import app
from euds.cli.as_json import print_json
from euds.cli.doctor import Findings


@pytest.fixture
def run_dir(tmp_path: Path, write_jsonl: Callable[..., Path], make_texts: Callable[[int, int], list[str]]) -> Path:
    """A run of 30 rows and one without text."""
    rows: list[dict[str, object]] = [{"text": text} for text in [*make_texts(30, 1), None]]
    return euds.score(write_jsonl(rows), out=tmp_path / "run", measures=["information"]).run_dir


def told(*arguments: str) -> dict[str, Any]:
    """Return what a command prints."""
    finished = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert finished.exit_code == 0
    assert finished.stdout.count("\n") == 1
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


def names(kind: Any) -> set[str]:
    return {field.name for field in fields(kind)}


def test_status_tells_the_fields_of_its_result(run_dir: Path) -> None:
    expected = {**asdict(euds.status(run_dir)), "run_dir": str(run_dir)}
    assert told("status", str(run_dir)) == expected
    assert (expected["state"], expected["rows_per_second"]) == ("finished", None)
    assert expected["quarantine"] == {"field 'text' is null": 1}


def test_score_tells_its_result_and_no_seconds_where_it_has_none(run_dir: Path) -> None:
    command = ["score", str(run_dir.parent / "corpus.jsonl"), "--measures", "information", "--out"]
    dry = told(*command, str(run_dir.parent / "other"), "--dry-run")
    assert (dry["n_rows"], dry["n_scored"], dry["seconds"]) == (31, 0, {})
    again = told(*command, str(run_dir))
    assert again.keys() == names(euds.ScoreResult)
    assert (again["run_dir"], again["n_scored"], again["n_quarantined"]) == (str(run_dir), 30, 1)
    assert again["already_finished"] is True
    assert again["seconds"]["total"] > 0


@pytest.mark.parametrize("streaming", [[], ["--streaming"]])
def test_select_tells_its_record_without_the_ids_of_the_rows(run_dir: Path, streaming: list[str]) -> None:
    found = told("select", str(run_dir), "--keep", "5", "--rule", "low", "--axis", "surprisal", *streaming)
    assert found.keys() == (names(euds.Selection) - {"row_ids"}) | {"n_kept"}
    assert (found["n_kept"], found["n_rows"], found["axes"]) == (5, 30, ["surprisal_nats"])
    assert found["record"] == json.loads((run_dir / "selection.json").read_text())
    (side,) = found["bounds"]
    assert side.keys() == names(euds.AxisBounds)


def test_estimate_and_doctor_tell_theirs(run_dir: Path) -> None:
    found = told("estimate", str(run_dir.parent / "corpus.jsonl"), "--measures", "information", "--workers", "2")
    assert found.keys() == names(euds.Estimate) | {"total_seconds", "worker_hours", "cost"}
    assert (found["n_rows"], found["cost"], found["workers"]) == (31, None, 2)
    machine = told("doctor")
    assert machine.keys() == names(Findings)
    assert machine["token_statistics"]["cpu"]["taken"] == "cpp"


def test_what_json_lacks_is_null_or_text(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass
    class Result:
        path: Path
        numbers: tuple[float, ...]
        named: dict[str, float]

    print_json(Result(Path("a"), (1.5, math.inf, math.nan), {"x": -math.inf}))
    assert json.loads(capsys.readouterr().out) == {"path": "a", "numbers": [1.5, None, None], "named": {"x": None}}
