"""What is damaged of an unfinished run, as by a crash of the machine, is made anew; the scores are the same bytes."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sampled_runs import Sample
from test_score_resume import digests

import euds
from euds.engine.status import run_status
from euds.errors import InputError

BOTH: dict[str, Any] = {"semantic": ["clusters", "samples"], "n_clusters": 3}
"""Estimates of which one needs the pool, and the other keeps generations and meanings."""

INFORMATION: dict[str, Any] = {"measures": ["information"], "shard_rows": 16}
N_FINISHED = 4

Damage = Callable[[bytes], bytes | None]


def emptied(content: bytes) -> bytes:
    """Leave nothing."""
    return b""


def cut(content: bytes) -> bytes:
    """Leave the first half."""
    return content[: len(content) // 2]


def lost(content: bytes) -> None:
    """Delete the file."""


def flipped(content: bytes) -> bytes:
    """Turn one bit around."""
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]


def other(text: str) -> Damage:
    """Put this text in place of what a file holds."""
    return lambda content: text.encode()


def without_a_line(content: bytes) -> bytes:
    """Take the third line away."""
    lines = content.splitlines(keepends=True)
    return b"".join(lines[:2] + lines[3:])


@contextmanager
def killed_at(place: Any, name: str, n_calls: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a run be killed over the call after so many of a function, or method, at that place."""
    real = getattr(place, name)
    n_left = n_calls

    def killed(*arguments: Any) -> Any:
        nonlocal n_left
        n_left -= 1
        if n_left < 0:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(place, name, killed)
        with pytest.raises(KeyboardInterrupt):
            yield


def stopped(
    corpus: Path,
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    finishing: bool,
    settings: dict[str, Any] = INFORMATION,
) -> Path:
    """Leave a run that was killed over its sixth shard, or else while it finished the fifth of ten."""
    from euds.engine.worker import Worker

    name, n_calls = ("finish", N_FINISHED) if finishing else ("measure", 5)
    with killed_at(Worker, name, n_calls, monkeypatch):
        euds.score(corpus, out=run_dir, **settings)
    return run_dir


@pytest.mark.parametrize("finishing", [False, True])
def test_a_damaged_file_of_the_work_is_made_anew(
    corpus: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finishing: bool
) -> None:
    left = stopped(corpus, tmp_path / "left", monkeypatch, finishing=finishing)
    tokens = f"tokens-{5 if finishing else 3:05d}.arrow"
    damages: list[tuple[str, Damage]] = [(tokens, emptied), (tokens, cut), ("shards.jsonl", emptied)]
    if finishing:
        damages += [
            *(("records/part-00001.json", damage) for damage in (emptied, cut, lost, other("{}"), other("[]"))),
            *(("pool.json", damage) for damage in (emptied, lost, other("7"))),
            *(("counts.npy", damage) for damage in (emptied, cut, lost)),
            *(("words.arrow", damage) for damage in (emptied, cut)),
            ("word_ids-00006.arrow", cut),
            ("records", other("")),
        ]
    else:
        damages += [("shards.jsonl", damage) for damage in (cut, lost, without_a_line, other("{}\n"), other("[7]\n"))]
    expected = digests(whole)
    for at, (name, damage) in enumerate(damages):
        run_dir = tmp_path / f"run-{at}"
        shutil.copytree(left, run_dir)
        path = run_dir / "work" / name
        content = None if path.is_dir() else path.read_bytes()
        damaged = damage(content or b"")
        if content is None:
            shutil.rmtree(path)
        if damaged is None:
            path.unlink()
        else:
            path.write_bytes(damaged)
        named = name.startswith("records/") and damaged is not None
        with pytest.raises(InputError, match="; the same euds score makes it anew") if named else nullcontext():
            run_status(run_dir)
        assert euds.score(corpus, out=run_dir, **INFORMATION).n_scored == 150, name
        assert digests(run_dir) == expected, name


