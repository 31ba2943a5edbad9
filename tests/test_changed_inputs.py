"""Inputs that change before, while or after they are scored are found, here or remote; stores that fail are named."""

import errno
import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from slices import read_slices
from upath import UPath

import euds
from euds.corpus import Slice, check_inputs, cut, identities, list_inputs, read_manifest, read_rows
from euds.engine.pool import fit_pool
from euds.engine.worker import Worker
from euds.errors import InputError, RunStopped
from euds.measures.device import Precision

WriteJsonl = Callable[..., Path]
INFORMATION: dict[str, Any] = {"measures": ["information"], "shard_rows": 10}
LINE = '{"text": "a b c"}\n'
MEMORY = fsspec.get_filesystem_class("memory")


def test_a_remote_file_of_the_same_size_but_other_content_is_refused(tmp_path: Path) -> None:
    remote = UPath("memory://changed/a.jsonl")
    remote.write_text(LINE * 5)
    euds.score(str(remote), out=tmp_path / "run", **INFORMATION)
    euds.score(str(remote), out=tmp_path / "run", **INFORMATION)
    remote.write_text(LINE * 4 + LINE.replace("c", "d"))
    with pytest.raises(InputError, match=r"inputs\[0\]\.sha256"):
        euds.score(str(remote), out=tmp_path / "run", **INFORMATION)
    with pytest.raises(InputError, match="has changed since it was scored"):
        euds.select(tmp_path / "run", keep=0.5, rule="random")


@pytest.mark.parametrize("key", ["ETag", "Last-Modified"])
def test_a_version_that_the_store_tells_saves_the_hashing(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    UPath("memory://versions/a.jsonl").write_text(LINE)
    files = list_inputs(["memory://versions/a.jsonl"])
    real, version = MEMORY.info, ["v1"]
    monkeypatch.setattr(MEMORY, "info", lambda self, path, **named: {**real(self, path, **named), key: version[0]})
    before = identities(files)
    with monkeypatch.context() as patched:
        patched.setattr("euds.corpus.identity.file_sha256", lambda path, advance: pytest.fail("hashed again"))
        assert identities(files, before) == before
    version[0] = "v2"
    assert identities(files, before) == [{**before[0], "version": "v2"}]


@pytest.mark.parametrize("lines", [60, 20])
def test_a_corpus_that_grows_or_shrinks_while_a_run_is_prepared_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: int
) -> None:
    corpus = tmp_path / "a.jsonl"
    corpus.write_text(LINE * 40)

    def changed(files: Sequence[Path], shard_rows: int) -> Iterator[tuple[Slice, ...]]:
        corpus.write_text(LINE * lines)
        return cut(files, shard_rows)

    with monkeypatch.context() as patched:
        patched.setattr("euds.engine.shards.cut", changed)
        with pytest.raises(InputError, match=r"a\.jsonl: has changed while the run was prepared; .*--force-new"):
            euds.score(corpus, out=tmp_path / "run", **INFORMATION)
    found = euds.score(corpus, out=tmp_path / "run", force_new=True, **INFORMATION)
    assert found.n_rows == found.n_scored == lines


