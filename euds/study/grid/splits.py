"""The rows of a study: pool and validation carved from the training file, test rows untouched, repetitions removed."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from euds.errors import InputError, one_of
from euds.selection.duplicates import near_duplicates
from euds.study.examples import check_common_labels, examples_of, read_examples
from euds.study.grid.config import StudyFile
from euds.study.types import CLASSIFICATION, Task
from euds.texts import joined

Record = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Splits:
    """Rows of a study by what they are for, and how they came about.

    Attributes:
        pool: rows to choose from.
        validation: rows that decide which rule is reported as the best; none repeats a row of the pool.
        test: rows that are read only to measure; none is repeated in pool or validation.
        counts: "raw_train" and "raw_test" rows of the files that are of the study's classes or whose answer stands in
            the cut passage, "near_duplicates_of_test" dropped from train, "near_duplicates_within_train" counted and
            left, and the sizes of the three.
    """

    pool: Sequence[Record]
    validation: Sequence[Record]
    test: Sequence[Record]
    counts: Mapping[str, int]


def take_splits(study: StudyFile) -> Splits:
    """Draw the splits; the same file always gives the same rows.

    Raises:
        InputError: a file or field is missing, a row is bad, or too few rows are left.
    """
    data = study.data
    task = study.settled_task
    train: Sequence[Record]
    test: Sequence[Record]
    train, learned = read_examples(data.train, task, [data.source_field] if data.source_field else [])
    test, judged = read_examples(data.test, task)
    if task.kind == CLASSIFICATION:
        check_common_labels({example.label for example in learned}, {example.label for example in judged})
    if data.classes is not None:
        train = _of_classes(train, task.label_field, data.classes, data.train)
        test = _of_classes(test, task.label_field, data.classes, data.test)
    if data.passage_words is not None:
        train = _with_cut_passages(train, task, data.passage_words, data.train)
        test = _with_cut_passages(test, task, data.passage_words, data.test)
    rng = np.random.default_rng(data.seed)
    texts = [whole_text(row, task.text_fields) for row in train]
    of_test = set(near_duplicates(texts, [whole_text(row, task.text_fields) for row in test]).tolist())
    order = [int(at) for at in rng.permutation(len(train)) if int(at) not in of_test]
    validation = order[: data.validation]
    rest = order[data.validation :]
    repeated = set(near_duplicates([texts[at] for at in rest], [texts[at] for at in validation]).tolist())
    pool = [at for place, at in enumerate(rest) if place not in repeated][: data.pool]
    for what, found, wanted in (
        ("pool", len(pool), data.pool),
        ("validation", len(validation), data.validation),
        ("test_rows", len(test), data.test_rows),
    ):
        if found < wanted:
            raise InputError(f"data.{what}: {wanted:,} rows are asked for, but only {found:,} are left")
    chosen = np.sort(rng.permutation(len(test))[: data.test_rows])
    return Splits(
        pool=[train[at] for at in sorted(pool)],
        validation=[train[at] for at in sorted(validation)],
        test=[test[int(at)] for at in chosen],
        counts={
            "raw_train": len(train),
            "raw_test": len(test),
            "near_duplicates_of_test": len(of_test),
            "near_duplicates_within_train": len(near_duplicates([str(row[task.text_fields[0]]) for row in train])),
            "pool": data.pool,
            "validation": data.validation,
            "test": data.test_rows,
        },
    )


def whole_text(row: Record, fields: Sequence[str]) -> str:
    """Return the text or pair of a row as one string."""
    return joined(str(row[field]) for field in fields)


def _of_classes(rows: Sequence[Record], label_field: str, classes: Sequence[str], file: str) -> list[Record]:
    known = sorted({str(row[label_field]) for row in rows})
    for name in classes:
        one_of(f"data.classes: {file}", name, known)
    return [row for row in rows if str(row[label_field]) in classes]


def _with_cut_passages(rows: Sequence[Record], task: Task, words: int, file: str) -> list[Record]:
    """Cut each passage after its first words, and leave out the rows whose first answer does not end within them."""
    passage = task.text_fields[1]
    kept: list[Record] = []
    for row, example in zip(rows, examples_of(rows, task, file), strict=True):
        *_, end = (word.end() for word in islice(re.finditer(r"\S+", example.texts[1]), words))
        if example.answer_start + len(example.answers[0]) <= end:
            kept.append({**row, passage: example.texts[1][:end]})
    return kept