def test_pieces_make_damaged_work_anew(
    corpus: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("records/part-00001.json", "counts.npy"):
        run_dir = stopped(corpus, tmp_path / Path(name).stem, monkeypatch, finishing=True)
        (run_dir / "work" / name).write_bytes(b"")
        results = [euds.score(corpus, out=run_dir, split=f"{piece}/2", **INFORMATION).n_scored for piece in (0, 1)]
        assert results == [0, 150]
        assert digests(run_dir) == digests(whole)


def test_counts_of_no_words_are_no_damage(write_jsonl: Callable[..., Path], tmp_path: Path) -> None:
    euds.score(write_jsonl([{"text": None}]), out=tmp_path / "run", **INFORMATION)
    assert "information" in json.loads((tmp_path / "run" / "manifest.json").read_text())["seconds"]


@pytest.mark.usefixtures("one_thread")
def test_damaged_centroids_and_embeddings_are_made_anew(
    corpus: Path, tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"measures": ["semantic"], "embedder": tiny_encoder, "n_clusters": 4, "shard_rows": 16}
    euds.score(corpus, out=tmp_path / "whole", **settings)
    for name in ("centroids.npy", "embeddings-00007.arrow"):
        run_dir = stopped(corpus, tmp_path / name, monkeypatch, finishing=True, settings=settings)
        path = run_dir / "work" / name
        path.write_bytes(cut(path.read_bytes()))
        euds.score(corpus, out=run_dir, **settings)
        assert digests(run_dir) == digests(tmp_path / "whole")


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[str], Counter[Path]]]:
    """Give the stages of generations that are done meanwhile, and how often each file of a shard is hashed."""
    from euds.engine import generation_stages, records, work
    from euds.engine.generations import generate_shard
    from euds.engine.meanings import meanings_shard

    made: list[str] = []
    hashed: Counter[Path] = Counter()

    def noting(real: Callable[..., Any], note: Callable[[Any], object]) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            note(arguments[0])
            return real(*arguments)

        return noted

    with monkeypatch.context() as patched:
        sampled = noting(generate_shard, lambda _: made.append("generation"))
        patched.setattr(generation_stages, "generate_shard", sampled)
        weighed = noting(meanings_shard, lambda _: made.append("meanings"))
        patched.setattr(generation_stages, "meanings_shard", weighed)
        for module in (records, work):
            patched.setattr(module, "file_sha256", noting(module.file_sha256, lambda path: hashed.update([path])))
        yield made, hashed


def damages_of(folder: Path, name: str) -> Iterator[Damage]:
    """Copy the run `left` to `run` again for each kind of damage, and do it to a Parquet file there."""
    for damage in (emptied, cut, lost, flipped):
        shutil.rmtree(folder / "run", ignore_errors=True)
        shutil.copytree(folder / "left", folder / "run")
        path = folder / "run" / f"{name}.parquet"
        damaged = damage(path.read_bytes())
        if damaged is None:
            path.unlink()
        else:
            path.write_bytes(damaged)
        yield damage


