"""What a selection did to the pool: correlation with length, keep rates, shift between sources."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from euds.ops.groups import rows_by_group
from euds.ops.ranks import mid_ranks
from euds.selection.axes import score_columns, values_of
from euds.types import Float64Array, Int64Array

SHOWN_GROUPS = 40
"""Groups that a reader is shown, the largest; a column of names or addresses has one a row."""

NAME_CHARS = 24
"""Of a group's name, as much as a reader is shown."""

NO_XML = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""What XML forbids, and other control characters, a line break among them."""

NO_GROUP = "(none)"
"""Name of the rows whose label or source is null."""

CUE_SHARE = 0.2
CUE_GROWTH = 2.0
"""A measure is a cue if a fifth of its spread in the kept rows lies between labels, twice as much as in the pool."""


def describe(usable: pa.Table, columns: Sequence[str], kept: Int64Array) -> dict[str, Any]:
    """Return the part of a selection record that says what a choice of rows did.

    Args:
        usable: rows that could be chosen from.
        columns: scores that the rule looked at.
        kept: positions of the kept rows.
    """
    return {
        "quantiles": quantiles(usable, columns),
        "length_correlation": length_correlation(usable),
        "keep_rate_by_label": keep_rates(usable, "label", kept),
        "keep_rate_by_source": keep_rates(usable, "source", kept),
        "source_shift": source_shift(usable),
        "label_cues": label_cues(usable, columns, kept),
    }


@dataclass(frozen=True, eq=False)
class Groups:
    """Rows by label or source.

    Attributes:
        names: ascending; `NO_GROUP` for rows without one.
        codes: (n,) int64, each row's place in `names`; a column of addresses would take its longest for every row.
    """

    names: Sequence[str]
    codes: Int64Array

    def counts(self, rows: Int64Array | None = None) -> Counter[str]:
        """Return the rows of each group, or those among positions; groups without a row are there, too."""
        codes = self.codes if rows is None else self.codes[rows]
        return Counter(dict(zip(self.names, np.bincount(codes, minlength=len(self.names)).tolist(), strict=True)))

    def members(self) -> list[Int64Array]:
        """Return the positions of each group's rows, ascending."""
        return rows_by_group(self.codes, len(self.names))


def groups_of(scores: pa.Table, column: str) -> Groups:
    """Return the rows of a table by the text of its label or source."""
    encoded = scores.column(column).dictionary_encode().unify_dictionaries()
    known = encoded.chunk(0).dictionary.to_pylist() if encoded.num_chunks else []
    texts = [*map(str, known), NO_GROUP]
    places = [np.empty(0, np.int64), *(chunk.indices.fill_null(len(known)).to_numpy() for chunk in encoded.chunks)]
    # A group may be called as the rows without one are.
    used = np.concatenate(places).astype(np.int64)
    names, codes = np.unique(np.array(texts, object), return_inverse=True)
    there, codes = np.unique(codes[used], return_inverse=True)
    return Groups(names[there].tolist(), codes)


def length_correlation(scores: pa.Table) -> dict[str, float | None]:
    """Return Spearman's rank correlation of every score with n_tokens; None where one of them is constant."""
    lengths = values_of(scores, "n_tokens")
    return {column: spearman(values_of(scores, column), lengths) for column in score_columns(scores)}


def keep_rates(scores: pa.Table, column: str, kept: Int64Array) -> dict[str, dict[str, float]] | None:
    """Return rows, kept rows and their ratio per label or source; None if the column is empty.

    Args:
        scores: the pool.
        column: "label" or "source".
        kept: positions of the kept rows.
    """
    if scores.column(column).null_count == scores.num_rows:
        return None
    groups = groups_of(scores, column)
    return rates_of(groups.counts(), groups.counts(kept))


def rates_of(pool: Counter[str], kept: Counter[str]) -> dict[str, dict[str, float]]:
    """Return rows, kept rows and their share for every group of a pool, by name."""
    return {
        name: {"rows": pool[name], "kept": kept[name], "rate": round(kept[name] / pool[name], 4)}
        for name in sorted(pool)
    }


