"""Where fine-tuning may write: over no rows and no model that it reads."""

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from test_score_resume import digests

import euds
from euds.errors import InvalidArgument

WriteJsonl = Callable[..., Path]


@pytest.fixture(autouse=True)
def never_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    result = euds.CellResult({"accuracy": 1.0}, 0.0, 1, 1, 1, 0)
    monkeypatch.setattr("euds.study.cell.train_and_test", lambda *arguments, **named: result)


@pytest.fixture
def rows(write_jsonl: WriteJsonl) -> Path:
    return write_jsonl([{"text": f"the film {at}", "label": at % 2} for at in range(4)], "rows.jsonl")


@pytest.fixture
def model(tiny_encoder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_encoder, tmp_path / "model"))


@pytest.mark.parametrize("split", ["train", "test"])
def test_results_do_not_go_over_rows_that_are_read(
    rows: Path, model: Path, tmp_path: Path, write_jsonl: WriteJsonl, split: str
) -> None:
    other = write_jsonl([{"text": f"a plot {at}", "label": at % 2} for at in range(4)], "other.jsonl")
    link, hard = tmp_path / "link.json", tmp_path / "hard.json"
    link.symlink_to(rows)
    os.link(rows, hard)
    with zipfile.ZipFile(tmp_path / "rows.zip", "w") as archive:
        archive.write(rows, "rows.jsonl")
    before = digests(tmp_path)
    for source, out in (
        (rows, rows),
        (rows, link),
        (rows, hard),
        (tmp_path / "row*.jsonl", rows),
        (f"zip://rows.jsonl::{tmp_path / 'rows.zip'}", tmp_path / "rows.zip"),
    ):
        with pytest.raises(InvalidArgument, match=r"out: .* is a file of the rows or the model; name another"):
            euds.finetune(*((source, other) if split == "train" else (other, source)), model=model, out=out)
    assert digests(tmp_path) == before
    euds.finetune(rows, rows, model=model, out=tmp_path / "results.json")


def test_nothing_goes_over_the_model_that_is_read(rows: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(model)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "model.safetensors").symlink_to(model / "model.safetensors")
    before = digests(model)
    for folder in ("model", "link", "half"):
        with pytest.raises(InvalidArgument, match=r"save_model: .* has files of the base model; name another folder"):
            euds.finetune(rows, rows, model=model, save_model=tmp_path / folder)
    with pytest.raises(InvalidArgument, match=r"out: .*config\.json is a file of the rows or the model"):
        euds.finetune(rows, rows, model=model, out=model / "config.json")
    assert digests(model) == before
    # Another model's folder may be written over, and one inside the base model's is another.
    shutil.copytree(model, tmp_path / "earlier")
    for place in (tmp_path / "earlier", model / "tuned"):
        euds.finetune(rows, rows, model=model, save_model=place)


def test_results_and_model_do_not_go_over_each_other(rows: Path, model: Path, tmp_path: Path) -> None:
    for out, folder in (("x", "x"), ("y/config.json", "y"), ("z", "z/model")):
        with pytest.raises(InvalidArgument, match=r"save_model: .* would be written over one another"):
            euds.finetune(rows, rows, model=model, out=tmp_path / out, save_model=tmp_path / folder)
    euds.finetune(rows, rows, model=model, out=tmp_path / "w" / "results.json", save_model=tmp_path / "w")
