"""Where a selection may write its rows: over nothing that was scored, and no file of the run."""

import json
import os
import zipfile
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
from euds.errors import InputError, InvalidArgument

Texts = Callable[[int, int], list[str]]
Select = Callable[..., euds.Selection]
BOTH = pytest.mark.parametrize("select", [euds.select, euds.select_streaming])


def choose(select: Select, run_dir: Path, out: Path) -> None:
    """Select five rows into a file."""
    select(run_dir, keep=5, rule="low", axes=["information"], out=out)


@pytest.fixture
def real(tmp_path: Path, make_texts: Texts) -> Path:
    """A corpus in a folder of its own."""
    path = tmp_path / "real" / "corpus.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"text": make_texts(30, 1)}), path)
    return path


@BOTH
@pytest.mark.parametrize("by", ["file", "folder", "hard link"])
def test_a_corpus_that_was_named_through_a_link_is_not_written_over(
    tmp_path: Path, real: Path, select: Select, by: str
) -> None:
    named = tmp_path / "link.parquet"
    if by == "file":
        named.symlink_to(real)
    elif by == "folder":
        (tmp_path / "folder").symlink_to(real.parent)
        named = tmp_path / "folder" / real.name
    else:
        os.link(real, named)
    euds.score(named, out=tmp_path / "run", measures=["information"])
    before = digests(real.parent)
    other = tmp_path / "other.parquet"
    other.symlink_to(named)
    for out in (real, named, other):
        with pytest.raises(InvalidArgument, match=r"out: .*\.parquet is a file of the scored corpus; name another"):
            choose(select, tmp_path / "run", out)
    assert digests(real.parent) == before
    assert named.samefile(real)


def test_an_archive_that_holds_the_corpus_is_not_written_over(tmp_path: Path, make_texts: Texts) -> None:
    archive = tmp_path / "corpus.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("corpus.jsonl", "".join(f'{{"text": "{text}"}}\n' for text in make_texts(30, 1)))
    euds.score(f"zip://corpus.jsonl::{archive}", out=tmp_path / "run", measures=["information"])
    with pytest.raises(InvalidArgument, match=r"out: .*corpus\.zip is a file of the scored corpus"):
        choose(euds.select, tmp_path / "run", archive)


@BOTH
def test_a_file_of_the_run_is_not_written_over(tmp_path: Path, real: Path, select: Select) -> None:
    run_dir = tmp_path / "run"
    euds.score(real, out=run_dir, measures=["information"])
    choose(select, run_dir, run_dir / "kept.parquet")
    (tmp_path / "linked").symlink_to(run_dir)
    names = ["scores/part-00000.parquet", "scores/new.parquet", "manifest.json", "selection.json", "quarantine.jsonl"]
    names += ["report.html", "work/lock", "generations/a.parquet", "meanings/a.parquet", "study/a", "data/test.jsonl"]
    before = digests(run_dir)
    for name in names:
        for folder in (run_dir, tmp_path / "linked"):
            with pytest.raises(InvalidArgument, match=r"out: .* is a file of the run; name another for the kept rows"):
                choose(select, run_dir, folder / name)
    assert digests(run_dir) == before
    # Rows of an earlier selection may go.
    for _ in range(2):
        choose(select, run_dir, tmp_path / "linked" / "selected.parquet")


@BOTH
@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("s3://bucket/kept.parquet", "out: must be a local path, got s3://bucket/kept.parquet"),
        ("", "out: is empty; name a file for the kept rows"),
        ("r\udce9.parquet", r"out: r\\udce9\.parquet is not UTF-8"),
    ],
)
def test_rows_go_to_a_local_file(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, select: Select, out: str, message: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InvalidArgument, match=message):
        select(whole, keep=5, rule="low", axes=["information"], out=out)
    arguments = ["select", str(whole), "--keep", "5", "--rule", "random", "--out", "s3://bucket/kept.parquet"]
    assert "out: must be a local path" in str(CliRunner().invoke(app, arguments).exception)
    assert not any((tmp_path / "here").iterdir())


@BOTH
def test_a_name_too_long_for_its_record_is_refused_before_rows_are_written(
    whole: Path, tmp_path: Path, select: Select
) -> None:
    folder = tmp_path / "new" / "folder"
    for n in (215, 247):
        with pytest.raises(InvalidArgument, match=r"out: .*kk\.jsonl: the name leaves no room .* shorten") as raised:
            choose(select, whole, folder / f"{'k' * (n - 6)}.jsonl")
    assert not folder.parent.exists()
    fitting = 247 - int(str(raised.value).rpartition("by ")[2].split()[0])
    choose(select, whole, folder / f"{'k' * (fitting - 6)}.jsonl")
    assert len(list(folder.iterdir())) == 2


@BOTH
def test_a_tilde_is_the_home_folder(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, select: Select
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    for out in ("~/kept.parquet", Path("~/kept.parquet")):
        kept = select("~/whole", keep=5, rule="low", axes=["information"], out=out)
        assert kept.record["selected_file"] == str(tmp_path / "kept.parquet")
    assert euds.status("~/whole").state == "finished"
    assert euds.write_report(Path("~/whole")) == whole / "report.html"
    assert not any((tmp_path / "here").iterdir())


@BOTH
def test_a_dry_run_chooses_the_same_rows_and_writes_nothing(whole: Path, select: Select) -> None:
    arguments: dict[str, Any] = {"keep": 0.4, "rule": "middle", "axes": "surprisal", "seed": 3}
    select(whole, **{**arguments, "keep": 2})
    before = {path: path.read_bytes() for path in sorted(whole.rglob("*")) if path.is_file()}
    planned = select(whole, **arguments, dry_run=True)
    assert {path: path.read_bytes() for path in sorted(whole.rglob("*")) if path.is_file()} == before
    chosen = select(whole, **arguments)
    assert planned.row_ids.tolist() == chosen.row_ids.tolist()
    assert planned.bounds == chosen.bounds
    assert {key: chosen.record[key] for key in planned.record if key != "seconds"} == {
        key: value for key, value in planned.record.items() if key != "seconds"
    }


@BOTH
def test_a_run_that_may_only_be_read_is_selected_from(
    whole: Path, tmp_path: Path, select: Select, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments: dict[str, Any] = {"keep": 5, "rule": "low", "axes": ["information"]}
    select(whole, **{**arguments, "keep": 2})
    before, out, may = digests(whole), tmp_path / "elsewhere" / "kept.parquet", os.access
    # As root, mode 555 keeps nobody from writing.
    monkeypatch.setattr(
        os, "access", lambda place, mode: mode == os.R_OK or (Path(place) != whole and may(place, mode))
    )
    with pytest.raises(InputError, match="whole: Permission denied"):
        select(whole, **arguments)
    with pytest.raises(InputError, match="whole: Permission denied"):
        select(whole, **arguments, out=whole / "kept.parquet")
    for place in (None, whole / "kept.parquet", out):
        assert select(whole, **arguments, out=place, dry_run=True).n_kept == 5
    assert "warning" not in capsys.readouterr().err
    assert select(whole, **arguments, out=out).n_kept == 5
    said = f"warning: {whole}: may not be written to, and keeps no record of this selection; {out}.selection.json is it"
    assert said in capsys.readouterr().err
    assert json.loads((out.parent / "kept.parquet.selection.json").read_text())["n_kept"] == 5
    assert digests(whole) == before
    monkeypatch.undo()
    select(whole, **arguments, out=out)
    assert "warning" not in capsys.readouterr().err
    assert json.loads((whole / "selection.json").read_text())["n_kept"] == 5
