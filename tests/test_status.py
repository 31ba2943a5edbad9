"""Status tells the truth of a run that goes on, stopped, finished or is damaged."""

import json
import os
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import euds
from euds.corpus.run_files import COUNTS
from euds.engine.manifest import write_finished
from euds.engine.pool import fit_pool
from euds.engine.records import Record, Records
from euds.engine.split import Split
from euds.engine.status import RunStatus, run_status
from euds.engine.work import Work
from euds.engine.worker import Worker
from euds.errors import InputError

INFORMATION: dict[str, Any] = {"measures": ["information"], "shard_rows": 16}


def test_status_of_a_finished_run_and_of_none(whole: Path, tmp_path: Path) -> None:
    status = run_status(whole)
    assert (status.state, status.n_rows, status.n_finished, status.rows_per_second) == ("finished", 152, 152, None)
    assert dict(status.quarantine) == {"field 'text' is null": 1, "not a JSON object but str": 1}
    assert "152 of 152 rows = 150 scored + 2 quarantined" in str(status)
    with pytest.raises(InputError, match="not a run directory"):
        run_status(tmp_path)


def test_status_of_a_running_run_has_a_rate(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Worker.score_shard

    def slow(self: Worker, shard: object, advance: object) -> int:
        time.sleep(0.02)
        rows = real(self, shard, advance)  # type: ignore[arg-type]
        seen.append(run_status(tmp_path / "run"))
        return rows

    seen: list[RunStatus] = []
    monkeypatch.setattr(Worker, "score_shard", slow)
    euds.score(corpus, out=tmp_path / "run", **INFORMATION)
    # Shards end side by side, so that no given number of them need ever be seen.
    status = next(status for status in reversed(seen) if status.n_measured < 152)
    assert status.state == "running"
    assert status.n_measured >= 2 * 16
    assert status.rows_per_second is not None
    assert status.rows_per_second > 0
    assert "left" in str(status)


def measured(run_dir: Path, times: Sequence[float], n_shards: int, began: Mapping[str, float] | None = None) -> Path:
    """Make a run of shards of 10 rows each, of which some were measured at the given seconds.

    Args:
        run_dir: to make.
        times: when each of the first shards was.
        n_shards: of the run.
        began: when the steps, and pieces of them, last began.
    """
    manifest = {
        "format": 1,
        "finished": None,
        "fingerprint": {},
        "inputs": [{"rows": 10 * n_shards}],
        "config": {"shard_rows": 10, "measures": ["information"], "semantic": []},
    }
    run_dir.mkdir()
    (run_dir / "manifest.json").write_text(json.dumps(manifest))
    work = Work(run_dir)
    work.folder.mkdir()
    for shard, at in enumerate(times):
        touch(work.path("tokens", shard), at)
    for name, at in (began or {}).items():
        touch(work.folder / f"began-{name}", at)
    return run_dir


def touch(path: Path, at: float) -> None:
    path.touch()
    os.utime(path, (at, at))


HOUR = 3600
BURSTS = [200 * burst + 0.2 * worker for burst in range(1, 4) for worker in range(16)]
WITH_PAUSES = [start + 10 * shard for start in (0, HOUR, 3 * HOUR) for shard in range(1, 6)]


@pytest.mark.parametrize(
    ("times", "start", "rate"),
    [
        ([10, 20, 30, 40], 0, 1.0),
        # The first shard of a model that was loaded before it.
        ([40], 0, 0.25),
        (BURSTS, 0, 48 * 10 / 603),
        (BURSTS[:20], 0, 20 * 10 / 400.6),
        (WITH_PAUSES, 3 * HOUR, 1.0),
        ([*WITH_PAUSES, 3 * HOUR + 60, 3 * HOUR + 60], 3 * HOUR, 7 * 10 / 60),
        # Nothing since it was resumed, or begun by a version that left no word of it.
        (WITH_PAUSES, 4 * HOUR, None),
        (WITH_PAUSES, None, None),
    ],
)
def test_the_rate_is_that_since_the_run_last_began(
    tmp_path: Path, times: list[float], start: float | None, rate: float | None
) -> None:
    began = {} if start is None else {"score": start}
    status = run_status(measured(tmp_path / "run", times, 100, began))
    assert status.rows_per_second == (None if rate is None else pytest.approx(rate))
    assert status.eta_seconds == (None if rate is None else pytest.approx((1000 - 10 * len(times)) / rate))


@pytest.mark.parametrize(
    ("times", "rate"),
    [
        # The second piece begins at 1000 s; the first one's next shard is no more than the end of one begun before.
        (range(5, 996, 10), 100 * 10 / 995),
        ([*range(5, 996, 10), 1005], 101 * 10 / 1005),
        ([*range(5, 996, 10), 1005, 1010], 2.0),
        ([*range(5, 1996, 10), *range(1010, 2001, 10)], 2.0),
    ],
)
def test_the_rate_of_pieces_is_that_since_the_last_of_them_began(
    tmp_path: Path, times: Sequence[float], rate: float
) -> None:
    # A third one ran the day before, and none of its beginning counts.
    began = {"score-0-of-3": 0, "score-1-of-3": 1000, "score-2-of-3": -24 * HOUR}
    run_dir = measured(tmp_path / "run", times, 400, began)
    with Work(run_dir).locked(Split(0, 3)), Work(run_dir).locked(Split(1, 3)):
        status = run_status(run_dir)
    assert status.state == "running"
    assert status.rows_per_second == pytest.approx(rate, rel=0.01)


def test_whoever_begins_to_work_leaves_word_of_it(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(tmp_path / "run")

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    def began() -> list[str]:
        return sorted(path.name for path in work.folder.glob("began-*"))

    for piece in range(2):
        euds.score(corpus, out=work.run_dir, split=f"{piece}/3", **INFORMATION)
    assert began() == ["began-score-0-of-3", "began-score-1-of-3"]
    touch(work.folder / "began-score-0-of-3", 0)
    # Nothing is left to do for it, and it does not begin.
    euds.score(corpus, out=work.run_dir, split="0/3", **INFORMATION)
    assert min(work.began("score")) == 0
    with monkeypatch.context() as patched:
        patched.setattr("euds.engine.score.write_finished", killed)
        with pytest.raises(KeyboardInterrupt):
            euds.score(corpus, out=work.run_dir, **INFORMATION)
    assert began() == ["began-finish", "began-score"]
    euds.score(corpus, out=work.run_dir, **INFORMATION)
    assert not work.folder.exists()


def test_what_comes_after_the_last_row_is_measured_is_told(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[RunStatus] = []

    def watch(name: str, function: Callable[..., Any]) -> None:
        def watched(*arguments: Any) -> Any:
            seen.append(run_status(tmp_path / "run"))
            return function(*arguments)

        monkeypatch.setattr(name, watched)

    watch("euds.engine.run.fit_pool", fit_pool)
    watch("euds.engine.worker.Worker.finish", Worker.finish)
    watch("euds.engine.score.write_finished", write_finished)
    euds.score(corpus, out=tmp_path / "run", **INFORMATION)
    fit, *finish, gather = seen
    assert [status.step for status in seen] == ["fit", *["finish"] * 10, "gather"]
    assert [status.n_parts_finished for status in finish] == list(range(10))
    assert {status.n_parts for status in seen} == {10}
    assert {status.n_measured for status in seen} == {152}
    assert fit.rows_per_second is gather.rows_per_second is None
    assert "step: fitting the pool" in str(fit)
    assert "step: finishing the parts" in str(finish[4])
    assert "in 4 of 10 parts: 64 of 152 rows = " in str(finish[4])
    assert "step: gathering the records" in str(gather)


def test_the_rate_of_finishing_is_of_parts(tmp_path: Path) -> None:
    run_dir = measured(tmp_path / "run", [0, 10, 20, 30], 4, {"score": 0, "finish": 100})
    work = Work(run_dir)
    touch(work.folder / "pool.json", 90)
    for shard, at in ((0, 50), (1, 105)):
        work.records.write(Record(shard, 1, "", {**dict.fromkeys(COUNTS, 0), "rows": 10}, [], {}, {}, 0.0))
        touch(work.records.path(shard), at)
    status = run_status(run_dir)
    assert (status.step, status.rows_per_second, status.eta_seconds) == ("finish", 2.0, 10.0)
    assert "step: finishing the parts, 2.0 rows/s, 0:00:10 left" in str(status)


@pytest.mark.parametrize("gone", [False, True])
def test_a_run_that_ends_while_it_is_looked_at_is_finished(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    run_dir = tmp_path / "run"
    euds.score(corpus, out=run_dir, split="0/2", **INFORMATION)
    real = Records.read

    def ends(records: Records, shard: int) -> Record | None:
        monkeypatch.setattr(Records, "read", real)
        euds.score(corpus, out=run_dir, split="1/2", **INFORMATION)
        if gone:
            raise InputError("no such file")
        return real(records, shard)

    monkeypatch.setattr(Records, "read", ends)
    status = run_status(run_dir)
    assert (status.state, status.n_measured, status.n_finished) == ("finished", 152, 152)


def test_a_record_that_is_damaged_is_named(tmp_path: Path) -> None:
    run_dir = measured(tmp_path / "run", [0], 2)
    path = Work(run_dir).records.path(1)
    path.parent.mkdir()
    path.write_text("no json")
    with pytest.raises(InputError, match=r"part-00001\.json: not a JSON file"):
        run_status(run_dir)


def test_files_of_a_finished_run_that_are_gone_are_named(corpus: Path, whole: Path) -> None:
    for name in ("quarantine.jsonl", "scores/_parts.jsonl"):
        content = (whole / name).read_bytes()
        for damaged in (None, b"no json", b""):
            if damaged is None:
                (whole / name).unlink()
            elif name == "scores/_parts.jsonl":
                (whole / name).write_bytes(damaged)
            with pytest.raises(InputError, match=f"{name}: missing or damaged; .*--force-new"):
                euds.score(corpus, out=whole, **INFORMATION)
        if name == "quarantine.jsonl":
            with pytest.raises(InputError, match=f"{name}: missing or damaged"):
                run_status(whole)
        (whole / name).write_bytes(content)


@pytest.mark.parametrize("content", ["{}", "[]", '{"finished": null}'])
def test_a_file_that_is_no_manifest_is_named(corpus: Path, whole: Path, content: str) -> None:
    (whole / "manifest.json").write_text(content)
    for use in (
        lambda: run_status(whole),
        lambda: euds.score(corpus, out=whole, **INFORMATION),
        lambda: euds.select(whole, keep=0.5, rule="random"),
    ):
        with pytest.raises(InputError, match=r"manifest\.json: is no run's manifest; score into a new directory"):
            use()
    assert euds.score(corpus, out=whole, force_new=True, **INFORMATION).n_rows == 152


def test_of_quarantined_rows_no_more_than_a_shard_is_held(tmp_path: Path) -> None:
    def peak(n_shards: int) -> int:
        run_dir = measured(tmp_path / f"{n_shards}", [], n_shards)
        records = Work(run_dir).records
        for shard in range(n_shards):
            entries = [{"row_id": at, "file": "a.jsonl", "row": at, "reason": f"reason {at % 2}"} for at in range(1000)]
            counts = {"rows": 1000, "scored": 0, "quarantined": 1000, "truncated": 0, "tokens": 0}
            records.write(Record(shard, 1, "", counts, entries, {}, {}, 0.0))
        tracemalloc.start()
        status = run_status(run_dir)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert status.quarantine == {"reason 0": 500 * n_shards, "reason 1": 500 * n_shards}
        return most

    peak(1)
    assert peak(20) < 2 * peak(2)
