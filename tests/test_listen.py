"""A caller's own front end gets progress and messages, and nothing is shown."""

import errno
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from test_score_resume import digests
from upath import UPath

import euds
from euds.engine import process_runner
from euds.progress import say

WriteJsonl = Callable[..., Path]
Texts = Callable[[int, int], list[str]]
Event = euds.StepProgress | euds.Message


class Cancelled(Exception):
    """What a front end raises to end a call."""


@pytest.fixture
def settings(write_jsonl: WriteJsonl, make_texts: Texts) -> dict[str, Any]:
    rows: list[object] = [{"text": text} for text in make_texts(50, 3)]
    return {"inputs": write_jsonl([*rows, {"text": None}]), "measures": "information", "shard_rows": 10}


def steps(events: list[Event], title: str) -> list[euds.StepProgress]:
    return [event for event in events if isinstance(event, euds.StepProgress) and event.title == title]


def messages(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, euds.Message)]


@pytest.mark.parametrize("workers", [None, 2])
def test_a_run_tells_how_far_it_is_and_shows_nothing(
    settings: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str], workers: int | None
) -> None:
    events: list[Event] = []
    with euds.listen(events.append):
        euds.score(**settings, out=tmp_path / "run", workers=workers, n_clusters=4)
    assert capfd.readouterr() == ("", "")
    for title in ("score", "finish"):
        told = steps(events, title)
        assert [event.total for event in told] == [51] * len(told)
        assert told[0].done == 0
        assert [event.done for event in told] == sorted(event.done for event in told)
        assert told[-1].done == 51
    assert steps(events, "score")[0].seconds_left is None
    assert steps(events, "score")[-1].seconds_left == 0
    assert messages(events) == ["warning: no measure of this run uses: n_clusters"]
    # Outside it all is as before.
    euds.score(**settings, out=tmp_path / "other", n_clusters=4)
    assert "warning: no measure of this run uses: n_clusters" in capfd.readouterr().err
    assert len(messages(events)) == 1


def test_what_a_listener_raises_ends_the_run_which_resumes(settings: dict[str, Any], tmp_path: Path) -> None:
    euds.score(**settings, out=tmp_path / "whole")

    def cancel(event: Event) -> None:
        if isinstance(event, euds.StepProgress) and event.done >= 20:
            raise Cancelled

    for workers in (None, 2):
        run_dir = tmp_path / f"run-{workers}"
        with euds.listen(cancel), pytest.raises(Cancelled):
            euds.score(**settings, out=run_dir, workers=workers)
        assert 20 <= euds.status(run_dir).n_measured < 51
        euds.score(**settings, out=run_dir)
        assert digests(run_dir) == digests(tmp_path / "whole")


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "own"), ConnectionResetError(errno.ECONNRESET, "own"), KeyError()]
)
def test_an_error_of_the_listeners_own_is_none_of_the_machines(
    settings: dict[str, Any], tmp_path: Path, error: Exception
) -> None:
    def fails(event: Event) -> None:
        raise error

    heard: list[Event] = []
    for step in ("score", "finish"):

        def fails_in(event: Event, step: str = step) -> None:
            heard.append(event)
            if isinstance(event, euds.StepProgress) and event.title == step:
                with euds.listen(fails):
                    say("to an inner listener")

        with pytest.raises(type(error)) as raised, euds.listen(fails_in):
            euds.score(**settings, out=tmp_path / "run")
        assert raised.value is error
    assert {event.title for event in heard if isinstance(event, euds.StepProgress)} == {"score", "finish"}
    assert euds.score(**settings, out=tmp_path / "run").n_rows == 51


def test_what_a_listener_raises_while_a_remote_file_is_hashed_is_no_error_of_the_store(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("euds.progress.WORTH_A_BAR", 0)
    remote = UPath("memory://listened/a.jsonl")
    remote.write_bytes(Path(settings["inputs"]).read_bytes())

    def cancel(event: Event) -> None:
        if isinstance(event, euds.StepProgress) and event.title.startswith("hash") and event.done > 0:
            raise Cancelled

    with euds.listen(cancel), pytest.raises(Cancelled):
        euds.score(**{**settings, "inputs": str(remote)}, out=tmp_path / "run")


def test_calls_in_two_threads_have_their_own_listeners(settings: dict[str, Any], tmp_path: Path) -> None:
    heard: dict[str, list[Event]] = {"a": [], "b": []}

    def call(name: str) -> None:
        with euds.listen(heard[name].append):
            euds.score(**settings, out=tmp_path / name, seed=len(heard))

    threads = [threading.Thread(target=call, args=(name,)) for name in heard]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for events in heard.values():
        assert [event.done for event in steps(events, "score")] == [0, 10, 20, 30, 40, 50, 51]


@pytest.mark.parametrize("workers", [None, 2])
def test_what_a_process_or_thread_of_the_run_says_is_told(
    write_jsonl: WriteJsonl,
    make_texts: Texts,
    tmp_path: Path,
    tiny_lm: Path,
    capfd: pytest.CaptureFixture[str],
    workers: int | None,
) -> None:
    corpus = write_jsonl([{"text": text} for text in make_texts(12, 3)])
    settings: dict[str, Any] = {"measures": "generative", "lm": tiny_lm, "cache": tmp_path / "cache", "shard_rows": 6}
    events: list[Event] = []
    with euds.listen(events.append):
        euds.score(corpus, out=tmp_path / "run", **settings)
    assert steps(events, "score")[-1].note.endswith(" tokens/s, 0 quarantined")
    segments = list((tmp_path / "cache").glob("generative-*/*.parquet"))
    for segment in segments:
        segment.write_bytes(b"damaged")
    events.clear()
    capfd.readouterr()
    with euds.listen(events.append):
        euds.score(corpus, out=tmp_path / "again", **settings, workers=workers)
    told = {text.partition(": damaged, removed from the cache: ")[0] for text in messages(events)}
    assert told == {f"warning: {segment}" for segment in segments}
    assert "damaged" not in capfd.readouterr().err


def test_what_a_process_says_before_its_task_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(worker: object, step: str, task: object) -> None:
        process_runner._keep(euds.Message("warning: first"))
        raise euds.InputError("corpus.jsonl: changed")

    monkeypatch.setattr(process_runner, "_worker", object())
    monkeypatch.setattr(process_runner, "_said", [])
    monkeypatch.setattr(process_runner, "run_task", fails)
    with pytest.raises(euds.InputError) as failed:
        process_runner._run("score", ())
    # As it comes from the other process.
    future: Future[process_runner.Done] = Future()
    future.set_exception(pickle.loads(pickle.dumps(failed.value)))
    events: list[Event] = []
    with euds.listen(events.append), pytest.raises(euds.InputError, match=r"corpus.jsonl: changed"):
        process_runner._counts(future)
    assert messages(events) == ["warning: first"]


def test_a_message_is_shown_as_it_is(
    settings: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    euds.score(**settings, out=tmp_path / "[bold]run", dry_run=True)
    assert f"into {tmp_path}/[bold]run: " in capfd.readouterr().err
