"""Rows in memory and arguments of fine-tuning that are not what they should be, and what a single step does."""

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

import euds
from euds.errors import InputError, InvalidArgument, InvalidType
from euds.study.examples import examples_of
from euds.study.types import task_of

TASK = task_of("classification")


def rows_of(n: int) -> list[dict[str, Any]]:
    return [{"text": f"the film {at}", "label": ("neg", "pos")[at % 2]} for at in range(n)]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.float32("nan"), "must be text or an integer, got float32"),
        (1.0, "must be text or an integer, got float"),
        (Decimal("NaN"), "must be text or an integer, got Decimal"),
        ({"neg"}, "must be text or an integer, got set"),
        (b"\xff", "must be text or an integer, got bytes"),
        ("\ud83d", "must be text or an integer, got half of a surrogate pair"),
        (" ", "is empty; give the row its label, or leave it out"),
    ],
)
def test_what_is_no_label_is_named(label: object, message: str) -> None:
    with pytest.raises(InputError, match=f"^training row 2: 'label' {message}$"):
        examples_of([{"text": "a", "label": "neg"}, {"text": "b", "label": label}], TASK, "training")


def test_labels_of_other_types_are_texts() -> None:
    given = [np.int64(3), np.str_("neg"), True, b"pos", datetime(2020, 1, 2)]
    found = examples_of([{"text": "a", "label": label} for label in given], TASK, "training")
    assert [example.label for example in found] == ["3", "neg", "True", "pos", "2020-01-02 00:00:00"]


def test_an_empty_cell_of_a_label_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("text,label\nthe film,neg\nthe plot,\n")
    with pytest.raises(InputError, match=r"train\.csv, row 2: 'label' is empty"):
        euds.finetune(path, rows_of(2), model="not looked for yet")


def test_labels_that_parquet_holds_as_bytes_are_texts(tmp_path: Path, tiny_encoder: Path) -> None:
    rows = rows_of(4)
    labels = pa.array([row["label"].encode() for row in rows], pa.binary())
    pq.write_table(pa.table({"text": [row["text"] for row in rows], "label": labels}), tmp_path / "b.parquet")
    euds.finetune(tmp_path / "b.parquet", rows, model=tiny_encoder, steps=1, save_model=tmp_path / "model")
    assert set(json.loads((tmp_path / "model" / "config.json").read_text())["label2id"]) == {"neg", "pos"}


def test_rows_and_fields_of_another_type_are_named() -> None:
    rows = rows_of(2)
    cases: list[tuple[Any, dict[str, Any], str]] = [
        ((row for row in rows), {}, "training rows: must be a list, got generator, which can be read only once"),
        ([None, *rows], {}, "training row 1: must be fields by name, got NoneType"),
        (["train.jsonl"], {}, "training row 1: must be fields by name, got str; give files by one path or glob"),
        (rows, {"text_field": 3}, "text_field: must be a name or a list of names, got 3"),
        (rows, {"label_field": 3}, "label_field: must be the name of a field, got int"),
    ]
    for train, settings, message in cases:
        with pytest.raises(InvalidType, match=f"^{message}"):
            euds.finetune(train, rows, model="not looked for yet", **settings)


def test_a_label_that_is_read_and_a_seed_that_stands_twice_are_refused() -> None:
    rows = rows_of(2)
    for text_field in ("label", ["text", "label"]):
        with pytest.raises(InvalidArgument, match="label_field: 'label' is a text field, too"):
            euds.finetune(rows, rows, model="not looked for yet", text_field=text_field)
    with pytest.raises(InvalidArgument, match=r"seeds: one is given twice, .* got \[1, 0, 1\]"):
        euds.finetune(rows, rows, model="not looked for yet", seeds=[1, 0, 1])


def test_a_single_step_trains(tiny_encoder: Path, tmp_path: Path) -> None:
    rows = rows_of(4)
    euds.finetune(rows, rows, model=tiny_encoder, steps=1, learning_rate=0.1, save_model=tmp_path / "model")
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_encoder, tmp_path / "model"))
    name = next(name for name in after if name.endswith("word_embeddings.weight"))
    start = next(value for key, value in before.items() if name.endswith(key) or key.endswith(name))
    assert (after[name] - start).abs().max() > 0.01


def test_a_training_that_diverged_is_told(tiny_encoder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of(8)
    euds.finetune(rows, rows, model=tiny_encoder, steps=2)
    assert "diverged" not in capsys.readouterr().err
    euds.finetune(rows, rows, model=tiny_encoder, steps=8, learning_rate=1e30)
    assert "warning: the training has diverged: outputs of the model are not finite" in capsys.readouterr().err
