"""Where a run may write, and what starting over may delete."""

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_score_resume import digests
from typer.testing import CliRunner

import euds
from euds.cli.app import app
from euds.corpus import generations_path, meanings_path, open_manifest, read_quarantine, read_scores, whole_parts
from euds.engine.work import Work
from euds.engine.worker import TOKENS
from euds.errors import EudsError, InputError, InvalidArgument, RunStopped
from euds.files import read_json

WriteJsonl = Callable[..., Path]
INFORMATION: dict[str, Any] = {"measures": ["information"], "shard_rows": 16}


def test_force_new_starts_over_and_deletes_nothing_that_is_no_run(corpus: Path, whole: Path, tmp_path: Path) -> None:
    for path in (generations_path(whole, 0), meanings_path(whole, 0)):
        path.parent.mkdir()
        path.write_bytes(b"of an earlier run")
    (whole / "study").mkdir()
    (whole / "study" / ".table.json.1-0123456789abcd.partial").write_bytes(b"half a table")
    euds.score(corpus, out=whole, measures=["information"], shard_rows=100, force_new=True)
    assert len(list(whole.glob("scores/*.parquet"))) == 2
    assert not (whole / "study").exists()
    assert not (whole / "generations").exists()
    assert not (whole / "meanings").exists()
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("42")
    with pytest.raises(InputError, match="holds files but no run"):
        euds.score(corpus, out=tmp_path / "precious", force_new=True, **INFORMATION)
    assert (tmp_path / "precious" / "thesis.tex").read_text() == "42"


def test_stages_of_more_than_a_hundred_thousand_shards_are_removed_too(tmp_path: Path) -> None:
    work = Work(tmp_path)
    for shard in (1, 100_000):
        work.write(TOKENS, shard, pa.table({"row_id": [shard]}), 0.0)
    assert not work.is_foreign()
    (work.folder / "data-12345abc.arrow").touch()
    work.empty()
    assert (work.folder / "data-12345abc.arrow").exists()
    assert not work.done(TOKENS, 1)
    assert not work.done(TOKENS, 100_000)


