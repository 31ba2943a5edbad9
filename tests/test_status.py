"""Status tells the truth of a run that goes on, stopped, finished or is damaged."""

import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

import euds
from euds.engine.records import Record, Records
from euds.engine.status import RunStatus, run_status
from euds.engine.work import Work
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
    from euds.engine.worker import Worker

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


def measured(run_dir: Path, times: list[float], n_shards: int) -> Path:
    """Make a run of shards of 10 rows each, of which some were measured at the given seconds."""
    manifest = {
        "finished": None,
        "fingerprint": {},
        "inputs": [{"rows": 10 * n_shards}],
        "config": {"shard_rows": 10, "measures": ["information"], "semantic": []},
    }
    run_dir.mkdir()
    (run_dir / "manifest.json").write_text(json.dumps(manifest))
    for shard, at in enumerate(times):
        path = Work(run_dir).path("tokens", shard)
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (at, at))
    return run_dir


@pytest.mark.parametrize(
    ("times", "rate"),
    [
        ([*range(0, 100, 10), *range(80_000, 80_100, 10)], 1.0),
        # Two workers that end at the same times.
        ([0, 0.1, 10, 10.1, 20, 20.1, 30, 30.1, 40], 2.0),
        ([0, 1000], 0.01),
        ([5], None),
    ],
)
def test_the_rate_leaves_a_pause_out(tmp_path: Path, times: list[float], rate: float | None) -> None:
    status = run_status(measured(tmp_path / "run", times, 40))
    assert status.rows_per_second == (None if rate is None else pytest.approx(rate))
    assert status.eta_seconds == (None if rate is None else pytest.approx((400 - 10 * len(times)) / rate))


def test_a_run_that_only_finishes_has_no_time_left_to_measure(tmp_path: Path) -> None:
    status = run_status(measured(tmp_path / "run", [0, 10, 20], 3))
    assert (status.n_measured, status.eta_seconds) == (30, None)
    assert "left" not in str(status)


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
        with pytest.raises(InputError, match=r"manifest\.json: is no run's manifest; start over with --force-new"):
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
