"""The file of a grid's finished cells: round trips, crashes, damage."""

import base64
import json
import os
import zlib
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from euds.cli.app import app
from euds.errors import InputError, InvalidArgument
from euds.study.grid import cells
from euds.study.grid.cells import (
    Cell,
    append_cell,
    decode,
    decode_positions,
    decode_scores,
    encode,
    encode_positions,
    encode_scores,
    read_cells,
)
from euds.study.grid.facts import processor


def make_cell(seed: int = 0, **changes: Any) -> Cell:
    rng = np.random.default_rng(seed)
    cell = Cell(
        cell=f"{seed:024x}",
        method="igse_box",
        keep=0.16,
        schedule="3 epochs",
        selection_seed=0,
        seed=seed,
        n_train=200,
        steps=39,
        metrics={"test": {"accuracy": 0.81, "macro_f1": 0.8}, "validation": {"accuracy": 0.79}},
        test_scores=rng.integers(0, 2, 100).astype(float),
        selected=np.sort(rng.permutation(1250)[:200]),
        train_seconds=5.6,
        test_seconds=3.1,
    )
    return replace(cell, **changes)


def assert_same(first: Cell, second: Cell) -> None:
    for field in fields(Cell):
        one, other = getattr(first, field.name), getattr(second, field.name)
        assert np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other, field.name


def test_cells_come_back_in_order_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "task.cells.jsonl"
    cells = [make_cell(seed) for seed in range(3)]
    for cell in cells:
        append_cell(path, cell)
    for cell, found in zip(cells, read_cells(path), strict=True):
        assert_same(cell, found)


def test_a_new_file_outlasts_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(cells, "sync_folder", synced.append)
    path = tmp_path / "new" / "one.cells.jsonl"
    append_cell(path, make_cell(0))
    append_cell(path, make_cell(1))
    assert synced == [path.parent]


def test_every_cell_outlasts_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    path = tmp_path / "one.cells.jsonl"
    for seed in range(2):
        synced.clear()
        append_cell(path, make_cell(seed))
        assert path.stat().st_ino in synced


def test_the_line_is_what_other_readers_expect() -> None:
    cell = make_cell(test_scores=np.array([1.0, 0.0, 0.5]), selected=np.array([0, 9]), keep=1)
    record = json.loads(encode(cell))
    assert list(zlib.decompress(base64.b64decode(record["test_scores"]))) == [255, 0, 128]
    mask = np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(record["selected"])), np.uint8))
    assert np.flatnonzero(mask).tolist() == [0, 9]
    assert (record["method"], record["keep"], record["metrics"]["test"]["accuracy"]) == ("igse_box", 1, 0.81)


def test_the_processor_is_kept_where_it_is_known() -> None:
    assert "processor" not in json.loads(encode(make_cell()))
    assert decode(encode(make_cell())).processor is None
    assert decode(encode(make_cell(processor="some CPU"))).processor == "some CPU"


def test_a_mask_of_the_whole_pool_written_by_others_is_read() -> None:
    mask = np.zeros(1250, bool)
    mask[[3, 700]] = True
    text = base64.b64encode(zlib.compress(np.packbits(mask).tobytes())).decode()
    cell = replace(make_cell(), selected=decode_positions(text))
    assert np.array_equal(cell.mask(1250), mask)


def test_scores_are_rounded_to_a_byte() -> None:
    scores = np.random.default_rng(0).random(1000)
    assert np.abs(decode_scores(encode_scores(scores)) - scores).max() <= 1 / 510 + 1e-12
    assert decode_scores(encode_scores(np.array([0.0, 1.0]))).tolist() == [0, 1]


@pytest.mark.parametrize("positions", [[], [0], [7], [8], [0, 1, 2, 1249]])
def test_positions_come_back(positions: list[int]) -> None:
    assert decode_positions(encode_positions(np.array(positions, np.int64))).tolist() == positions


def test_what_cannot_be_stored_is_refused() -> None:
    for scores in ([1.01], [-0.1], [np.nan]):
        with pytest.raises(InvalidArgument, match="test_scores"):
            encode_scores(np.array(scores))
    for positions in (np.array([-1, 2]), np.array([True, False])):
        with pytest.raises(InvalidArgument, match="selected"):
            encode_positions(positions)


def test_a_torn_last_line_is_skipped_and_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "task.cells.jsonl"
    append_cell(path, make_cell(0))
    whole = path.read_bytes()
    for cut in (1, 40, len(whole) - 1):
        path.write_bytes(whole + encode(make_cell(1))[:cut])
        assert [cell.seed for cell in read_cells(path)] == [0]
        assert "line 2" in capsys.readouterr().err
        append_cell(path, make_cell(2))
        assert [cell.seed for cell in read_cells(path)] == [0, 2]


@pytest.mark.parametrize(
    "damage",
    [
        b"{broken",
        b"",
        b"[]",
        b"{}",
        encode(make_cell(1)).replace(b'"steps": 39', b'"steps": null'),
        encode(make_cell(1)).replace(b'"seed": 1', b'"seed": Infinity'),
        encode(make_cell(1)).replace(b'"keep": 0.16', b'"keep": NaN'),
        encode(make_cell(1)).replace(b'"accuracy": 0.81', b'"accuracy": NaN'),
        encode(make_cell(1)).replace(b'"selected": "', b'"selected": "!'),
        encode(make_cell(1)).replace(b'"test_scores": "', b'"test_scores": "AAAA'),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "task.cells.jsonl"
    path.write_bytes(b"\n".join([encode(make_cell(0)), damage, encode(make_cell(2)), b""]))
    with pytest.raises(InputError, match=r"task\.cells\.jsonl, line 2: "):
        read_cells(path)


def test_a_repeated_cell_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "task.cells.jsonl"
    with pytest.raises(InputError, match="no such file"):
        read_cells(path)
    with pytest.raises(InputError, match="cannot be read: "):
        read_cells(tmp_path)
    append_cell(path, make_cell(0))
    append_cell(path, make_cell(0, cell="f" * 24))
    with pytest.raises(InputError, match=r"line 2: f{24} repeats"):
        read_cells(path)
    assert_same(decode(encode(make_cell(0))), make_cell(0))


def test_a_cell_that_comes_out_otherwise_elsewhere_names_both_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    tuned = SimpleNamespace(judged={"test": SimpleNamespace(metrics={"accuracy": 0.5})})

    def rerun(name: str | None, metric: float) -> tuple[int, str]:
        cell = make_cell(processor=name, metrics={"test": {"accuracy": metric}})
        monkeypatch.setattr("euds.study.grid.run.rerun_cell", lambda *_: (cell, tuned))
        found = CliRunner().invoke(app, ["study", "study.yaml", "--rerun", "random"])
        return found.exit_code, found.stderr

    assert rerun("Some CPU", 0.5) == (0, "")
    assert rerun("Some CPU", 0.6) == (1, f"trained on Some CPU; this is {processor()}\n")
    assert rerun(None, 0.6) == (1, f"trained on a processor that was not recorded; this is {processor()}\n")
    assert rerun(processor(), 0.6) == (1, "")
