"""Real Ray on two cores: the same bytes as one process, whatever happens to an actor."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from test_score_resume import digests

import euds
from euds.corpus import read_manifest
from euds.engine.work import Work
from euds.errors import BackendUnavailable, InputError, InvalidArgument, RunStopped

WriteJsonl = Callable[..., Path]
Texts = Callable[[int, int], list[str]]


def command(corpus: Path, run_dir: Path, *options: str) -> list[str]:
    where = (sys.executable, "-m", "euds", "score", str(corpus), "--out", str(run_dir), "--shard-rows", "16")
    return [*where, "--ray", "--workers", "2", *options]


def planned(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Have runs planned, not made; the plans come to the list that is returned."""
    plans: list[Any] = []
    monkeypatch.setattr("euds.engine.score.execute", lambda plan, *_: plans.append(plan))
    return plans


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_ray_writes_the_same_bytes(
    write_jsonl: WriteJsonl, make_texts: Texts, tmp_path: Path, tiny_lm: Path, tiny_encoder: Path
) -> None:
    corpus = write_jsonl([*({"text": text} for text in make_texts(100, 4)), {"text": None}, "no object"])
    euds.score(corpus, out=tmp_path / "one", lm=tiny_lm, embedder=tiny_encoder, shard_rows=16, n_clusters=4)
    options = ("--lm", str(tiny_lm), "--embedder", str(tiny_encoder), "--n-clusters", "4")
    subprocess.run(command(corpus, tmp_path / "ray", *options), check=True, capture_output=True)
    assert digests(tmp_path / "ray") == digests(tmp_path / "one")
    assert read_manifest(tmp_path / "ray")["device"]["torch_threads"] == 1


@pytest.mark.slow
def test_actors_elsewhere_write_into_the_folder_that_was_named(
    write_jsonl: WriteJsonl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_lm: Path
) -> None:
    from euds.engine import ray_runner

    monkeypatch.chdir(tmp_path)
    Path("lm").symlink_to(tiny_lm)
    plans = planned(monkeypatch)
    euds.score(write_jsonl([{"text": "the film"}]), out="run", measures=["generative"], lm="./lm")
    plan = ray_runner.RayRunner(plans[0], workers=1, address=None, n_tasks=1)._plan
    assert plan.run_dir == tmp_path / "run"
    assert plan.folders == {"lm": tmp_path / "lm"}
    task: dict[str, Any] = {"task": 3, "shards": []}
    settled = {"precision": {"device": "cuda", "dtype": "bfloat16"}}
    actor = ray_runner._Actor(replace(plan, fingerprint=settled), "score")
    assert "has settled cuda and bfloat16, but a Ray worker has cpu and float32" in actor(task)["error"]


@pytest.mark.slow
def test_actors_without_work_are_told_of_once(
    write_jsonl: WriteJsonl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from euds.engine import ray_runner
    from euds.engine.shards import Shard

    plans = planned(monkeypatch)
    euds.score(write_jsonl([{"text": "the film"}]), out=tmp_path / "run", measures=["information"], shard_rows=64)
    counts = {"rows": 0, "tokens": 0, "quarantined": 0, "torch_threads": 1, "error": ""}
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0})
    monkeypatch.setattr(
        ray_runner.RayRunner, "_rows", lambda self, step, left, needs_gpu: iter([{"task": min(left), **counts}])
    )
    tasks = [(Shard(at, at, ()),) for at in range(3)]
    for workers, told in ((None, "only 3 of 8 workers"), (4, "only 3 of 4 workers"), (3, "")):
        runner = ray_runner.RayRunner(plans[0], workers=workers, address=None, n_tasks=3)
        # A task comes back in each round.
        runner.run("score", tasks, done=0)
        runner.run("finish", tasks, done=0)
        said = capsys.readouterr().err
        assert said.count("can have work") == bool(told)
        assert told in said


@pytest.mark.slow
def test_finishing_runs_where_the_device_of_the_scores_is_not(
    write_jsonl: WriteJsonl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_lm: Path
) -> None:
    from euds.engine import ray_runner

    plans = planned(monkeypatch)
    euds.score(write_jsonl([{"text": "the film"}]), out=tmp_path / "run", measures=["generative"], lm=tiny_lm)
    plan = replace(plans[0], config=replace(plans[0].config, device="cuda"))
    task: dict[str, Any] = {"task": 3, "shards": []}
    assert ray_runner._Actor(plan, "finish")(task)["error"] == ""
    # Not in the constructor, where it would be a worker lost.
    assert "finds no CUDA device" in ray_runner._Actor(plan, "score")(task)["error"]