def test_a_corpus_that_is_rewritten_at_the_same_size_while_it_is_scored_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = tmp_path / "a.jsonl"
    corpus.write_text(LINE * 40)
    os.utime(corpus, (1, 1))

    def rewritten(*arguments: Any) -> None:
        corpus.write_text(LINE.replace("c", "d") * 40)
        fit_pool(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr("euds.engine.run.fit_pool", rewritten)
        with pytest.raises(InputError, match=r"a\.jsonl: has changed while it was scored; .*--force-new"):
            euds.score(corpus, out=tmp_path / "run", **INFORMATION)
    with pytest.raises(InputError, match=r"inputs\[0\]\.sha256"):
        euds.score(corpus, out=tmp_path / "run", **INFORMATION)


def test_a_corpus_that_was_only_touched_while_it_was_scored_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = tmp_path / "a.jsonl"
    corpus.write_text(LINE * 40)
    real = Worker.finish

    def touched(worker: Worker, shard: Any) -> int:
        os.utime(corpus, (1, 1))
        return real(worker, shard)

    with monkeypatch.context() as patched:
        patched.setattr(Worker, "finish", touched)
        with pytest.raises(InputError, match="has changed while it was scored"):
            euds.score(corpus, out=tmp_path / "run", **INFORMATION)
    assert euds.score(corpus, out=tmp_path / "run", **INFORMATION).n_scored == 40


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.csv.gz"])
def test_a_slice_of_other_content_of_the_same_size_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name

    def write(*texts: str) -> None:
        whole = [json.dumps({"text": text}) for text in texts] if name == "a.jsonl" else ["text", *texts]
        content = "".join(line + "\n" for line in whole).encode()
        path.write_bytes(gzip.compress(content, 0, mtime=0) if name.endswith(".gz") else content)

    write("one", "two and more", "three", "four")
    shards = list(cut([path], 1))
    write("two and more", "one", "three", "four")
    with pytest.raises(InputError, match=rf"{name}: no line begins at byte \d+; the file has changed since it was cut"):
        list(read_slices(shards[1], first_row_id=1))
    assert [row.fields for row in read_slices(shards[2], first_row_id=2)] == [{"text": "three"}]


def test_a_file_that_has_grown_or_lost_one_row_since_it_was_cut_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(LINE * 2)
    (shard,) = cut([path], 2)
    for content, message in (
        (LINE * 3, "54 bytes, but 36 when it was cut; start a new run"),
        (LINE.replace("\n", " ") + LINE, "1 rows less than when it was cut; start a new run"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=rf"a\.jsonl: {message}"):
            list(read_slices(shard, first_row_id=0))


def test_a_disk_that_fails_before_a_file_is_cut_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_text(LINE)

    def fail(*_: object, **named: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "stat", fail)
    with pytest.raises(RunStopped, match=r"a\.jsonl: the file system or the network failed"):
        list(cut([tmp_path / "a.jsonl"], 1))


class ClientError(Exception):
    """As aiohttp's, no OSError."""


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.csv", "a.parquet", "a.arrow"])
def test_a_store_that_fails_stops_the_run_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from test_slices import numbers

    UPath(f"memory://failing/{name}").write_bytes(numbers(tmp_path / name, 300).read_bytes())
    files = list_inputs([f"memory://failing/{name}"])

    def fail(*_: object, **named: object) -> bytes:
        raise ClientError("500, message='Internal Server Error'")

    handle = type(MEMORY().open(f"/failing/{name}"))
    monkeypatch.setattr(handle, "read", fail)
    with pytest.raises(RunStopped, match=rf"memory://failing/{name}: cannot be read: 500.*the same command resumes"):
        list(read_rows(files))
    monkeypatch.setattr(MEMORY, "info", fail)
    with pytest.raises(RunStopped, match="the same command resumes"):
        list(cut(files, 10))


def test_a_server_that_tells_no_size_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    UPath("memory://sizeless/a.jsonl").write_text(json.dumps({"text": "a"}))
    files = list_inputs(["memory://sizeless/a.jsonl"])
    handle = type(MEMORY().open("/sizeless/a.jsonl"))
    monkeypatch.setattr(handle, "size", None)
    with pytest.raises(InputError, match=r"a\.jsonl: the server does not tell its size; download it first"):
        check_inputs(files)


def test_a_finished_run_follows_its_corpus_to_another_place(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before, after, run = tmp_path / "a.jsonl", tmp_path / "elsewhere" / "b.jsonl", tmp_path / "run"
    before.write_text(LINE * 30)
    whole = euds.score(before, out=run, **INFORMATION)
    after.parent.mkdir()
    before.rename(after)
    with pytest.raises(InputError, match="no longer there; if it was moved, repeat `euds score` with its new place"):
        euds.select(run, keep=0.5, rule="random")
    parts = (run / "scores" / "_parts.jsonl").read_bytes()
    assert euds.score(after, out=run, **INFORMATION).n_rows == whole.n_rows
    assert "the corpus has moved" in capfd.readouterr().err
    assert (run / "scores" / "_parts.jsonl").read_bytes() == parts
    assert euds.select(run, keep=0.5, rule="random").n_kept == 15
    # Other content is another run, wherever it lies.
    after.write_text(LINE * 29)
    with pytest.raises(InputError, match=r"inputs\[0\]\.path"):
        euds.score(after, out=run, **INFORMATION)


def test_an_unfinished_run_goes_on_by_another_way_to_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "a.jsonl").write_text(LINE * 30)
    (tmp_path / "far" / "a.jsonl").write_text(LINE * 20)
    (tmp_path / "data" / "link").symlink_to(tmp_path / "far" / "deep")
    assert euds.score(tmp_path / "data" / "a.jsonl", out=tmp_path / "run", split="0/2", **INFORMATION).n_scored == 0
    monkeypatch.chdir(tmp_path / "far")
    assert euds.score("../data/a.jsonl", out=tmp_path / "run", **INFORMATION).n_scored == 30
    # Behind a link, `..` leads to another folder than its name says.
    monkeypatch.chdir(tmp_path / "data")
    assert euds.score("link/../a.jsonl", out=tmp_path / "other", **INFORMATION).n_scored == 20
    assert read_manifest(tmp_path / "other")["inputs"][0]["path"] == str(tmp_path / "data" / "link" / ".." / "a.jsonl")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_finished_run_that_may_only_be_read_is_finished_wherever_its_corpus_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    before, after, run = tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "run"
    before.write_text(LINE * 30)
    whole = euds.score(before, out=run, **INFORMATION)
    manifest = (run / "manifest.json").read_bytes()

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    # As root, no mode of a folder keeps from writing.
    monkeypatch.setattr(Path, "replace", refuse)
    os.utime(before, (1, 1))
    assert euds.score(before, out=run, **INFORMATION) == replace(whole, already_finished=True)
    assert "warning" not in capsys.readouterr().err
    shutil.copy(before, after)
    assert euds.score(after, out=run, **INFORMATION).already_finished
    said = f"naming its old place: {run / 'manifest.json'}: {os.strerror(number)}"
    assert said in " ".join(capsys.readouterr().err.split())
    assert (run / "manifest.json").read_bytes() == manifest
    assert not list(run.glob(".*"))


def test_an_unfinished_run_keeps_to_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after, run = tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "run"
    before.write_text(LINE * 30)
    with monkeypatch.context() as patched:
        patched.setattr("euds.engine.worker.finish_shard", interrupted)
        with pytest.raises(KeyboardInterrupt):
            euds.score(before, out=run, **INFORMATION)
    before.rename(after)
    with pytest.raises(InputError, match=r"inputs\[0\]\.path: .*a\.jsonl -> .*b\.jsonl"):
        euds.score(after, out=run, **INFORMATION)


def test_the_same_files_and_models_by_other_names_are_the_same_run(
    tmp_path: Path, tiny_lm: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text(LINE * 30)
    first, second, third = (Path(shutil.copytree(tiny_lm, tmp_path / name)) for name in ("lm", "lm-2", "lm-3"))
    with monkeypatch.context() as patched:
        patched.setattr("euds.engine.worker.finish_shard", interrupted)
        with pytest.raises(KeyboardInterrupt):
            euds.score("a.jsonl", out="run", measures="generative", lm="lm")
    shutil.rmtree(first)
    assert not euds.score(tmp_path / "a.jsonl", out="run", measures="generative", lm=second).already_finished
    assert read_manifest(Path("run"))["models"]["lm"]["folder"] == str(second)
    shutil.rmtree(second)
    assert euds.score("*.jsonl", out="run", measures="generative", lm=third).already_finished
    assert "the lm has moved" in capfd.readouterr().err
    assert read_manifest(Path("run"))["models"]["lm"]["folder"] == str(third)
    # Other content is another run, whatever its name.
    (third / "config.json").write_text((third / "config.json").read_text() + " ")
    with pytest.raises(InputError, match=r"models\.lm\.sha256: "):
        euds.score("a.jsonl", out="run", measures="generative", lm=third)


def test_a_run_in_another_precision_is_refused(
    tmp_path: Path, write_jsonl: WriteJsonl, tiny_lm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: dict[str, Any] = {"out": tmp_path / "run", "measures": ["generative"], "lm": tiny_lm}
    corpus = write_jsonl([{"text": "the film was sad"}])
    euds.score(corpus, **arguments)
    # As "auto" gives elsewhere: the configuration is the same.
    monkeypatch.setattr("euds.measures.device.precision", lambda *_: Precision("cpu", "bfloat16"))
    with pytest.raises(InputError, match=r"precision\.dtype: float32 -> bfloat16"):
        euds.score(corpus, **arguments)


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt
