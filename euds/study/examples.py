"""Check training and test rows and bring them into the form a task needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from euds.errors import InputError, nearest
from euds.study.types import QUESTION_ANSWERING, Task

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Example:
    """One row: its text or pair, and its label, or the answers and the position of the first one in the passage."""

    texts: tuple[str, ...]
    label: str = ""
    answers: tuple[str, ...] = ()
    answer_start: int = -1


def examples_of(rows: Rows, task: Task, what: str) -> list[Example]:
    """Return the rows as examples.

    Args:
        rows: fields by name.
        task: what is learned.
        what: "training" or "test", for messages.

    Raises:
        InputError: there is no row, or one lacks a field or holds something else than the task needs.
    """
    if not rows:
        raise InputError(f"there are no {what} rows")
    return [_example(row, task, f"{what} row {at + 1}") for at, row in enumerate(rows)]


def _example(row: Mapping[str, Any], task: Task, where: str) -> Example:
    texts = tuple(_text(row, field, where) for field in task.text_fields)
    value = _field(row, task.label_field, where)
    if task.kind != QUESTION_ANSWERING:
        if value is None or isinstance(value, Mapping | list | float):
            raise InputError(f"{where}: {task.label_field!r} must be text or an integer, got {type(value).__name__}")
        return Example(texts, label=str(value))
    if not isinstance(value, Mapping) or not value.get("text") or not value.get("answer_start"):
        raise InputError(
            f"{where}: {task.label_field!r} must be {{'text': [...], 'answer_start': [...]}} with at least one answer"
        )
    answers, start = tuple(map(str, value["text"])), int(value["answer_start"][0])
    if texts[1][start : start + len(answers[0])] != answers[0]:
        raise InputError(f"{where}: the answer {answers[0]!r} does not stand at character {start} of the passage")
    return Example(texts, answers=answers, answer_start=start)


def _field(row: Mapping[str, Any], field: str, where: str) -> Any:
    if field not in row:
        raise InputError(f"{where}: no field {field!r}{nearest(field, row)}; fields: {', '.join(row)}")
    return row[field]


def _text(row: Mapping[str, Any], field: str, where: str) -> str:
    value = _field(row, field, where)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: {field!r} must be text that is not empty")
    return value
