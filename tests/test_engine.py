"""However a run is carried out, its parts are the same bytes; what is damaged is found; status tells the truth."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_score_resume import digests

import euds
from euds.corpus import part_files
from euds.engine.config import score_config
from euds.engine.execution import Execution
from euds.engine.prepare import Plan, prepare
from euds.engine.score import execute
from euds.engine.shards import cut_shards, largest_task, tasks
from euds.engine.split import Split
from euds.engine.status import run_status
from euds.engine.work import RESULT_FOLDERS, Work
from euds.errors import InputError, InvalidArgument, RunStopped

WriteJsonl = Callable[..., Path]
Texts = Callable[[int, int], list[str]]
INFORMATION: dict[str, Any] = {"measures": ["information"], "shard_rows": 16}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_pieces_of_a_split_run_make_the_whole(
    corpus: Path, whole: Path, tmp_path: Path, order: tuple[int, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    results = [euds.score(corpus, out=tmp_path / "split", split=f"{piece}/3", **INFORMATION) for piece in order]
    assert [result.n_scored for result in results[:2]] == [0, 0]
    assert results[2].n_scored == 150
    assert "the piece that ends last completes the run" in capsys.readouterr().err
    assert digests(tmp_path / "split") == digests(whole)


def test_a_job_array_names_the_piece() -> None:
    array = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_COUNT": "4"}
    assert Split.of("slurm", array) == Split(2, 4)
    with pytest.raises(InvalidArgument, match="SLURM_ARRAY_TASK_MIN is not set"):
        Split.of("slurm", {})
    stepped = {**array, "SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_STEP": "2", "SLURM_ARRAY_TASK_MAX": "11"}
    assert Split.of("slurm", stepped) == Split(2, 4)
    for gaps in ({"MIN": "1", "ID": "3", "MAX": "7", "COUNT": "3"}, {"MIN": "0", "ID": "1", "COUNT": "3", "STEP": "2"}):
        with pytest.raises(InvalidArgument, match=r"without gaps \(--array=0-2\), or use --split I/N"):
            Split.of("slurm", {f"SLURM_ARRAY_TASK_{name}": value for name, value in gaps.items()})
    with pytest.raises(InvalidArgument, match="not numbered evenly"):
        Split.of("slurm", {**array, "SLURM_ARRAY_TASK_STEP": "0"})
    for name, value in (("STEP", ""), ("COUNT", "4.5")):
        with pytest.raises(
            InvalidArgument, match=r"split: of Slurm's SLURM_ARRAY_TASK_ variables, one is no number: .*'"
        ):
            Split.of("slurm", {**array, f"SLURM_ARRAY_TASK_{name}": value})
    for text in ("3/3", "-1/2", "a/b", "1", "0/0"):
        with pytest.raises(InvalidArgument, match="split:"):
            Split.of(text)


def test_two_of_the_same_piece_exclude_each_other_and_a_whole_run(corpus: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with Work(run_dir).locked(Split(0, 2)):
        for split in ("0/2", None):
            with pytest.raises(InputError, match="another process is scoring"):
                euds.score(corpus, out=run_dir, split=split, **INFORMATION)
        euds.score(corpus, out=run_dir, split="1/2", **INFORMATION)


def test_a_piece_waits_while_another_looks_whether_all_is_done(corpus: Path, whole: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    euds.score(corpus, out=run_dir, split="0/2", **INFORMATION)
    last = threading.Thread(target=euds.score, args=(corpus,), kwargs={"out": run_dir, "split": "1/2", **INFORMATION})
    with Work(run_dir).looking():
        last.start()
        last.join(1.0)
        assert last.is_alive()
    last.join()
    assert digests(run_dir) == digests(whole)


def test_pieces_of_other_settings_that_began_together_do_not_mix(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[Plan] = []
    with monkeypatch.context() as patched:
        patched.setattr("euds.engine.score.execute", lambda plan, *others: plans.append(plan))
        # Both find an empty directory.
        euds.score(corpus, out=tmp_path / "run", split="0/2", **INFORMATION)
        euds.score(corpus, out=tmp_path / "run", split="1/2", max_tokens=7, **INFORMATION)
    execute(plans[0], Execution(), Split(0, 2))
    with pytest.raises(InputError, match="max_tokens"):
        execute(plans[1], Execution(), Split(1, 2))


def test_what_killed_processes_left_half_written_is_swept_away(tmp_path: Path) -> None:
    work = Work(tmp_path)
    ending = "1-0123456789abcd.partial"
    left = [tmp_path / folder / f".part-00000.parquet.{ending}" for folder in RESULT_FOLDERS]
    left += [tmp_path / f".{name}.{ending}" for name in ("manifest.json", "quarantine.jsonl")]
    # A selection that is being written, and files of somebody's own.
    others = [tmp_path / name for name in (f".kept.parquet.{ending}", ".thesis.partial", "scores/.mine.1-2.partial")]
    for path in [*left, *others]:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with work.locked():
        assert not any(path.exists() for path in left)
        assert all(path.exists() for path in others)


def test_parts_are_read_by_number(tmp_path: Path) -> None:
    (tmp_path / "scores").mkdir()
    entries = [{"part": f"part-{number:05d}.parquet", "rows": 1, "sha256": ""} for number in (10001, 2, 100000)]
    (tmp_path / "scores" / "_parts.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    names = [path.name for path in part_files(tmp_path)]
    assert names == ["part-00002.parquet", "part-10001.parquet", "part-100000.parquet"]


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_processes_write_the_same_bytes(corpus: Path, tmp_path: Path, tiny_lm: Path, tiny_encoder: Path) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        euds.score(
            corpus, out=tmp_path / name, lm=tiny_lm, embedder=tiny_encoder, shard_rows=16, n_clusters=4, workers=workers
        )
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_processes_die_with_their_parent_and_the_run_resumes(
    write_jsonl: WriteJsonl, make_texts: Texts, tmp_path: Path
) -> None:
    corpus = write_jsonl([{"text": text} for text in make_texts(4000, 5)])
    run_dir = tmp_path / "killed"
    command = [
        *(sys.executable, "-m", "euds", "score", str(corpus), "--out", str(run_dir)),
        *("--measures", "information", "--shard-rows", "16", "--workers", "2"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and len(list(run_dir.rglob("tokens-*.arrow"))) < 20:
        time.sleep(0.01)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while _members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _members(process.pid) == []
    assert run_status(run_dir).state == "stopped"
    euds.score(corpus, out=run_dir, measures=["information"], shard_rows=16)
    euds.score(corpus, out=tmp_path / "whole", measures=["information"], shard_rows=16)
    assert digests(run_dir) == digests(tmp_path / "whole")


def _members(session: int) -> list[int]:
    """Processes of a session that still run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, own = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(own) == session and state != "Z":
            found.append(int(folder.name))
    return found


