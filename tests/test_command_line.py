"""The command line as a user has it: one clear line for bad input, and a corpus scored, selected and reported."""

import json
import subprocess
import sys
from pathlib import Path

import faiss
import pytest

from euds.assets import ASSETS


def euds_command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "euds", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "none.jsonl", "--out", "r", "--measures", "information"], "none.jsonl: no such file"),
        (["score", "a.jsonl", "--out", "r", "--measures", "informatio"], "did you mean 'information'"),
        (["score", "a.jsonl", "--out", "r", "--measures", "information", "--text-field", "txt"], "did you mean 'text'"),
        (["score", "a.jsonl", "--out", "r", "--lm", "./none", "--embedder", "x/y"], "no such folder"),
        (["score", "empty.jsonl", "--out", "r", "--measures", "information"], "the corpus is empty"),
        (["score", "bad.parquet", "--out", "r", "--measures", "information"], "not a readable Parquet file"),
        (["select", "none", "--keep", "0.5"], "not a run directory"),
        (["select", "none", "--keep", "1.5"], "keep: give a fraction in (0, 1]"),
        (["run", "r.yaml"], "unknown key 'scor' (did you mean 'score'?)"),
        (["run", "r.yaml", "keep"], "write key=value"),
        (["finetune", "--train", "a.jsonl", "--test", "a.jsonl", "--model", "./none"], "no such folder"),
        (["fetch", "smollm2"], "did you mean 'smollm2-135m'"),
        (["report", "none"], "not a run directory"),
        (["bench", "scorin"], "did you mean 'scoring'"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a b", "label": 1}\n{"text": "c", "label": 2}\n')
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not really PAR1")
    (tmp_path / "r.yaml").write_text("scor: {}\n")
    finished = euds_command(*arguments, cwd=tmp_path)
    assert finished.returncode == 2
    assert message in finished.stderr
    assert finished.stderr.startswith("error: ")
    assert finished.stderr.count("\n") == 1
    assert finished.stdout == ""
    assert not (tmp_path / "r").exists()


def test_the_command_line_scores_selects_and_reports(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": f"the film {at} was sad"}) + "\n" for at in range(20))
    )
    scored = euds_command("score", "a.jsonl", "--out", "r", "--measures", "information", cwd=tmp_path)
    assert (scored.returncode, scored.stdout[:40]) == (0, "20 rows = 20 scored + 0 quarantined, 0 t")
    again = euds_command("score", "a.jsonl", "--out", "r", "--measures", "information", cwd=tmp_path)
    assert again.stdout == f"already finished; nothing was computed; {scored.stdout}"
    selected = euds_command("select", "r", "--keep", "5", "--rule", "high", "--axis", "surprisal", cwd=tmp_path)
    assert selected.stdout.startswith("kept 5 of 20 rows by high\n")
    reported = euds_command("report", "r", cwd=tmp_path)
    assert reported.stdout == "r/report.html\n"
    doctor = euds_command("doctor", cwd=tmp_path)
    assert "C++ extension: there" in doctor.stdout
    assert f"semantic clusters: FAISS {faiss.__version__} (faiss-" in doctor.stdout
    assert "token statistics on cpu: cpp; not triton: it needs tensors on a CUDA device" in doctor.stdout
    listed = euds_command("fetch", cwd=tmp_path)
    assert [name for name in ASSETS if name not in listed.stdout] == []


def test_a_summary_says_why_rows_were_not_scored(tmp_path: Path) -> None:
    score = ("score", "a.jsonl", "--out", "r", "--measures", "information")
    (tmp_path / "a.jsonl").write_text("".join(f"the film {at}\n" for at in range(9)))
    _, *reasons = euds_command(*score, cwd=tmp_path).stdout.splitlines()
    assert reasons[0] == "  9 x not JSON: Expecting value"
    rows = ["[]", "[]", "[]", '{"text": "the film"}', '{"text": 1}', '{"text": 2}', '{"text": null}', '{"text": ""}']
    (tmp_path / "a.jsonl").write_text("\n".join([*rows, *rows]))
    said = euds_command(*score, "--force-new", cwd=tmp_path).stdout.splitlines()
    assert said[0].startswith("16 rows = 2 scored + 14 quarantined")
    assert said[1:] == [
        "  6 x not a JSON object but list",
        "  4 x field 'text' is int, not text",
        "  2 x field 'text' is null",
        "  and 1 more: euds status r",
    ]
    assert euds_command("status", "r", cwd=tmp_path).stdout.splitlines()[2:5] == said[1:4]