def largest(rates: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
    """Return the groups of keep rates that a reader is shown, by name."""
    names = sorted(rates, key=lambda name: (-rates[name]["rows"], name))[:SHOWN_GROUPS]
    return {name: rates[name] for name in sorted(names)}


def short(name: str, limit: int = NAME_CHARS) -> str:
    """Return a name as a reader is shown it, on a terminal or in a figure, in at most `limit` characters."""
    name = NO_XML.sub("\N{REPLACEMENT CHARACTER}", name)
    return name if len(name) <= limit else name[: limit - 1] + "…"


def source_shift(scores: pa.Table) -> dict[str, dict[str, Mapping[str, float]]] | None:
    """Return, per score and source, the median and the mean rank in the pool; None with fewer than two sources.

    A mean rank of 0.5 is where the pool itself lies.
    """
    groups = groups_of(scores, "source")
    if len(groups.names) < 2:
        return None
    return {column: places_of(values_of(scores, column), groups) for column in score_columns(scores)}


def places_of(values: Float64Array, groups: Groups) -> dict[str, Mapping[str, float]]:
    """Return where each group's values lie: "rows", "median" and "mean_rank" in the pool, of the finite ones.

    Args:
        values: (n,) of a score.
        groups: of the n rows.
    """
    known = np.isfinite(values)
    if not known.any():
        return {}
    values, ranks = values[known], mid_ranks(values[known])
    members = Groups(groups.names, groups.codes[known]).members()
    parts = zip(groups.names, members, strict=True)
    return {name: _place(values[own], ranks[own]) for name, own in parts if len(own)}


def label_cues(scores: pa.Table, columns: Sequence[str], kept: Int64Array) -> dict[str, dict[str, float]] | None:
    """Return by which measures alone a model could tell the labels of the kept rows apart; None without labels.

    A region of its own for every class can make a cue of what the regions differ in, such as the length: the model
    learns that instead of the task. Measured is epsilon squared, the share of the variance of ranks that lies between
    labels, of the length and of the scores that the rule looked at.

    Args:
        scores: rows that could be chosen from.
        columns: scores that the rule looked at.
        kept: positions of the kept rows.

    Returns:
        "pool" and "kept" for every measure that is a cue in the kept rows, and no such cue in the pool.
    """
    if scores.column("label").null_count == scores.num_rows or len(kept) < 2:
        return None
    labels = groups_of(scores, "label").codes
    found = {}
    for column in ("n_tokens", *columns):
        values = values_of(scores, column)
        pool, chosen = epsilon_squared(values, labels), epsilon_squared(values[kept], labels[kept])
        if chosen >= max(CUE_SHARE, CUE_GROWTH * pool):
            found[column] = {"pool": round(pool, 4), "kept": round(chosen, 4)}
    return found


def epsilon_squared(values: Float64Array, groups: Int64Array) -> float:
    """Return the share of the variance of finite values' ranks that lies between groups, 0..1.

    0 if all are equal, or none is finite.

    Corrected for chance, which puts (K-1)/(n-1) of it between K groups of n rows. Source: Kelley 1935, "An Unbiased
    Correlation Ratio Measure".
    """
    known = np.isfinite(values)
    ranks, groups = mid_ranks(values[known]), groups[known]
    total = float(((ranks - ranks.mean()) ** 2).sum())
    sizes = np.bincount(groups)
    n_rows, n_groups = len(ranks), int((sizes > 0).sum())
    if not total or n_rows == n_groups:
        return 0.0
    means = np.bincount(groups, ranks) / np.maximum(sizes, 1)
    within = float(((ranks - means[groups]) ** 2).sum())
    return max(0.0, 1 - within / (n_rows - n_groups) / (total / (n_rows - 1)))


def quantiles(scores: pa.Table, columns: Sequence[str]) -> dict[str, Any]:
    """Return minimum, quartiles and maximum of the given scores."""
    found = {}
    for column in columns:
        values = values_of(scores, column)
        values = values[np.isfinite(values)]
        found[column] = [round(float(value), 6) for value in np.quantile(values, [0, 0.25, 0.5, 0.75, 1])]
    return found


def _place(values: Float64Array, ranks: Float64Array) -> dict[str, float]:
    return {
        "rows": len(values),
        "median": round(float(np.median(values)), 4),
        "mean_rank": round(float(ranks.mean()), 4),
    }


def spearman(a: Float64Array, b: Float64Array) -> float | None:
    """Return the rank correlation of the rows where both are finite; None where one is constant."""
    known = np.isfinite(a) & np.isfinite(b)
    first, second = mid_ranks(a[known]), mid_ranks(b[known])
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return round(float(np.corrcoef(first, second)[0, 1]), 4)