def test_folders_that_are_links_are_emptied_too(corpus: Path, whole: Path, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.mkdir()
    (whole / "scores").rename(big / "scores")
    (whole / "scores").symlink_to(big / "scores")
    (big / "work").mkdir()
    (whole / "work").symlink_to(big / "work")
    euds.score(corpus, out=whole, measures=["information"], shard_rows=100, force_new=True)
    assert read_scores(whole).num_rows == 152
    assert euds.read_scores(str(whole)).column("row_id").to_pylist() == list(range(152))
    assert (whole / "scores").is_symlink()
    assert len(list(big.glob("scores/*.parquet"))) == 2
    assert not list((big / "work").iterdir())
    assert euds.score(corpus, out=whole, measures=["information"], shard_rows=100).n_rows == 152


def test_a_folder_of_the_path_that_is_named_like_a_column_is_none(corpus: Path, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "source=web").mkdir()
    whole.rename(tmp_path / "source=web" / "run")
    assert read_scores(tmp_path / "source=web" / "run").column("source").null_count == 152


def test_a_new_run_that_cannot_begin_deletes_no_old_one(
    corpus: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "euds.engine.ray_runner", raising=False)
    euds.select(whole, keep=0.5, rule="random")
    before = digests(whole)
    wrong: list[dict[str, Any]] = [
        {"inputs": tmp_path / "none.jsonl"},
        {"text_field": "txt"},
        {"tokenizer": tmp_path / "none"},
        {"device": "gpu"},
        {"dtype": "float8"},
        {"ray": True},
        {"inputs": whole / "selected.parquet"},
    ]
    for arguments in wrong:
        for dry_run in (True, False):
            with pytest.raises(EudsError):
                euds.score(**{**INFORMATION, "inputs": corpus, **arguments}, out=whole, force_new=True, dry_run=dry_run)
            assert digests(whole) == before
    with pytest.raises(InputError, match=r"corpus\.jsonl/cache: Not a directory"):
        euds.score(corpus, out=whole, force_new=True, cache=corpus / "cache", **INFORMATION)
    with pytest.raises(InputError, match=r"selected\.parquet: --force-new would delete it .* choose another --out"):
        euds.score(whole / "selected.parquet", out=whole, force_new=True, **INFORMATION)
    assert digests(whole) == before


def test_folders_and_files_that_are_named_as_a_runs_are_no_run(corpus: Path, whole: Path, tmp_path: Path) -> None:
    foreign = {
        "work": {"work/thesis.txt": "mine", "work/chapters/1.txt": "mine", "report.html": "mine"},
        "manifest": {"manifest.json": '{"name": "webapp"}', "study/notes.txt": "mine"},
        "scores": {"scores/part-00000.parquet": "mine", "manifest.json": "no json"},
    }
    for name, files in foreign.items():
        for file, content in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(content)
        before = digests(tmp_path / name)
        with pytest.raises(InputError, match="holds files but no run"):
            euds.score(corpus, out=tmp_path / name, force_new=True, **INFORMATION)
        assert digests(tmp_path / name) == before
    # What is left of a run is one.
    (whole / "manifest.json").unlink()
    assert euds.score(corpus, out=whole, force_new=True, **INFORMATION).n_rows == 152


def test_a_folder_of_somebodys_own_beside_a_run_stays(corpus: Path, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "project" / "work").mkdir(parents=True)
    (tmp_path / "project" / "work" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"project/work: holds files that are no run's; choose another --out"):
        euds.score(corpus, out=tmp_path / "project", **INFORMATION)
    assert [path.name for path in (tmp_path / "project").rglob("*")] == ["work", "thesis.txt"]
    own = {"work/thesis.txt": "mine", "work/chapters/1.txt": "mine", "study/notes.txt": "mine", "scores/why.md": "mine"}
    for file, content in own.items():
        (whole / file).parent.mkdir(parents=True, exist_ok=True)
        (whole / file).write_text(content)
    for force_new in (False, True):
        assert euds.score(corpus, out=whole, force_new=force_new, **INFORMATION).n_rows == 152
        assert {file: (whole / file).read_text() for file in own} == own
        assert sorted(path.name for path in (whole / "work").iterdir()) == ["chapters", "thesis.txt"]


@pytest.mark.parametrize(("pattern", "out"), [("*.*", "."), ("**/*.*", "run"), ("**/*.*", ".")])
def test_a_glob_passes_over_what_the_run_makes_and_nothing_else(
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    pattern: str,
    out: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    elsewhere = Path("own", "work") / "shards.jsonl"
    for own in (Path("own/selected.jsonl"), elsewhere, Path("scores/own.jsonl"), Path("study/own.jsonl")):
        own.parent.mkdir(exist_ok=True, parents=True)
        own.write_bytes(corpus.read_bytes())
    inputs = sorted(str(path) for path in tmp_path.glob(pattern) if path.is_file())
    for piece in range(2):
        whole = euds.score(pattern, out=out, split=f"{piece}/2", **INFORMATION)
    assert whole.n_scored == 150 * len(inputs)
    euds.select(out, keep=0.5, rule="low", axes="information")
    assert euds.score(pattern, out=out, **INFORMATION).already_finished
    assert [entry["path"] for entry in open_manifest(Path(out))["inputs"]] == inputs
    assert "that the run itself makes are passed over, such as" in capsys.readouterr().err
    with pytest.raises(InputError, match="unknown field 'text'"):
        euds.score([pattern, Path(out, "scores", "part-00000.parquet")], out=out, **INFORMATION)


def test_shards_without_a_manifest_are_no_other_runs(corpus: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    euds.score(corpus, out=run_dir, split="0/2", **INFORMATION)
    (run_dir / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"shards or scores without a manifest\.json; start over with --force-new"):
        euds.score(corpus, out=run_dir, max_tokens=2, **INFORMATION)
    euds.score(corpus, out=run_dir, max_tokens=2, force_new=True, **INFORMATION)
    assert max(pq.read_table(run_dir / "scores").column("n_tokens").drop_null().to_pylist()) == 2


def test_a_run_directory_that_cannot_be_made_is_named(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "at-all")
    for out, message in (
        (corpus / "run", "corpus.jsonl: Not a directory"),
        (tmp_path / ("x" * 300), "File name too long"),
        (tmp_path / "dangling", "is a file or a broken link; --out names the run directory"),
        (corpus, "is a file or a broken link"),
    ):
        for force_new in (False, True):
            with pytest.raises(InputError, match=message):
                euds.score(corpus, out=out, force_new=force_new, **INFORMATION)
    with pytest.raises(InvalidArgument, match="out: is empty; name the run directory"):
        euds.score(corpus, out="", **INFORMATION)


@pytest.mark.parametrize("name", ["work", "scores", "quarantine.jsonl"])
@pytest.mark.parametrize("dry_run", [True, False])
def test_what_stands_where_a_run_keeps_its_own_is_named(corpus: Path, tmp_path: Path, name: str, dry_run: bool) -> None:
    path = tmp_path / "run" / name
    path.parent.mkdir()
    if "." in name:
        path.mkdir()
    else:
        path.write_text("of somebody else")
    with pytest.raises(InputError, match=rf"/{name}: is a (file or a broken link|folder)"):
        euds.score(corpus, out=tmp_path / "run", dry_run=dry_run, **INFORMATION)
    assert [each.name for each in path.parent.iterdir()] == [name]


@pytest.mark.usefixtures("one_thread")
def test_a_glob_passes_over_the_segments_of_a_cache(tmp_path: Path, tiny_encoder: Path) -> None:
    pq.write_table(pa.table({"text": [f"row {at}" for at in range(40)], "key": ["k"] * 40}), tmp_path / "a.parquet")
    settings: dict[str, Any] = {"measures": ["semantic"], "embedder": tiny_encoder, "n_clusters": 4, "shard_rows": 16}
    for text_field in ("text", "key"):
        out = tmp_path / text_field
        for _ in range(2):
            found = euds.score(
                str(tmp_path / "**" / "*.parquet"), out=out, text_field=text_field, cache=tmp_path / "cache", **settings
            )
            assert found.n_rows == 40
        assert [entry["path"] for entry in open_manifest(out)["inputs"]] == [str(tmp_path / "a.parquet")]
        shutil.rmtree(out)
    assert list((tmp_path / "cache").rglob("*.parquet"))


@pytest.mark.parametrize("name", ["run-12:30", "file:run", "run:x:/deep"])
def test_a_run_directory_whose_name_looks_like_a_url_is_one(
    corpus: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert euds.score(corpus, out=name, **INFORMATION).n_scored == 150
    assert digests(tmp_path / name) == digests(whole)
    assert euds.read_scores(name).num_rows == 152
    assert euds.select(name, keep=0.5, rule="middle", axes="information").n_kept == 75
    assert euds.select_streaming(name, keep=0.5, rule="low", axes="information", out="kept:x:.parquet").n_kept == 75
    assert euds.status(name).state == "finished"
    # Names stay what they are, and become no pictures.
    euds.score(corpus, out=f"{name}2", dry_run=True, **INFORMATION)
    assert f"{name}2: 0 of " in " ".join(capsys.readouterr().err.split())


def test_a_dry_run_of_starting_over_says_so_and_deletes_nothing(
    corpus: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digests(whole)
    other: dict[str, Any] = {"measures": ["information"], "shard_rows": 100, "force_new": True, "dry_run": True}
    assert euds.score(corpus, out=whole, **other).n_rows == 152
    assert "what is there is deleted first" in " ".join(capsys.readouterr().err.split())
    assert digests(whole) == before
    with pytest.raises(InputError, match="holds files but no run"):
        euds.score(corpus, out=corpus.parent, **other)


def test_a_url_or_a_name_that_is_not_utf8_is_no_run_directory(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="out: must be a local path, got s3://bucket/run"):
        euds.score(corpus, out="s3://bucket/run", **INFORMATION)
    with pytest.raises(InvalidArgument, match=r"out: .*r\\udce9 is not UTF-8"):
        euds.score(corpus, out=f"{tmp_path}/r\udce9", **INFORMATION)
    with pytest.raises(InvalidArgument, match=r"out: 'a\\x00b' holds a NUL byte"):
        euds.score(corpus, out="a\0b", **INFORMATION)
    outcome = CliRunner().invoke(app, ["score", str(corpus), "--out", "s3://bucket/run", "--measures", "information"])
    assert "out: must be a local path" in str(outcome.exception)


@pytest.mark.timeout(20)
def test_a_file_system_without_such_a_folder_is_named(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mkdir(*arguments: object, **named: object) -> None:
        # What file systems answer in which the system alone makes folders.
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(InputError, match="lock: No such file or directory"):
        euds.score(corpus, out=tmp_path / "run", **INFORMATION)


def test_a_tilde_is_the_home_folder(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for out in ("~/runs/a", Path("~/runs/b")):
        assert euds.score(corpus, out=out, **INFORMATION).run_dir == tmp_path / "home" / "runs" / Path(out).name
    assert not any((tmp_path / "here").iterdir())


def test_a_run_is_named_by_its_path_or_by_what_score_returned(corpus: Path, tmp_path: Path) -> None:
    scored = euds.score(corpus, out=tmp_path / "run", **INFORMATION)
    path = scored.run_dir
    assert euds.status(scored) == euds.status(path) == euds.status(str(path))
    assert euds.read_scores(scored).equals(euds.read_scores(path))
    ways: tuple[Callable[..., euds.Selection], ...] = (euds.select, euds.select_streaming)
    for select in ways:
        kept = [select(run, keep=3, rule="low", axes="information").row_ids.tolist() for run in (scored, path)]
        assert kept[0] == kept[1]
    assert euds.write_report(scored) == path / "report.html"


@pytest.mark.parametrize("read", [whole_parts, read_scores, lambda run_dir: list(read_quarantine(run_dir))])
def test_a_file_server_that_is_gone_is_no_damage(
    whole: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    assert read(whole)
    manifest = open_manifest(whole)
    monkeypatch.setattr("euds.corpus.run_files.open_manifest", lambda run_dir: manifest)
    monkeypatch.setattr("euds.corpus.run_files.pq.read_metadata", gone)
    monkeypatch.setattr(Path, "open", gone)
    with pytest.raises(RunStopped, match="the file system or the network failed"):
        read(whole)


def test_a_run_of_another_format_is_refused_by_its_readers_and_scored_anew_by_force(corpus: Path, whole: Path) -> None:
    path = whole / "manifest.json"
    path.write_text(json.dumps({**read_json(path), "format": 2, "euds_version": "9.1"}))
    readers: list[Callable[[], object]] = [
        lambda: euds.select(whole, keep=0.5, rule="random"),
        lambda: euds.select_streaming(whole, keep=0.5, rule="low", axes=["information"]),
        lambda: euds.status(whole),
        lambda: euds.score(corpus, out=whole, **INFORMATION),
    ]
    for reader in readers:
        with pytest.raises(
            InputError, match=r"manifest\.json: has format 2, and this euds reads 1; .* wrote it \(9\.1\)"
        ):
            reader()
    euds.score(corpus, out=whole, force_new=True, **INFORMATION)
    assert read_json(path)["format"] == 1
