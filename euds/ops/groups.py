"""Run one search inside each group of rows, with budgets in proportion."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument
from euds.ops.keep import Keep, parse_keep, split_budget
from euds.ops.pool import as_floats, as_ids, as_labels
from euds.types import Box, Intersection, Interval

Region = TypeVar("Region", bound=Interval | Box | Intersection)


def find_by_group(
    search: Callable[..., Region],
    scores: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    keep: Keep,
    ids: npt.ArrayLike | None = None,
    utility: npt.ArrayLike | None = None,
    expected: npt.ArrayLike | None = None,
    **named: Any,
) -> dict[Any, Region]:
    """Run a search inside each group: `find_by_group(find_interval, scores, labels, keep=0.16, rule="middle")`.

    `find_box(groups=...)` is something else: one box that holds every group's share.

    Args:
        search: `find_interval`, `find_box` or `find_intersection`.
        scores: (n,) or (n, d) real numbers; rows that are not finite, or not `expected` to be, belong to no group.
        groups: (n,) labels.
        keep: fraction in (0, 1] (float) or count (int) of the finite rows, split over the groups in proportion to their
            finite rows, by largest remainder.
        ids: (n,) integers to hash, such as row ids; positions if None.
        utility, expected: (n,) numbers, for searches and rules that take them.
        **named: other arguments of the search, the same for every group, such as `rule`, `seed` or `max_keep`.

    Returns:
        The region of each group that gets a row, by label, ascending; its indices are positions among all rows.

    Raises:
        InvalidArgument: `groups`, `utility` or `expected` have not one entry a row, no row is finite, or the search
            refuses its arguments.
    """
    values = as_floats("scores", scores)
    labels = as_labels(groups, len(values))
    hashed = as_ids(ids, len(values))
    per_row = {"utility": utility, "expected": expected}
    columns = {name: as_floats(name, given) for name, given in per_row.items() if given is not None}
    for name, column in columns.items():
        if column.shape != labels.shape:
            raise InvalidArgument(f"{name}: must have shape {labels.shape}, got {column.shape}")
    known = np.isfinite(values.reshape(len(values), -1)).all(1)
    if "expected" in columns:
        known &= np.isfinite(columns["expected"])
    finite = np.flatnonzero(known)
    if not len(finite):
        raise InvalidArgument("scores: no row has finite scores")
    names, codes, sizes = np.unique(labels[finite], return_inverse=True, return_counts=True)
    shares = split_budget(parse_keep(keep, len(finite)), sizes.tolist())
    found: dict[Any, Region] = {}
    for code, (name, share) in enumerate(zip(names.tolist(), shares, strict=True)):
        if share:
            rows = finite[codes == code]
            own = {name: column[rows] for name, column in columns.items()}
            region = search(values[rows], keep=share, ids=hashed[rows], **own, **named)
            found[name] = replace(region, indices=rows[region.indices])
    return found
