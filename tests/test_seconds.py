"""The seconds in a manifest: what takes time is counted, and counted once."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import euds
from euds.engine.prepare import Plan
from euds.engine.read import Encoders
from euds.engine.shards import cut_shards
from euds.engine.worker import TOKENS, Worker
from euds.files import file_sha256

INFORMATION: dict[str, Any] = {"measures": ["information"], "shard_rows": 16}
SLOW = 0.3
"""Seconds that loading takes in these tests, or hashing: far more than anything else."""


@pytest.fixture
def plan(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    plans: list[Plan] = []
    with monkeypatch.context() as patched:
        patched.setattr("euds.engine.score.execute", lambda plan, *_: plans.append(plan))
        euds.score(corpus, out=tmp_path / "run", **INFORMATION)
    return plans[0]


@pytest.fixture
def slow_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Encoders.of

    def slowly(plan: Plan) -> Encoders:
        time.sleep(SLOW)
        return real(plan)

    monkeypatch.setattr(Encoders, "of", slowly)


def seconds_of(run_dir: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((run_dir / "manifest.json").read_text())["seconds"]
    return found


@pytest.mark.usefixtures("slow_loading")
@pytest.mark.parametrize("apart", [True, False])
def test_loading_is_counted_once_and_by_the_thread_that_loads(plan: Plan, apart: bool) -> None:
    elsewhere, here = (Worker(plan, tells_loading=apart) for _ in range(2))
    other = threading.Thread(target=lambda: elsewhere.models.encoders)
    other.start()
    other.join()
    assert elsewhere.models.seconds >= SLOW > elsewhere.models.seconds_here == 0.0
    here.read(next(iter(cut_shards(plan.files, 16))))
    here.close()
    assert SLOW <= here.models.seconds <= here.models.seconds_here
    assert (here.work.seconds(TOKENS, 0) >= SLOW) is not apart


def test_a_thread_that_waits_for_what_another_one_loads_counts_that_as_loading(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(plan)
    begun, wanted = threading.Event(), threading.Event()
    real, n_loaded = Encoders.of, []

    def slowly(plan: Plan) -> Encoders:
        n_loaded.append(1)
        begun.set()
        wanted.wait()
        time.sleep(SLOW)
        return real(plan)

    monkeypatch.setattr(Encoders, "of", slowly)
    other = threading.Thread(target=lambda: worker.models.encoders)
    other.start()
    begun.wait()
    start = worker._seconds_worked()
    wanted.set()
    _ = worker.models.encoders
    assert worker._seconds_worked() - start < SLOW
    other.join()
    assert len(n_loaded) == 1
    assert worker.models.seconds_here > 0


@pytest.mark.usefixtures("slow_loading")
def test_the_loading_of_every_piece_is_in_its_stages(corpus: Path, tmp_path: Path) -> None:
    for piece in range(2):
        euds.score(corpus, out=tmp_path / "split", split=f"{piece}/2", **INFORMATION)
    seconds = seconds_of(tmp_path / "split")
    assert seconds["read"] >= 2 * SLOW
    assert seconds["loading"] == 0.0


@pytest.mark.usefixtures("slow_loading")
def test_a_piece_that_only_finishes_a_run_tells_what_it_loaded(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("euds.engine.run.fit_pool", killed)
        with pytest.raises(KeyboardInterrupt):
            euds.score(corpus, out=tmp_path / "split", split="0/1", **INFORMATION)
    euds.score(corpus, out=tmp_path / "split", split="0/1", **INFORMATION)
    seconds = seconds_of(tmp_path / "split")
    assert seconds["read"] >= SLOW
    assert seconds["loading"] >= SLOW


def test_hashing_a_part_is_counted(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(path: Path) -> str:
        time.sleep(SLOW)
        return file_sha256(path)

    monkeypatch.setattr("euds.engine.finish.file_sha256", slowly)
    euds.score(corpus, out=tmp_path / "run", measures=["information"], shard_rows=200)
    assert seconds_of(tmp_path / "run")["finish"] >= SLOW
