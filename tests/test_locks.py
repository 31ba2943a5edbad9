"""A run directory belongs to one run at a time, whoever looks at it, starts over or is killed meanwhile."""

import errno
import fcntl
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

import euds
from euds.engine.cache_upkeep import _locked
from euds.engine.forget import forget
from euds.engine.split import Split
from euds.engine.status import run_status
from euds.engine.work import REMOVED, Work
from euds.errors import InputError
from euds.files import atomic_path
from euds.study.grid.run import _alone
from euds.study.types import CellResult

WriteJsonl = Callable[..., Path]
INFORMATION: dict[str, Any] = {"measures": ["information"], "shard_rows": 8}


@pytest.fixture
def corpus(write_jsonl: WriteJsonl) -> Path:
    return write_jsonl([{"text": f"film {at}"} for at in range(40)])


@pytest.fixture
def stopped(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped before its end."""
    with monkeypatch.context() as patched:
        patched.setattr("euds.engine.score.write_finished", _killed)
        with pytest.raises(KeyboardInterrupt):
            euds.score(corpus, out=tmp_path / "run", **INFORMATION)
    return tmp_path / "run"


def _killed(*arguments: object) -> None:
    raise KeyboardInterrupt


def snapshot(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_locks_are_had_where_files_share_none_that_are_not_read(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock

    def as_on_nfs(handle: Any, kind: int) -> None:
        if kind & fcntl.LOCK_SH and not handle.readable():
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        real(handle, kind)

    monkeypatch.setattr(fcntl, "flock", as_on_nfs)
    for piece in range(2):
        euds.score(corpus, out=tmp_path / "run", split=f"{piece}/2", **INFORMATION)
    assert run_status(tmp_path / "run").state == "finished"


def test_a_file_system_without_locks_is_named(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*arguments: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", without)
    with pytest.raises(InputError, match=r"lock: no lock can be had there \(Function not implemented\); .* flock"):
        euds.score(corpus, out=tmp_path / "run", **INFORMATION)


def test_status_changes_nothing(stopped: Path) -> None:
    (stopped / "scores" / ".part-00009.parquet.1-0123456789abcd.partial").write_bytes(b"of another run that writes")
    before = snapshot(stopped)
    assert run_status(stopped).state == "stopped"
    assert snapshot(stopped) == before
    Work(stopped).remove_left()
    assert run_status(stopped).state == "stopped"
    assert not (stopped / "work").exists()


@pytest.mark.parametrize("split", [None, Split(0, 2)])
def test_status_sees_who_holds_the_lock(stopped: Path, split: Split | None) -> None:
    with Work(stopped).locked(split):
        assert run_status(stopped).state == "running"
    assert run_status(stopped).state == "stopped"


@pytest.mark.parametrize("split", [None, Split(0, 2)])
def test_a_start_waits_for_one_that_only_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: Split | None
) -> None:
    work = Work(tmp_path)
    with work.locked(split):
        pass
    name = "lock" if split is None else "lock-0-of-2"
    with (work.folder / name).open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        with pytest.raises(InputError, match="another process"), work.locked(split):
            pass
        monkeypatch.setattr("euds.engine.work.time.sleep", lambda seconds: fcntl.flock(looking, fcntl.LOCK_UN))
        with work.locked(split):
            pass


def test_starting_over_lets_nobody_in_before_all_is_deleted(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Work.remove
    seen = []

    def refused(work: Work) -> None:
        with pytest.raises(InputError, match="another process"), Work(stopped).locked():
            pass
        seen.append(work)
        real(work)

    monkeypatch.setattr(Work, "remove", refused)
    forget(stopped)
    assert len(seen) == 1
    assert list(stopped.iterdir()) == []


def test_the_lock_of_a_folder_that_was_deleted_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, other = Work(tmp_path), Work(tmp_path)
    real = fcntl.flock
    removals = iter([True])

    def removed_before(handle: Any, kind: int) -> None:
        if next(removals, False):
            other.remove()
        real(handle, kind)

    monkeypatch.setattr("euds.engine.work.fcntl.flock", removed_before)
    with work.locked(), pytest.raises(InputError, match="another process"), other.locked():
        pass


# Of Python from 3.12 on, where the process has threads.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("name", ["run", "cache", "study"])
def test_a_child_that_is_forked_meanwhile_does_not_keep_the_lock(tmp_path: Path, name: str) -> None:
    def lock() -> AbstractContextManager[None]:
        if name == "run":
            return Work(tmp_path).locked()
        return _locked(tmp_path) if name == "cache" else _alone(tmp_path / "lock")

    with lock():
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    try:
        path = tmp_path / "work" / "lock" if name == "run" else tmp_path / "lock"
        with path.open() as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_does_not_let_go_of_its_parents_lock(tmp_path: Path) -> None:
    lock = Work(tmp_path).locked()
    with lock:
        child = os.fork()
        if child == 0:
            # As where it unwinds the stack that it was forked on.
            lock.__exit__(None, None, None)
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(InputError, match="another process"), Work(tmp_path).locked():
            pass


def test_a_folder_that_was_half_deleted_is_deleted_by_the_next_command(corpus: Path, stopped: Path) -> None:
    (stopped / "work").rename(stopped / REMOVED)
    (stopped / "manifest.json").unlink()
    euds.score(corpus, out=stopped, force_new=True, **INFORMATION)
    (stopped / REMOVED).mkdir()
    euds.score(corpus, out=stopped, **INFORMATION)
    assert not (stopped / REMOVED).exists()
    assert not (stopped / "work").exists()


def test_a_finished_run_leaves_alone_what_is_being_written_into_its_directory(corpus: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    euds.score(corpus, out=run_dir, **INFORMATION)
    (run_dir / "work").mkdir()
    (run_dir / "work" / "notes.txt").write_text("mine")
    with atomic_path(run_dir / "selected.parquet") as partial:
        partial.write_bytes(b"rows")
        euds.score(corpus, out=run_dir, **INFORMATION)
    assert (run_dir / "selected.parquet").read_bytes() == b"rows"
    assert [path.name for path in (run_dir / "work").iterdir()] == ["notes.txt"]


def test_pieces_of_another_count_are_refused_while_one_is_at_work(corpus: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with Work(run_dir).locked(Split(1, 3)):
        with pytest.raises(InputError, match=r"piece 1/3 is being scored .*--split I/3"):
            euds.score(corpus, out=run_dir, split="0/2", **INFORMATION)
        euds.score(corpus, out=run_dir, split="0/3", **INFORMATION)
    for piece in ("0/2", "1/2"):
        found = euds.score(corpus, out=run_dir, split=piece, **INFORMATION)
    assert found.n_scored == 40
    assert not (run_dir / "work").exists()


def test_two_recipes_do_not_train_in_one_directory(
    corpus: Path, write_jsonl: WriteJsonl, tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": f"film {at}", "label": at % 2} for at in range(40)]
    run_dir = tmp_path / "run"
    recipe: dict[str, Any] = {
        "out": str(run_dir),
        "seeds": 1,
        "data": {"train": str(write_jsonl(rows, "pool.jsonl")), "test": str(write_jsonl(rows[:9], "test.jsonl"))},
        "score": {"measures": ["information"]},
        "select": {"keep": 0.5, "methods": ["information"]},
        "train": {"model": str(tiny_encoder), "steps": 1},
        "report": False,
    }
    trained = []

    def train(chosen: Sequence[object], test: Sequence[object], *, seed: int, **named: object) -> CellResult:
        trained.append(chosen)
        for other in (
            lambda: euds.run(recipe),
            lambda: euds.score(corpus, out=run_dir, force_new=True, measures=["information"]),
        ):
            with pytest.raises(
                InputError, match=r"run: another process is scoring .*or a recipe goes on there; let it end"
            ):
                other()
        return CellResult({"accuracy": 0.5}, 1.0, len(chosen), len(test), 1, seed)

    monkeypatch.setattr("euds.study.cell.train_and_test", train)
    first = euds.run(recipe)
    assert not (run_dir / "work").exists()
    second = euds.run(recipe)
    assert first is not None
    assert second is not None
    assert [row.metrics for row in second.table.methods] == [row.metrics for row in first.table.methods]
    assert len(trained) == 1
    assert sorted(path.name for path in run_dir.iterdir()) == [
        *("data", "manifest.json", "quarantine.jsonl", "scores", "selected.parquet", "selection.json", "study"),
    ]