@pytest.mark.usefixtures("one_thread")
def test_damaged_generations_and_meanings_are_made_anew(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from euds.engine import generation_stages

    sample("whole")
    with killed_at(generation_stages, "meanings_shard", 1, monkeypatch):
        sample("left")
    # What is to be done: meanings of the second shard, and all of the third.
    left = Counter({"generation": 1, "meanings": 2})
    for name, more in (
        ("generations/part-00001", ["generation"]),
        ("generations/part-00000", ["generation", "meanings"]),
        ("meanings/part-00000", ["generation", "meanings"]),
    ):
        for damage in damages_of(tmp_path, name):
            with counted(monkeypatch) as (made, _):
                sample("run")
            assert Counter(made) == left + Counter(more), (name, damage)
            assert digests(tmp_path / "run") == digests(tmp_path / "whole"), (name, damage)


@pytest.mark.usefixtures("one_thread")
def test_damaged_generations_and_meanings_of_a_run_that_needs_the_pool_are_made_anew(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from euds.engine.worker import Worker

    arguments = {"measures": ["information", "semantic"], **BOTH}
    sample("whole", **arguments)
    with killed_at(Worker, "finish", 1, monkeypatch):
        sample("left", **arguments)
    whole = digests(tmp_path / "whole")
    # The first shard is finished, the second measured.
    for name, expected in (
        ("generations/part-00001", ["generation", "meanings"]),
        ("meanings/part-00001", ["meanings"]),
        ("generations/part-00000", ["generation", "meanings"]),
        ("meanings/part-00000", ["generation", "meanings"]),
    ):
        for damage in damages_of(tmp_path, name):
            with counted(monkeypatch) as (made, _):
                sample("run", **arguments)
            assert made == expected, (name, damage)
            assert digests(tmp_path / "run") == whole, (name, damage)


@pytest.mark.usefixtures("one_thread")
def test_a_run_of_an_earlier_version_resumes_and_files_are_hashed_once(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from euds.engine.work import RESULT_SHA256, Work
    from euds.engine.worker import Worker

    sample("whole", **BOTH)
    with killed_at(Worker, "finish", 1, monkeypatch):
        sample("left", **BOTH)
    shutil.copytree(tmp_path / "left", tmp_path / "earlier")
    with counted(monkeypatch) as (made, hashed):
        sample("left", **BOTH)
    assert made == []
    assert {path.parent.name for path in hashed} == {"generations", "meanings", "scores"}
    assert set(hashed.values()) == {1}
    # An earlier version told no hashes.
    work = Work(tmp_path / "earlier")
    record = work.folder / "records" / "part-00000.json"
    told = json.loads(record.read_text())
    assert sorted(told.pop("files")) == ["generations/part-00000.parquet", "meanings/part-00000.parquet"]
    record.write_text(json.dumps(told))
    for stage in ("generation", "meanings"):
        table = work.read(stage, 1)
        metadata = dict(table.schema.metadata)
        assert metadata.pop(RESULT_SHA256)
        with pa.ipc.new_file(str(work.path(stage, 1)), table.schema.with_metadata(metadata)) as writer:
            writer.write_table(table.replace_schema_metadata(metadata))
    with counted(monkeypatch) as (made, _):
        sample("earlier", **BOTH)
    assert made == []
    for name in ("left", "earlier"):
        assert digests(tmp_path / name) == digests(tmp_path / "whole")


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        {"config": {}},
        {"config": None},
        {"config": {"shard_rows": None}},
        {"inputs": {}},
        {"inputs": [{}]},
        {"counts": None},
    ],
)
def test_a_manifest_that_lacks_what_its_readers_need_is_named(
    corpus: Path, whole: Path, change: dict[str, Any], finished: bool
) -> None:
    path = whole / "manifest.json"
    manifest = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps(manifest if finished else {**manifest, "finished": None}))
    if "counts" in change and not finished:
        # An unfinished run has none.
        assert run_status(whole).state == "stopped"
        return
    readers: list[Callable[[], object]] = [
        lambda: run_status(whole),
        lambda: euds.score(corpus, out=whole, **INFORMATION),
        lambda: euds.select(whole, keep=0.5, rule="random"),
        lambda: euds.read_scores(whole),
    ]
    for reader in readers:
        with pytest.raises(InputError, match=r"manifest\.json: is no run's manifest; score into a new directory"):
            reader()


@pytest.mark.parametrize("fingerprint", [{}, {"config": {}, "models": {}, "inputs": None}])
def test_a_manifest_without_the_settings_of_its_run_is_named(
    corpus: Path, whole: Path, fingerprint: dict[str, Any]
) -> None:
    path = whole / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "fingerprint": fingerprint}))
    with pytest.raises(InputError, match=r"manifest\.json: is no run's manifest; score into a new directory"):
        euds.score(corpus, out=whole, **INFORMATION)
    # Of settings that are not there, the differences tell.
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "fingerprint": {"config": {}, "models": {}, "inputs": []}})
    )
    with pytest.raises(InputError, match=r"config\.shard_rows"):
        euds.score(corpus, out=whole, **INFORMATION)


@pytest.mark.parametrize("line", ["{}", "[]", '{"row_id": 1, "file": "a", "row": 2}', '{"row_id": 1, "reason": ["a"]}'])
def test_a_quarantine_of_other_json_is_named(whole: Path, line: str) -> None:
    (whole / "quarantine.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match=r"quarantine\.jsonl: missing or damaged; score into a new directory"):
        run_status(whole)
