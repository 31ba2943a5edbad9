"""The cheap trainee that stands in for fine-tuning: a linear probe, judged on rows kept apart."""

import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from euds.errors import InputError
from euds.types import Int64Array

VALIDATION_SHARE = 0.2
MAX_VALIDATION = 5000
MIN_VALIDATION = 20
PROBE = "logistic regression, C = 10"


@dataclass(frozen=True, eq=False)
class Trainee:
    """What the probe learns from.

    Attributes:
        row_ids: (n,) ascending.
        features: (n, width), a dense array or a SciPy sparse matrix.
        labels: (n,) class codes, -1 where a row has none; such rows are neither trained on nor judged by.
        source: what the features are.
    """

    row_ids: Int64Array
    features: Any
    labels: Int64Array
    source: str

    def split(self, seed: int) -> tuple[Int64Array, Int64Array]:
        """Return positions to train on and to validate on; see `split_by_label`."""
        return split_by_label(self.labels, seed)

    def positions(self, row_ids: Int64Array) -> Int64Array:
        """Return the positions of ids, all of which must be there."""
        return np.searchsorted(self.row_ids, row_ids)


def split_by_label(labels: Int64Array, seed: int) -> tuple[Int64Array, Int64Array]:
    """Return positions to train on and to validate on: a fifth of each class, at most 5,000 rows in all.

    Args:
        labels: (n,) class codes, -1 where a row has none.
        seed: of the split.

    Raises:
        InputError: fewer than two classes or 20 validation rows would be left.
    """
    known = np.flatnonzero(labels >= 0)
    rng = np.random.default_rng(seed)
    share = min(VALIDATION_SHARE, MAX_VALIDATION / max(len(known), 1))
    parts = []
    for label in np.unique(labels[known]):
        rows = rng.permutation(known[labels[known] == label])
        parts.append(rows[: round(share * len(rows))])
    validation = np.sort(np.concatenate([np.empty(0, np.int64), *parts]))
    if len(validation) < MIN_VALIDATION or len(np.unique(labels[validation])) < 2:
        raise InputError(
            f"a validation split needs {MIN_VALIDATION} rows of at least two classes, but a fifth of the "
            f"{len(known)} labelled rows gives {len(validation)}; choose a rule without labels"
        )
    return np.setdiff1d(known, validation, assume_unique=True), validation


class Trials:
    """Trains probes, and counts how many and how long."""

    def __init__(self, trainee: Trainee) -> None:
        self.trainee = trainee
        self.count = 0
        self.seconds = 0.0

    def accuracy(self, rows: Int64Array, validation: Int64Array) -> float:
        """Return the share of the validation rows that a probe trained on `rows` gets right, in 0..1."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        start = time.perf_counter()
        labels = self.trainee.labels
        self.count += 1
        if len(np.unique(labels[rows])) < 2:
            guess = labels[rows[0]] if len(rows) else -1
            return float((labels[validation] == guess).mean())
        probe = LogisticRegression(C=10.0, max_iter=200)
        with warnings.catch_warnings():
            # A probe that stops early is judged like any other.
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe.fit(self.trainee.features[rows], labels[rows])
        found = float(probe.score(self.trainee.features[validation], labels[validation]))
        self.seconds += time.perf_counter() - start
        return found
