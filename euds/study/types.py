"""What a study is made of: a task, training settings, methods to compare, and results."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from euds.errors import InvalidArgument, instance_of, names_of, one_of, positive_number, whole_number
from euds.files import json_sha256
from euds.types import Float64Array, Int64Array

CLASSIFICATION, QUESTION_ANSWERING = "classification", "question_answering"
METRICS = {CLASSIFICATION: ("accuracy", "macro_f1"), QUESTION_ANSWERING: ("f1", "exact_match")}
"""Metrics by task, the main one first; each in 0..1."""

LEARNING_RATE = {CLASSIFICATION: 1e-4, QUESTION_ANSWERING: 2e-4}
MAX_TOKENS = {CLASSIFICATION: 256, QUESTION_ANSWERING: 384}
PRECISIONS = ("float32", "bfloat16")
DEFAULT_EPOCHS = 3.0


@dataclass(frozen=True)
class Task:
    """What a model learns.

    Attributes:
        kind: "classification" or "question_answering" (extractive).
        text_fields: one field, or two for pairs; for questions the question and the passage.
        label_field: field of the label; for questions of the answers, {"text": [...], "answer_start": [...]}, as SQuAD.
    """

    kind: str
    text_fields: tuple[str, ...]
    label_field: str

    def __post_init__(self) -> None:
        """Refuse an impossible task."""
        one_of("task", self.kind, METRICS)
        if self.kind == QUESTION_ANSWERING and len(self.text_fields) != 2:
            raise InvalidArgument("text_field: question answering reads two fields, the question and the passage")
        if not 1 <= len(self.text_fields) <= 2:
            raise InvalidArgument(f"text_field: give one field, or two for pairs; got {len(self.text_fields)}")
        if len(set(self.text_fields)) < len(self.text_fields):
            raise InvalidArgument(f"text_field: {self.text_fields[0]!r} is named twice; name two fields, or it once")
        if self.label_field in self.text_fields:
            raise InvalidArgument(f"label_field: {self.label_field!r} is a text field, too; name another")
        for name, fields in (("text_field", self.text_fields), ("label_field", (self.label_field,))):
            if "" in fields:
                raise InvalidArgument(f"{name}: a name is empty; name a field, or leave {name} out")


def task_of(kind: str, text_field: str | Sequence[str] | None = None, label_field: str | None = None) -> Task:
    """Return a task; fields not given have their usual names: "text" and "label", for questions those of SQuAD.

    Raises:
        InvalidArgument: the kind is unknown, the number of fields does not suit it, or a name is empty or stands twice.
        InvalidType: a name is no string.
    """
    questions = kind == QUESTION_ANSWERING
    usual = ("question", "context") if questions else ("text",)
    given = usual if text_field is None else text_field
    fields = names_of("text_field", given)
    if label_field is not None:
        instance_of("label_field", label_field, str, "the name of a field")
    return Task(kind, fields, ("answers" if questions else "label") if label_field is None else label_field)


def epochs_of(epochs: float | None, steps: int | None) -> float | None:
    """Return the passes over the training rows: 3 where neither they nor steps are given."""
    return DEFAULT_EPOCHS if epochs is None and steps is None else epochs


@dataclass(frozen=True)
class TrainConfig:
    """How a model is fine-tuned; AdamW, linear warm-up and decay.

    Attributes:
        model: asset, folder or hub name of a BERT-like model.
        epochs: passes over the training rows; None with `steps`.
        steps: optimizer steps, so that every method sees the same number of examples; None with `epochs`.
        batch_size: rows of a training batch.
        learning_rate: peak; None: 1e-4, for questions 2e-4.
        max_tokens: tokens read of each text; None: 256, for questions windows of 384.
        warmup: share of the steps over which the learning rate rises.
        weight_decay: of AdamW.
        precision: "float32", or "bfloat16" for products in bfloat16 and weights in float32 (autocast).
        by_length: whether texts of about the same length share a batch, which saves padding. Texts are shuffled, then
            sorted within each 50 batches, or each quarter of all if that is less: there training goes from long texts
            to short ones.
    """

    model: str
    epochs: float | None = DEFAULT_EPOCHS
    steps: int | None = None
    batch_size: int = 16
    learning_rate: float | None = None
    max_tokens: int | None = None
    warmup: float = 0.1
    weight_decay: float = 0.01
    precision: str = "float32"
    by_length: bool = False

    def __post_init__(self) -> None:
        """Refuse impossible settings before a model is loaded."""
        if (self.epochs is None) == (self.steps is None):
            raise InvalidArgument("epochs, steps: give one of them; leave the other out, or None (null in YAML)")
        one_of("precision", self.precision, PRECISIONS)
        for name, least in (("steps", 1), ("batch_size", 1), ("max_tokens", 8)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, whole_number(name, getattr(self, name), least=least))
        for name in ("epochs", "learning_rate"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, positive_number(name, getattr(self, name)))

    def n_steps(self, n_rows: int) -> int:
        """Return the optimizer steps for a training set of n_rows."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, math.ceil(math.ceil(n_rows / self.batch_size) * self.epochs))

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class CellResult:
    """One fine-tuned model on the test rows.

    Attributes:
        metrics: by name, each in 0..1: accuracy and macro_f1, or f1 and exact_match.
        train_seconds: training alone, without loading and testing.
        n_train, n_test: rows.
        steps: optimizer steps taken.
        seed: of the new head, the order of the rows and dropout.
    """

    metrics: Mapping[str, float]
    train_seconds: float
    n_train: int
    n_test: int
    steps: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON types."""
        return {**asdict(self), "metrics": dict(self.metrics)}


@dataclass(frozen=True, eq=False)
class Judged:
    """What a model gets right of some rows: metrics by name, and the main metric row by row, (n,) in 0..1."""

    metrics: Mapping[str, float]
    row_scores: Float64Array


@dataclass(frozen=True, eq=False)
class FineTuned:
    """One fine-tuned model: what it gets right of each set of rows, steps, seconds of training and testing."""

    judged: Mapping[str, Judged]
    steps: int
    train_seconds: float
    test_seconds: float


@dataclass(frozen=True, eq=False)
class MethodRows:
    """The training rows that one method chose.

    Attributes:
        name: as the table shows it.
        rule: selection rule, or None for the full data.
        axes: scores that the rule looked at.
        row_ids: the rows, or rows by seed where the method draws anew for each.
        scoring_seconds: cost of the scores that the rule needs.
        search_seconds: cost of choosing by them; where rows are drawn for each seed, of one draw.
        search: records of searches by labels, `validated` and `keep_auto`, as selection.json has them; None without.
    """

    name: str
    rule: str | None
    axes: tuple[str, ...]
    row_ids: Int64Array | Mapping[int, Int64Array]
    scoring_seconds: float
    search_seconds: float = 0.0
    search: Mapping[str, Any] | None = None

    def rows_for(self, seed: int) -> Int64Array:
        """Return the rows for a training seed."""
        return self.row_ids[seed] if isinstance(self.row_ids, Mapping) else self.row_ids


@dataclass(frozen=True)
class Spread:
    """A value over seeds: mean, sample standard deviation (None for one seed), and the values in order of the seeds."""

    mean: float
    sd: float | None
    values: tuple[float, ...]


@dataclass(frozen=True)
class StudyRow:
    """One method of a study; `keep` is its share of the pool's scored rows, `search...` are those of `MethodRows`."""

    name: str
    rule: str | None
    axes: tuple[str, ...]
    rows: int
    keep: float
    metrics: Mapping[str, Spread]
    train_seconds: Spread
    scoring_seconds: float
    search_seconds: float = 0.0
    search: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class StudyTable:
    """The comparison of several methods on one task.

    Attributes:
        task: kind of task.
        metrics: names, the main one first.
        seeds: training seeds, the same for every method.
        config: training settings.
        full_rows: scored rows of the pool, what every method chose from.
        n_test: test rows.
        methods: one row a method, in the order asked for.
        selection_sha256: `rows_sha256` of the run's selection at that time; None without one.
    """

    task: str
    metrics: tuple[str, ...]
    seeds: tuple[int, ...]
    config: Mapping[str, Any]
    full_rows: int
    n_test: int
    methods: tuple[StudyRow, ...]
    selection_sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the table as plain JSON types."""
        return asdict(self)


def rows_sha256(row_ids: Int64Array | None) -> str | None:
    """Return the hexadecimal SHA-256 of a set of rows, in whatever order; None for None."""
    return None if row_ids is None else json_sha256(sorted(row_ids.tolist()))


def spread(values: Sequence[float]) -> Spread:
    """Summarise values over seeds."""
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Spread(mean, None, tuple(values))
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return Spread(mean, math.sqrt(variance), tuple(values))
