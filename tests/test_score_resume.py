"""A run killed at any moment resumes to the same bytes; a second run repeats nothing."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

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


def steps_done(run_dir: Path) -> int:
    """Stages that are done; a finished shard has a record in place of the files of its three stages."""
    return len(list(run_dir.rglob("*.arrow"))) + 4 * len(list(run_dir.rglob("records/*.json")))


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
        # 38 shards in four stages are 152 steps: every kill falls about 13 steps further on.
        while process.poll() is None and steps_done(killed) < 13 * (attempt + 1):
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


def test_without_models_estimate_score_and_select_load_no_torch(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    corpus, run_dir = write_jsonl([{"text": "the film was sad"}, {"text": "a film"}]), tmp_path / "run"
    scoring = f"euds.score({str(corpus)!r}, out={str(run_dir)!r}, measures=['information']); "
    program = (
        f"import sys, euds; euds.estimate({str(corpus)!r}, measures=['information']); {scoring}{scoring}"
        f"euds.select({str(run_dir)!r}, keep=1, rule='middle', axes=['information']); "
        "print([name for name in ('torch', 'transformers', 'sklearn', 'faiss') if name in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


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
    assert (first.already_finished, second.already_finished) == (False, True)
    assert replace(second, already_finished=False) == first
    assert digests(tmp_path / "run") == before


def test_two_runs_exclude_each_other(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    corpus = write_jsonl([{"text": "the film was sad"}])
    with (
        Work(tmp_path / "run").locked(),
        pytest.raises(InputError, match="another process is scoring"),
    ):
        euds.score(corpus, out=tmp_path / "run", measures=["information"])


def test_a_run_that_goes_on_with_other_versions_says_so(
    tmp_path: Path, write_jsonl: WriteJsonl, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = write_jsonl([{"text": "the film was sad"}] * 4)
    arguments: dict[str, Any] = {"out": tmp_path / "run", "measures": ["information"]}
    with monkeypatch.context() as patched:
        patched.setattr("euds.engine.run.run_plan", _killed)
        with pytest.raises(KeyboardInterrupt):
            euds.score(corpus, **arguments)
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text())
    now, begun = manifest["versions"], {**manifest["versions"], "numpy": "1.0"}
    path.write_text(json.dumps({**manifest, "versions": begun}))
    euds.score(corpus, **arguments)
    assert f"numpy: 1.0 -> {now['numpy']}" in capsys.readouterr().err
    finished = json.loads(path.read_text())
    assert finished["versions"] == now
    assert finished["versions_begun"] == begun
    euds.score(corpus, **{**arguments, "out": tmp_path / "whole"})
    assert "versions_begun" not in json.loads((tmp_path / "whole" / "manifest.json").read_text())


def test_an_unfinished_run_of_another_configuration_is_refused(
    tmp_path: Path, write_jsonl: WriteJsonl, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_jsonl([{"text": "the film was sad"}])
    monkeypatch.setattr("euds.engine.worker.finish_shard", _killed)
    with pytest.raises(KeyboardInterrupt):
        euds.score(corpus, out=tmp_path / "run", measures=["information"])
    with pytest.raises(InputError, match=r"config\.seed: 0 -> 1"):
        euds.score(corpus, out=tmp_path / "run", measures=["information"], seed=1)


@pytest.mark.parametrize("finished", [True, False])
def test_the_order_of_measures_and_estimates_is_no_other_configuration(
    tmp_path: Path, sample_corpus: Path, tiny_lm: Path, tiny_encoder: Path, *, finished: bool
) -> None:
    words = euds.LabelWordSettings(labels=("good", "bad"))
    given: dict[str, Any] = {"lm": tiny_lm, "embedder": tiny_encoder, "label_words": words, "shard_rows": 8}
    one = {**given, "measures": ["information", "semantic"], "semantic": ["clusters", "label_words"]}
    other = {**given, "measures": ["semantic", "information"], "semantic": ["label_words", "clusters"]}
    euds.score(sample_corpus, out=tmp_path / "one", **one)
    euds.score(sample_corpus, out=tmp_path / "run", **one, split=None if finished else "0/2")
    assert euds.score(sample_corpus, out=tmp_path / "run", **other).already_finished == finished
    assert digests(tmp_path / "run") == digests(tmp_path / "one")
    # Of a change of something else, the order is no part.
    with pytest.raises(InputError) as caught:
        euds.score(sample_corpus, out=tmp_path / "one", **other, seed=1)
    assert str(caught.value).splitlines()[1:] == ["  config.seed: 0 -> 1"]


def test_a_full_disk_ends_the_run_and_resuming_completes_it(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts
) -> None:
    corpus = write_jsonl([{"text": text} for text in make_texts(300, 2)])
    whole = tmp_path / "whole"
    euds.score(corpus, out=whole, measures=["information"], shard_rows=50)
    limited = tmp_path / "limited"
    arguments = ["score", str(corpus), "--out", str(limited), "--measures", "information", "--shard-rows", "50"]
    program = (
        "import resource, sys\n"
        "from euds.cli.app import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "main()\n"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert process.returncode == os.EX_TEMPFAIL
    last_line = process.stderr.strip().splitlines()[-1]
    assert last_line.startswith(f"error: {limited / 'work' / 'tokens-0000'}")
    assert last_line.endswith("File too large; make room, and give the same command again")
    assert "Traceback" not in process.stderr
    assert list(limited.rglob("*.partial")) == []
    euds.score(corpus, out=limited, measures=["information"], shard_rows=50)
    assert digests(limited) == digests(whole)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_ends_a_run_with_one_line(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts, number: signal.Signals, word: str, workers: str
) -> None:
    corpus = write_jsonl([{"text": text} for text in make_texts(3000, 2)])
    run_dir = tmp_path / "run"
    arguments = ("--measures", "information", "--shard-rows", "16", "--workers", workers)
    # Started from a background job, this process may have it ignored, and its child would.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "euds", "score", str(corpus), "--out", str(run_dir), *arguments],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    signal.signal(signal.SIGINT, before)
    while process.poll() is None and len(list(run_dir.glob("work/tokens-*.arrow"))) < 5:
        time.sleep(0.005)
    # A terminal tells all processes of Ctrl-C, a job scheduler the first one of its wish.
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, said = process.communicate()
    assert process.returncode == 128 + number
    assert said.strip().splitlines()[-1] == f"{word}; the same command resumes"
    assert "Traceback" not in said, said


def test_work_that_a_finished_run_was_killed_over_is_removed(
    tmp_path: Path, write_jsonl: WriteJsonl, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_jsonl([{"text": "the film was sad"}])

    def killed(work: Work) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Work, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            euds.score(corpus, out=tmp_path / "run", measures=["information"])
    assert (tmp_path / "run" / "work").exists()
    euds.score(corpus, out=tmp_path / "run", measures=["information"])
    assert not (tmp_path / "run" / "work").exists()


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_that_is_killed_while_it_starts_over_never_mixes_old_and_new(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    corpus = write_jsonl([{"text": text} for text in make_texts(40, 3)])
    new: dict[str, Any] = {"measures": ["information"], "shard_rows": 20, "max_tokens": 5}
    euds.score(corpus, out=tmp_path / "whole", **new)
    for deletions in range(60):
        run_dir = tmp_path / f"run-{deletions}"
        with monkeypatch.context() as patched:
            if not finished:
                patched.setattr("euds.engine.score.write_finished", _killed)
            with nullcontext() if finished else pytest.raises(KeyboardInterrupt):
                euds.score(corpus, out=run_dir, measures=["information"], shard_rows=8)
        ended = False
        with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
            left = iter(range(deletions))
            patched.setattr(Path, "unlink", _killed_after(left, Path.unlink))
            patched.setattr(shutil, "rmtree", _killed_after(left, shutil.rmtree))
            euds.score(corpus, out=run_dir, force_new=True, **new)
            ended = True
        try:
            euds.score(corpus, out=run_dir, **new)
        except InputError:
            # The old run, or some of it, is still there.
            euds.score(corpus, out=run_dir, force_new=True, **new)
        assert digests(run_dir) == digests(tmp_path / "whole")
        if ended:
            break
    assert ended
    assert deletions > 5


def _killed(*arguments: object) -> None:
    raise KeyboardInterrupt


def _killed_after(left: Iterator[int], real: Callable[..., None]) -> Callable[..., None]:
    def call(*arguments: object, **named: object) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        real(*arguments, **named)

    return call
