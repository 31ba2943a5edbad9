"""Check training and test rows and bring them into the form a task needs."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from euds.corpus import check_fields, check_inputs, list_inputs, read_rows, scalar_text
from euds.errors import InputError, InvalidType, nearest
from euds.progress import say
from euds.study.types import QUESTION_ANSWERING, Task

Rows = Sequence[Mapping[str, Any]]
SHOWN_LABELS = 4


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
        what: which rows, such as "training" or "test", for messages.

    Raises:
        InputError: there is no row, or one lacks a field or holds something else than the task needs.
        InvalidType: a row is no mapping, or rows can be read only once.
    """
    if isinstance(rows, Iterator):
        raise InvalidType(f"{what} rows: must be a list, got {type(rows).__name__}, which can be read only once")
    if not rows:
        raise InputError(f"there are no {what} rows")
    examples = []
    for at, row in enumerate(rows):
        where = f"{what} row {at + 1}"
        if not isinstance(row, Mapping):
            raise InvalidType(
                f"{where}: must be fields by name, got {type(row).__name__}; give files by one path or glob"
            )
        examples.append(example_of(row, task, where))
    return examples


def read_examples(
    source: str | Path, task: Task, others: Sequence[str] = ()
) -> tuple[list[dict[str, Any]], list[Example]]:
    """Return the rows of a corpus file or glob: their fields by name, and the same rows as examples.

    Args:
        source: file or glob.
        task: what is learned.
        others: fields that must be there beside those of the task.

    Raises:
        InputError: a file or field is missing, there is no row, or one cannot be read or does not suit the task; file
            and row are named.
    """
    files = list_inputs([source])
    check_inputs(files)
    check_fields(files, [*task.text_fields, task.label_field, *others])
    rows: list[dict[str, Any]] = []
    examples: list[Example] = []
    for row in read_rows(files):
        where = f"{row.file}, row {row.position}"
        if row.fields is None:
            raise InputError(f"{where}: {row.error}; rows to train or test on must all be readable")
        rows.append(_decoded(row.fields, task.label_field))
        examples.append(example_of(rows[-1], task, where))
    return rows, examples


def classes_of(rows: Rows, task: Task) -> frozenset[str]:
    """Return the classes of rows that have a label; questions have none."""
    if task.kind == QUESTION_ANSWERING:
        return frozenset()
    labels = (_label(row.get(task.label_field)) for row in rows)
    return frozenset(label for label in labels if label is not None)


def check_common_labels(train: Set[str], test: Set[str]) -> None:
    """Refuse labels to test on that no classifier of the training rows could get right, such as 0 against "negative".

    Raises:
        InputError: there is no label in common.
    """
    if not train & test:
        raise InputError(
            f"no label of the test rows is one of the training rows: {_some(test)} against {_some(train)}; "
            "write them alike"
        )


def check_learnable(train: Sequence[Example], test: Sequence[Example], *, source: str, which: str = "all rows") -> None:
    """Refuse training rows that no classifier could learn from; say how many test rows none could then get right.

    Args:
        train: training examples, of which there is one at least.
        test: test examples.
        source: what the training rows come from, a file or an argument, for the message.
        which: what they are of it, for the message.

    Raises:
        InputError: the training rows have one label only, or none in common with the test rows.
    """
    known = {example.label for example in train}
    check_common_labels(known, {example.label for example in test})
    check_classes(known, source, which)
    strange = [example.label for example in test if example.label not in known]
    if strange:
        say(
            f"warning: {len(strange):,} of {len(test):,} test rows have a label that no training row has: "
            f"{_some(set(strange))}; no model gets them right"
        )


def check_classes(labels: Set[str], source: str, which: str = "all rows") -> None:
    """Refuse rows of a single class; see `check_learnable` for the arguments.

    Raises:
        InputError: there is only one.
    """
    if len(labels) == 1:
        raise InputError(f"{source}: {which} have the label {min(labels)!r}; a classifier needs two")


def as_compared(text: str) -> str:
    """Return a text as repeats are told by: in lower case, with single spaces."""
    return " ".join(text.lower().split())


def warn_of_repeats(train: Sequence[str], test: Sequence[str], *, of: str, flattered: str) -> None:
    """Say how many training rows a model would meet again in the test.

    Args:
        train, test: texts, as `as_compared` gives them.
        of: the training rows and their number.
        flattered: whom results then flatter.
    """
    known = set(test)
    n_repeats = sum(text in known for text in train)
    if n_repeats:
        say(f"warning: {n_repeats:,} of {of} have the text of a test row; results flatter {flattered}")


def _some(labels: Set[str]) -> str:
    shown = ", ".join(map(repr, sorted(labels)[:SHOWN_LABELS]))
    return shown if len(labels) <= SHOWN_LABELS else f"{shown}, ..."


def example_of(row: Mapping[str, Any], task: Task, where: str) -> Example:
    """Return a row as an example; `where` is what messages call it.

    Raises:
        InputError: it lacks a field or holds something else than the task needs.
    """
    texts = tuple(_text(row, field, where) for field in task.text_fields)
    value = _field(row, task.label_field, where)
    if task.kind != QUESTION_ANSWERING:
        label = _label(value)
        if label is None:
            got = "half of a surrogate pair" if isinstance(value, str) else type(value).__name__
            raise InputError(f"{where}: {task.label_field!r} must be text or an integer, got {got}")
        if not label.strip():
            raise InputError(f"{where}: {task.label_field!r} is empty; give the row its label, or leave it out")
        return Example(texts, label=label)
    answers, start = _answers(value)
    if not answers:
        raise InputError(
            f"{where}: {task.label_field!r} must be {{'text': [...], 'answer_start': [...]}} with at least one answer"
        )
    if texts[1][start : start + len(answers[0])] != answers[0]:
        raise InputError(f"{where}: the answer {answers[0]!r} does not stand at character {start} of the passage")
    return Example(texts, answers=answers, answer_start=start)


def _label(value: object) -> str | None:
    """Return a label as text; None for what is no label, such as fractions and NaN of any kind."""
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) else scalar_text(plain)


def _decoded(fields: Mapping[str, Any], label_field: str) -> dict[str, Any]:
    """Return a row with the bytes of its label, as Parquet may hold them, as text if they are."""
    row = dict(fields)
    if isinstance(row.get(label_field), bytes):
        row[label_field] = scalar_text(row[label_field]) or row[label_field]
    return row


def _answers(value: Any) -> tuple[tuple[str, ...], int]:
    """Return the answers of SQuAD's form and where the first one starts; no answer where it is of another form."""
    if not isinstance(value, Mapping):
        return (), -1
    answers, starts = value.get("text"), value.get("answer_start")
    if not (isinstance(answers, Sequence) and isinstance(starts, Sequence) and answers and starts):
        return (), -1
    whole = not isinstance(answers, str) and all(isinstance(answer, str) and answer for answer in answers)
    if not (whole and isinstance(starts[0], int) and starts[0] >= 0):
        return (), -1
    return tuple(answers), starts[0]


def _field(row: Mapping[str, Any], field: str, where: str) -> Any:
    if field not in row:
        raise InputError(f"{where}: no field {field!r}{nearest(field, row)}; fields: {', '.join(row)}")
    return row[field]


def _text(row: Mapping[str, Any], field: str, where: str) -> str:
    value = _field(row, field, where)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: {field!r} must be text that is not empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{where}: {field!r} holds half of a surrogate pair, which is no character") from None
    return value