def test_every_part_is_recorded_by_its_hash_and_a_damaged_one_is_found(corpus: Path, whole: Path) -> None:
    parts = [json.loads(line) for line in (whole / "scores" / "_parts.jsonl").read_text().splitlines()]
    assert [entry["part"] for entry in parts] == sorted(path.name for path in whole.glob("scores/*.parquet"))
    assert sum(entry["rows"] for entry in parts) == 152
    assert pq.read_table(whole / "scores").num_rows == 152
    part = whole / "scores" / parts[3]["part"]
    content = bytearray(part.read_bytes())
    content[40] ^= 1
    part.write_bytes(content)
    with pytest.raises(InputError, match=rf"{part.name}: missing or damaged; .*--force-new"):
        euds.score(corpus, out=whole, **INFORMATION)


def test_a_piece_that_is_repeated_while_another_finishes_measures_nothing_again(
    corpus: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from euds.engine import run
    from euds.engine.shards import Shard
    from euds.engine.worker import Worker

    run_dir = tmp_path / "run"
    euds.score(corpus, out=run_dir, split="0/2", **INFORMATION)
    look, read = run._unfinished, Worker.read
    seen: list[int] = []

    def looked(plan: Plan, work: Work, shards: Sequence[Shard]) -> list[Shard]:
        found = look(plan, work, shards)
        monkeypatch.setattr(run, "_unfinished", look)
        euds.score(corpus, out=run_dir, split="1/2", **INFORMATION)
        return found

    def reading(self: Worker, shard: Shard) -> None:
        seen.append(shard.index)
        read(self, shard)

    monkeypatch.setattr(run, "_unfinished", looked)
    monkeypatch.setattr(Worker, "read", reading)
    euds.score(corpus, out=run_dir, split="0/2", **INFORMATION)
    assert set(seen) == {1, 3, 5, 7, 9}
    assert digests(run_dir) == digests(whole)


@pytest.mark.parametrize("splits", [[None], ["0/2", "1/2"], ["1/2", "0/2"]])
def test_a_part_that_was_damaged_or_lost_before_the_end_is_written_again(
    corpus: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, splits: list[str | None]
) -> None:
    run_dir = tmp_path / "run"

    def full(*arguments: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("euds.engine.score.write_finished", full)
        with pytest.raises(OSError, match="no space left"):
            euds.score(corpus, out=run_dir, **INFORMATION)
    status = run_status(run_dir)
    assert (status.state, status.n_finished, status.quarantine["field 'text' is null"]) == (
        "stopped",
        152,
        1,
    )
    (run_dir / "scores" / "part-00002.parquet").write_bytes(b"PAR1")
    (run_dir / "scores" / "part-00005.parquet").unlink()
    (run_dir / "scores" / ".part-00009.parquet.1-0123456789abcd.partial").write_bytes(b"half")
    for split in splits:
        euds.score(corpus, out=run_dir, split=split, **INFORMATION)
    assert digests(run_dir) == digests(whole)


def test_a_task_that_is_repeated_after_its_process_died_finds_nothing_left(
    corpus: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from euds.engine.shards import Shard
    from euds.engine.worker import Worker

    real = Worker.finish

    def twice(self: Worker, shard: Shard) -> int:
        assert real(self, shard) == shard.n_rows
        return real(self, shard)

    monkeypatch.setattr(Worker, "finish", twice)
    euds.score(corpus, out=tmp_path / "run", **INFORMATION)
    assert digests(tmp_path / "run") == digests(whole)


@pytest.mark.parametrize("sweeps", [False, True])
def test_a_shard_that_another_piece_finishes_meanwhile_is_left_alone(
    corpus: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sweeps: bool
) -> None:
    from euds.engine import worker
    from euds.engine.finish import finish_shard
    from euds.engine.records import Record, Records

    def another(plan: Plan, shard: int) -> None:
        monkeypatch.setattr(worker, "finish_shard", finish_shard)
        (same,) = [found for found in cut_shards(plan.files, 16) if found.index == shard]
        worker.Worker(plan).finish(same)

    def late(plan: Plan, work: Work, shard: int, pool: Any) -> Any:
        if sweeps:
            record = finish_shard(plan, work, shard, pool)
            another(plan, shard)
            return record
        another(plan, shard)
        return finish_shard(plan, work, shard, pool)

    written: list[int] = []
    write = Records.write

    def swept(self: Records, record: Record) -> None:
        written.append(record.shard)
        if sweeps and len(written) == 2:
            # What the sweep of the other, which came first, makes of the file that the record is written into.
            raise FileNotFoundError("half-written, and swept away")
        write(self, record)

    monkeypatch.setattr(Records, "write", swept)
    monkeypatch.setattr(worker, "finish_shard", late)
    euds.score(corpus, out=tmp_path / "run", **INFORMATION)
    assert written[0] == written[1] or not sweeps
    assert digests(tmp_path / "run") == digests(whole)


def test_a_run_without_a_record_of_every_row_does_not_end(
    corpus: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        # As where a worker writes into a folder of its own.
        patched.setattr("euds.engine.run._finish", lambda *arguments: None)
        with pytest.raises(RunStopped, match="records of 0 of 152 rows; every worker must see this folder"):
            euds.score(corpus, out=tmp_path / "run", **INFORMATION)
    euds.score(corpus, out=tmp_path / "run", **INFORMATION)
    assert digests(tmp_path / "run") == digests(whole)


def test_the_users_id_is_carried_along(corpus: Path, tmp_path: Path) -> None:
    euds.score(corpus, out=tmp_path / "run", id_field="uid", **INFORMATION)
    ids = pq.read_table(tmp_path / "run" / "scores").column("id").to_pylist()
    assert ids[:9] == ["u0", "u1", "u2", "u3", "u4", "u5", "u6", "bad", None]
    with pytest.raises(InputError, match=r"unknown field 'uidd' \(did you mean 'uid'\?\)"):
        euds.score(corpus, out=tmp_path / "other", id_field="uidd", **INFORMATION)


def test_an_unchanged_corpus_is_not_hashed_again_and_a_changed_one_is_refused(
    corpus: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("euds.corpus.identity.file_sha256", lambda path, advance: pytest.fail("hashed again"))
        euds.score(corpus, out=whole, **INFORMATION)
    text = corpus.read_text()
    corpus.write_text(text)
    euds.score(corpus, out=whole, **INFORMATION)
    with monkeypatch.context() as patched:
        patched.setattr("euds.corpus.identity.file_sha256", lambda path, advance: pytest.fail("hashed a second time"))
        euds.score(corpus, out=whole, **INFORMATION)
    corpus.write_text(text[:-20] + text[-20:].swapcase())
    with pytest.raises(InputError, match=r"inputs\[0\]\.sha256"):
        euds.score(corpus, out=whole, **INFORMATION)


def test_shards_are_cut_by_rows_and_compressed_files_stay_together(corpus: Path, tmp_path: Path) -> None:
    import gzip

    packed = tmp_path / "more.jsonl.gz"
    packed.write_bytes(gzip.compress(corpus.read_bytes()))
    shards = list(cut_shards([corpus, packed], 40))
    assert [shard.n_rows for shard in shards] == [40] * 7 + [24]
    assert [shard.first_row_id for shard in shards] == list(range(0, 304, 40))
    assert [[shard.index for shard in task] for task in tasks(shards)] == [[0], [1], [2], [3], [4, 5, 6, 7]]
    # What is left of a run that goes on: a shard behind one that is done reads again what is before it.
    left = [shards[at] for at in (4, 6, 7)]
    assert [[shard.index for shard in task] for task in tasks(left)] == [[4], [6, 7]]


@pytest.mark.parametrize(("device", "rows"), [("cpu", 1024), ("cuda:1", 8192)])
def test_a_plan_for_a_gpu_or_without_a_model_has_larger_shards(
    device: str, rows: int, corpus: Path, tiny_lm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("euds.engine.prepare._precision", lambda config: {"device": device, "dtype": "float32"})
    config = score_config(corpus, measures=["generative"], lm=tiny_lm)
    assert prepare(config, tmp_path / "run").config.shard_rows == rows
    assert prepare(score_config(corpus, measures=["information"]), tmp_path / "run").config.shard_rows == 8192


def test_each_compressed_file_is_a_task_of_its_own(corpus: Path, tmp_path: Path) -> None:
    import gzip

    packed = [tmp_path / f"{at}.jsonl.gz" for at in range(3)]
    for path in packed:
        path.write_bytes(gzip.compress(corpus.read_bytes()))
    # 152 rows a file: shards 3 and 7 lie in two files.
    shards = list(cut_shards(packed, 40))
    assert [[shard.index for shard in task] for task in tasks(shards)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_a_file_is_asked_once_whether_it_can_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"text": ["a film"] * 100}), tmp_path / "a.parquet")
    asked: list[Path] = []

    def answer(file: Path) -> bool:
        asked.append(file)
        return True

    monkeypatch.setattr("euds.engine.shards.splittable", answer)
    shards = list(cut_shards([tmp_path / "a.parquet"], 10))
    assert list(tasks(shards)) == [(shard,) for shard in shards]
    assert asked == [tmp_path / "a.parquet"]
    assert largest_task([tmp_path / "a.parquet"], [sum(shard.n_rows for shard in shards)], 10) == 10
    assert asked == 2 * [tmp_path / "a.parquet"]


def test_impossible_ways_of_running_are_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="workers: must be at least 1"):
        euds.score(corpus, out=tmp_path / "run", workers=0, **INFORMATION)
    with pytest.raises(InvalidArgument, match="split: goes neither"):
        euds.score(corpus, out=tmp_path / "run", split="0/2", ray=True, **INFORMATION)
    with pytest.raises(InvalidArgument, match="ray_address: auto is of use on Ray only"):
        euds.score(corpus, out=tmp_path / "run", ray_address="auto", **INFORMATION)
    samples = euds.SampleSettings(n_generations=2)
    with pytest.raises(InvalidArgument, match="measures: generations and label words are of semantic entropy"):
        euds.score(corpus, out=tmp_path / "run", semantic="samples", samples=samples, **INFORMATION)
    assert not (tmp_path / "run").exists()
