"""What the methods of a study look at: the pool's scores, lengths, embeddings and, for methods that say so, labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from euds.ops.cluster import entropy_to_centroids, fit_centroids
from euds.ops.ranks import mid_ranks
from euds.selection.axes import AXES, values_of
from euds.selection.choose import choose
from euds.selection.trainee import Trainee
from euds.types import Float32Array, Float64Array, Int64Array, Selection


@dataclass(frozen=True, eq=False)
class StudyPool:
    """A pool of n rows, all of which have all scores.

    Attributes:
        scores: scores table as `read_scores` gives it, row ids 0..n-1.
        embeddings: (n, H) unit norm.
        texts: the rows' texts.
        trainee: features and labels for searches by labels; None where the task has no classes.
        label_surprisal: (n,) nats, out of fold; None without classes.
        el2n: (n,) in 0..sqrt 2; None without classes.
        n_test: test rows, of which only the leaking method knows.
    """

    scores: pa.Table
    embeddings: Float32Array
    texts: Sequence[str]
    trainee: Trainee | None
    label_surprisal: Float64Array | None
    el2n: Float64Array | None
    n_test: int

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def n_tokens(self) -> Float64Array:
        """(n,) lengths."""
        return values_of(self.scores, "n_tokens")

    def values(self, axis: str) -> Float64Array:
        """Return (n,) values of a score by short name, or of `label_surprisal` or `el2n`."""
        own = {"label_surprisal": self.label_surprisal, "el2n": self.el2n}
        if axis in own:
            found = own[axis]
            assert found is not None
            return found
        return values_of(self.scores, AXES[axis])

    def ranks(self, axis: str) -> Float64Array:
        """Return (n,) mid-ranks in 0..1 of a score."""
        return mid_ranks(self.values(axis))

    def choose(self, budget: int, rule: str, axes: Sequence[str] = (), *, seed: int, **settings: object) -> Selection:
        """Choose rows by one of euds' own rules; see `euds.selection.choose.choose`."""
        trainee = self.trainee if rule == "validated" else None
        return choose(
            self.scores,
            keep=budget,
            rule=rule,
            axes=axes or None,
            seed=seed,
            trainee=trainee,
            **settings,  # type: ignore[arg-type]  # Group and adjustment, by name.
        )

    def clusters(self, n_clusters: int) -> Int64Array:
        """Return (n,) the nearest of so many spherical k-means centroids of the embeddings."""
        count = min(n_clusters, len(self))
        centroids = fit_centroids(self.embeddings, n_clusters=count)
        _, nearest = entropy_to_centroids(self.embeddings, centroids, n_neighbors=1, similarity_temperature=1.0)
        return np.asarray(nearest, np.int64).reshape(len(self))

    def labelled(self, labels: Int64Array) -> "StudyPool":
        """Return the pool with other labels in its scores table, such as pseudo-classes."""
        column = pa.array([f"{label:03d}" for label in labels.tolist()])
        table = self.scores
        table = table.set_column(table.column_names.index("label"), "label", column)
        return replace(self, scores=table)
