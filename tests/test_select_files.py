"""What selections and reports read and write: fields that scoring did not read, files that belong together, models."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import euds
from euds.corpus import corpus_files, read_manifest, read_scores
from euds.errors import InputError
from euds.files import file_sha256, read_json
from euds.report import write_report
from euds.selection.features import RunTexts

WriteJsonl = Callable[..., Path]
Texts = Callable[[int, int], list[str]]


@pytest.fixture
def bad_url(tmp_path: Path, make_texts: Texts) -> Path:
    """A run over a Parquet file whose field `url`, which scoring does not read, is not UTF-8 in row 3."""
    urls = pa.array([b"http://a", b"http://b", b"http://\xff", *[b"http://c"] * 27]).view(pa.string())
    pq.write_table(pa.table({"text": make_texts(30, 1), "url": urls, "n": range(30)}), tmp_path / "corpus.parquet")
    euds.score(tmp_path / "corpus.parquet", out=tmp_path / "run", measures=["information"])
    return tmp_path / "run"


@pytest.mark.parametrize("select", [euds.select, euds.select_streaming])
def test_a_field_that_scoring_did_not_read_spoils_no_selection_without_it(
    bad_url: Path, select: Callable[..., euds.Selection]
) -> None:
    select(bad_url, keep=1.0, rule="low", axes=["surprisal"], columns=["text", "n"])
    assert pq.read_table(bad_url / "selected.parquet").column("n").to_pylist() == list(range(30))
    assert "Scores and what was kept" in write_report(bad_url, examples=30).read_text()
    with pytest.raises(InputError, match=r"corpus.parquet, row 3: field 'url' is not UTF-8: .*; leave such a"):
        select(bad_url, keep=1.0, rule="low", axes=["surprisal"], columns=["text", "url"])


def test_texts_are_read_without_fields_that_scoring_did_not_read(bad_url: Path) -> None:
    manifest = read_manifest(bad_url)
    texts = RunTexts(manifest, corpus_files(manifest), read_scores(bad_url))._texts
    assert texts == pq.read_table(bad_url.parent / "corpus.parquet", columns=["text"]).column("text").to_pylist()


@pytest.fixture
def plain_run(tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts) -> Path:
    """A run of 30 rows in a folder `run`."""
    euds.score(
        write_jsonl([{"text": text} for text in make_texts(30, 1)]), out=tmp_path / "run", measures=["information"]
    )
    return tmp_path / "run"


@pytest.mark.parametrize("select", [euds.select, euds.select_streaming])
def test_rows_and_record_of_two_selections_are_told_apart(
    plain_run: Path, select: Callable[..., euds.Selection]
) -> None:
    path, record_path = plain_run / "selected.parquet", plain_run / "selection.json"
    select(plain_run, keep=5, rule="low", axes=["surprisal"])
    assert read_json(record_path)["selected_sha256"] == file_sha256(path)
    earlier = record_path.read_bytes()
    select(plain_run, keep=5, rule="high", axes=["surprisal"])
    write_report(plain_run)
    # As if the second one had been killed between its two files, or had overtaken the first.
    record_path.write_bytes(earlier)
    with pytest.raises(
        InputError, match=r"selected.parquet: belongs to another selection than selection.json, .*run euds select again"
    ):
        write_report(plain_run)
    # A record of an earlier version has the number of rows alone.
    record_path.write_text(json.dumps({**json.loads(earlier), "selected_sha256": None}))
    assert "Scores and what was kept" in write_report(plain_run).read_text()


def test_a_copied_run_has_its_own_rows_and_rows_elsewhere_are_found(plain_run: Path) -> None:
    select: dict[str, Any] = {"keep": 5, "axes": ["surprisal"]}
    kept = euds.select(plain_run, rule="low", **select).row_ids.tolist()
    copied = plain_run.with_name("copied")
    shutil.copytree(plain_run, copied)
    # The recorded path is now that of another selection.
    euds.select(plain_run, rule="high", **select)
    page = write_report(copied).read_text().split("Dropped")[0]
    assert all(f"<small>row {at} " in page for at in kept)
    # Rows that lie elsewhere do not give way to those of an earlier selection beside the record.
    elsewhere = plain_run.parent / "elsewhere" / "selected.parquet"
    euds.select(plain_run, rule="low", out=elsewhere, **select)
    page = write_report(plain_run).read_text().split("Dropped")[0]
    assert all(f"<small>row {at} " in page for at in kept)
    elsewhere.unlink()
    with pytest.raises(InputError, match=r"run/selected.parquet: belongs to another selection"):
        write_report(plain_run)
    (plain_run / "selected.parquet").unlink()
    with pytest.raises(InputError, match=r"elsewhere/selected.parquet: the selected rows are no longer there"):
        write_report(plain_run)


def test_an_encoder_in_a_folder_is_found_from_anywhere(
    tmp_path: Path, write_jsonl: WriteJsonl, make_texts: Texts, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "models" / "minilm"
    shutil.copytree(tiny_encoder, model)
    corpus = write_jsonl([{"text": text} for text in make_texts(30, 1)])
    settings: dict[str, Any] = {"measures": ["semantic"], "embedder": "models/minilm", "n_clusters": 4}
    run_dir, manifest_path = tmp_path / "run", tmp_path / "run" / "manifest.json"
    monkeypatch.chdir(tmp_path)
    euds.score(corpus, out=run_dir, **settings)
    manifest = read_json(manifest_path)
    assert manifest["models"]["embedder"]["folder"] == str(model)
    assert "folder" not in manifest["fingerprint"]["models"]["embedder"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **named: pytest.fail("the hub was asked"))
    monkeypatch.chdir(elsewhere)
    kept = euds.select(run_dir, keep=0.2, rule="k_center").row_ids.tolist()
    # The same model elsewhere makes the same run; where the folder is gone, the name is what is left.
    shutil.move(tmp_path / "models", elsewhere / "models")
    assert euds.select(run_dir, keep=0.2, rule="k_center").row_ids.tolist() == kept
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"models/minilm: the run's encoder is no longer there; put it back"):
        euds.select(run_dir, keep=0.2, rule="k_center")
    # A manifest of an earlier version has the name alone.
    del manifest["models"]["embedder"]["folder"]
    manifest_path.write_text(json.dumps(manifest))
    monkeypatch.chdir(elsewhere)
    assert euds.select(run_dir, keep=0.2, rule="k_center").row_ids.tolist() == kept