@pytest.mark.slow
def test_a_cluster_that_is_not_there_and_a_gpu_of_ones_own_are_named(write_jsonl: WriteJsonl, tmp_path: Path) -> None:
    corpus = write_jsonl([{"text": "the film"}])
    options: dict[str, Any] = {"measures": ["information"], "ray": True}
    with pytest.raises(InputError, match=r"ray: no cluster can be joined at auto: Could not find"):
        euds.score(corpus, out=tmp_path / "run", ray_address="auto", **options)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        # Bound, and not listening: the port is nobody else's.
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(InputError, match=rf"ray: no cluster can be joined at {address}: .*[Cc]onnection refused"):
            euds.score(corpus, out=tmp_path / "run", ray_address=address, **options)
    with pytest.raises(InvalidArgument, match=r"device: cuda:1 names one GPU of a host"):
        euds.score(corpus, out=tmp_path / "run", device="cuda:1", **options)


@pytest.mark.slow
def test_a_killed_actor_is_restarted_and_the_run_ends_by_itself(
    write_jsonl: WriteJsonl, make_texts: Texts, tmp_path: Path
) -> None:
    corpus = write_jsonl([{"text": text} for text in make_texts(1500, 5)])
    run_dir = tmp_path / "ray"
    process = subprocess.Popen(
        command(corpus, run_dir, "--measures", "information"), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    while process.poll() is None and len(list(run_dir.glob("work/tokens-*.arrow"))) < 20:
        time.sleep(0.005)
    actors = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if any("ray::MapWorker" in word for word in child.cmdline())
    ]
    actors[0].kill()
    n_done = len(list(run_dir.glob("work/tokens-*.arrow")))
    _, said = process.communicate()
    assert process.returncode == 0, said.decode()
    assert n_done < 94
    euds.score(corpus, out=tmp_path / "one", measures=["information"], shard_rows=16)
    assert digests(run_dir) == digests(tmp_path / "one")


TWO_RUNS = """
import gc, sys, threading, time
import euds, ray
small, large, out = sys.argv[1:]
# Ray ends a process in which the collector frees a reference while Ray itself is ended.
gc.disable()
end = ray.shutdown
def shutdown():
    references = ray._private.worker.global_worker.core_worker.get_all_reference_counts()
    assert not references, references
    end()
ray.shutdown = shutdown
def score(corpus, name):
    euds.score(corpus, out=f"{out}/{name}", measures=["information"], shard_rows=16, ray=True, workers=1)
    print(name)
threads = [threading.Thread(target=score, args=args) for args in ((small, "small"), (large, "large"))]
threads[0].start()
# Ray is that of the run with less to do.
while not ray.is_initialized(): time.sleep(0.01)
threads[1].start()
for thread in threads: thread.join()
assert not ray.is_initialized()
"""


@pytest.mark.slow
def test_of_two_runs_of_one_process_that_which_started_ray_ends_last(
    write_jsonl: WriteJsonl, make_texts: Texts, tmp_path: Path
) -> None:
    small = write_jsonl([{"text": text} for text in make_texts(20, 6)], "small.jsonl")
    large = write_jsonl([{"text": text} for text in make_texts(400, 7)], "large.jsonl")
    call = [sys.executable, "-c", TWO_RUNS, *map(str, (small, large, tmp_path))]
    done = subprocess.run(call, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == ["large", "small"]
    euds.score(large, out=tmp_path / "one", measures=["information"], shard_rows=16)
    assert digests(tmp_path / "large") == digests(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
def test_a_task_that_kills_each_of_its_workers_ends_the_run(
    write_jsonl: WriteJsonl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from euds.engine import ray_runner

    # Of this function, so that it travels to the workers as a whole.
    class Killed(ray_runner._Actor):
        def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
            if row["task"] == 3:
                os._exit(1)
            return super().__call__(row)

    monkeypatch.setattr(ray_runner, "_Actor", Killed)
    corpus = write_jsonl([{"text": "the film"}] * 64)
    options: dict[str, Any] = {"measures": ["information"], "shard_rows": 16, "ray": True, "workers": 2}
    with pytest.raises(RunStopped, match="3 times in a row every task was lost with its worker"):
        euds.score(corpus, out=tmp_path / "run", **options)
    # An actor takes two tasks at a time, and the other one may be lost with the last each time.
    assert len(list(Work(tmp_path / "run").folder.glob("tokens-*.arrow"))) in (2, 3)


@pytest.mark.slow
def test_a_defect_in_an_actor_comes_back_with_its_traceback(
    write_jsonl: WriteJsonl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from euds.engine import ray_runner

    plans = planned(monkeypatch)
    euds.score(write_jsonl([{"text": "the film"}]), out=tmp_path / "run", measures=["information"])
    found = ray_runner._Actor(plans[0], "score")({"task": 5, "shards": [{"no": "shard"}]})
    assert (found["task"], found["kind"]) == (5, "RuntimeError")
    assert "Traceback" in found["error"]


def test_without_ray_the_error_names_the_extra(
    write_jsonl: WriteJsonl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "euds.engine.ray_runner", raising=False)
    corpus = write_jsonl([{"text": "the film was sad"}])
    with pytest.raises(BackendUnavailable, match=r"pip install '\.\[ray\]'"):
        euds.score(corpus, out=tmp_path / "run", measures=["information"], ray=True)
