"""A run killed at any moment resumes to the same bytes; a second run repeats nothing."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import euds
from euds.engine.work import Work
from euds.errors import InputError

WriteJsonl = Callable[..., Path]
Texts = Callable[[int, int], list[str]]


def digests(run_dir: Path) -> dict[str, str]:
    """Hash everything but the manifest, which holds times."""
    files = [path for path in sorted(run_dir.rglob("*")) if path.is_file() and path.name != "manifest.json"]
    return {str(path.relative_to(run_dir)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def command(corpus: Path, run_dir: Path, lm: Path, encoder: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "euds", "score", str(corpus), "--out", str(run_dir)),
        *("--lm", str(lm), "--embedder", str(encoder), "--shard-rows", "16", "--n-clusters", "4"),
    ]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_kills_then_resume_give_the_same_bytes(
    tmp_path: Path, tiny_lm: Path, tiny_encoder: Path, write_jsonl: WriteJsonl, make_texts: Texts
) -> None:
    rows: list[object] = [{"text": text} for text in make_texts(600, 11)]
    rows[5:5] = [{"text": None}, "not an object"]
    corpus = write_jsonl(rows)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole = tmp_path / "whole"
    subprocess.run(command(corpus, whole, tiny_lm, tiny_encoder), check=True, env=environment, capture_output=True)
    killed = tmp_path / "killed"
    kills = 0
    for attempt in range(10):
        process = subprocess.Popen(
            command(corpus, killed, tiny_lm, tiny_encoder),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # 38 shards in four stages are 152 files: every kill falls about 13 files further on.
        while process.poll() is None and len(list(killed.rglob("*.arrow"))) < 13 * (attempt + 1):
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills == 10
    subprocess.run(command(corpus, killed, tiny_lm, tiny_encoder), check=True, env=environment, capture_output=True)
    assert digests(killed) == digests(whole)
    counts = json.loads((killed / "manifest.json").read_text())["counts"]
    assert counts["rows"] == 602 == counts["scored"] + counts["quarantined"]


def test_a_second_run_returns_at_once_without_models(
    tmp_path: Path, tiny_lm: Path, write_jsonl: WriteJsonl, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_jsonl([{"text": "the film was sad"}])
    first = euds.score(corpus, out=tmp_path / "run", measures=["generative"], lm=tiny_lm)
    before = digests(tmp_path / "run")

    def never(*arguments: object) -> None:
        raise AssertionError("a finished run must not run a stage")

    monkeypatch.setattr("euds.engine.run.run_plan", never)
    second = euds.score(corpus, out=tmp_path / "run", measures=["generative"], lm=tiny_lm)
    assert second == first
    assert digests(tmp_path / "run") == before


def test_two_runs_exclude_each_other(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    corpus = write_jsonl([{"text": "the film was sad"}])
    with (
        Work(tmp_path / "run").locked(),
        pytest.raises(InputError, match="another process is scoring"),
    ):
        euds.score(corpus, out=tmp_path / "run", measures=["information"])


def test_an_unfinished_run_of_another_configuration_is_refused(
    tmp_path: Path, write_jsonl: WriteJsonl, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_jsonl([{"text": "the film was sad"}])

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("euds.engine.worker.finish_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        euds.score(corpus, out=tmp_path / "run", measures=["information"])
    with pytest.raises(InputError, match=r"config\.seed: 0 -> 1"):
        euds.score(corpus, out=tmp_path / "run", measures=["information"], seed=1)


def test_a_full_disk_ends_the_run_and_resuming_completes_it(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts
) -> None:
    corpus = write_jsonl([{"text": text} for text in make_texts(300, 2)])
    whole = tmp_path / "whole"
    euds.score(corpus, out=whole, measures=["information"], shard_rows=50)
    limited = tmp_path / "limited"
    program = (
        "import resource, signal, sys, euds\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"euds.score({str(corpus)!r}, out={str(limited)!r}, measures=['information'], shard_rows=50)\n"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert process.returncode != 0
    assert "File too large" in process.stderr
    euds.score(corpus, out=limited, measures=["information"], shard_rows=50)
    assert digests(limited) == digests(whole)
