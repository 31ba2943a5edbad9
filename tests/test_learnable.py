"""What fine-tuning says of labels that cannot be learned and of test rows that were trained on, before it trains."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import euds
from euds.errors import InputError

WriteJsonl = Callable[..., Path]
Rows = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def never_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    result = euds.CellResult({"accuracy": 1.0}, 0.0, 1, 1, 1, 0)
    monkeypatch.setattr("euds.study.cell.train_and_test", lambda *arguments, **named: result)


def rows_of(*labels: str, text: str = "the film") -> Rows:
    """Rows of these labels, no two of one text."""
    return [{"text": f"{text} {at}", "label": label} for at, label in enumerate(labels)]


def test_training_rows_of_one_class_are_refused_by_their_file(tiny_encoder: Path, write_jsonl: WriteJsonl) -> None:
    train = write_jsonl(rows_of("good", "good"), "kept.jsonl")
    said = r"^train: .*kept\.jsonl: all rows have the label 'good'; a classifier needs two$"
    with pytest.raises(InputError, match=said):
        euds.finetune(train, rows_of("good", "bad"), model=tiny_encoder)


def test_test_rows_of_a_label_that_cannot_be_learned_are_counted_aloud(
    tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = rows_of("good", "bad")
    test = rows_of("good", "odd", "new", "good", "new", text="a plot")
    euds.finetune(train, test, model=tiny_encoder)
    said = capsys.readouterr().err
    assert "warning: 3 of 5 test rows have a label that no training row has: 'new', 'odd'; no model gets" in said
    euds.finetune(train, test[:1], model=tiny_encoder)
    assert "warning" not in capsys.readouterr().err


def test_test_rows_that_are_trained_on_are_counted_aloud(
    tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = rows_of("good", "bad", "good")
    test = [{"text": " The FILM\t1", "label": "bad"}, {"text": "another", "label": "good"}]
    euds.finetune(train, test, model=tiny_encoder)
    assert "warning: 1 of 3 training rows have the text of a test row; results flatter" in capsys.readouterr().err
    asked = [
        {"question": f"what {at}", "context": "a film", "answers": {"text": ["film"], "answer_start": [2]}}
        for at in range(3)
    ]
    euds.finetune(asked, asked[1:], model=tiny_encoder, task="question_answering")
    assert "warning: 2 of 3 training rows" in capsys.readouterr().err
    # The same passage with another question is another row.
    euds.finetune(asked, [{**asked[0], "question": "who"}], model=tiny_encoder, task="question_answering")
    assert "warning" not in capsys.readouterr().err
