"""Rows by group, and one search inside each group, with budgets in proportion."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from euds.errors import InvalidArgument
from euds.ops.keep import Keep, parse_keep, split_budget
from euds.ops.pool import as_floats, as_ids, as_labels
from euds.types import Box, Int64Array, Intersection, Interval

Region = TypeVar("Region", bound=Interval | Box | Intersection)


def rows_by_group(codes: npt.NDArray[np.integer[Any]], n_groups: int) -> list[Int64Array]:
    """Return the positions of each group's rows, ascending.

    Args:
        codes: (n,) integers in 0..n_groups-1, the group of every row.
        n_groups: groups, some of which may have no row.
    """
    # One sort: scanning all rows for each group would be quadratic.
    ends = np.cumsum(np.bincount(codes, minlength=n_groups))
    return np.split(np.argsort(codes, kind="stable"), ends[:-1])


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
        The region of each group that gets a row, by label, ascending, a time in nanoseconds as NumPy's; its indices
        are positions among all rows.

    Raises:
        InvalidArgument: scores have another shape, `groups`, `utility` or `expected` have not one entry a row, no row
            is finite, or the search refuses its arguments.
    """
    values = as_floats("scores", scores)
    if values.ndim not in (1, 2):
        raise InvalidArgument(f"scores: must have shape (n,) or (n, d), got {values.shape}")
    labels = as_labels(groups, len(values))
    hashed = as_ids(ids, len(values))
    per_row = {"utility": utility, "expected": expected}
    columns = {name: as_floats(name, given) for name, given in per_row.items() if given is not None}
    for name, column in columns.items():
        if column.shape != labels.shape:
            raise InvalidArgument(f"{name}: must have shape {labels.shape}, got {column.shape}")
    known = np.isfinite(values[:, None] if values.ndim == 1 else values).all(1)
    if "expected" in columns:
        known &= np.isfinite(columns["expected"])
    finite = np.flatnonzero(known)
    if not len(finite):
        raise InvalidArgument("scores: no row has finite scores")
    names, codes = np.unique(labels[finite], return_inverse=True)
    members = rows_by_group(codes, len(names))
    shares = split_budget(parse_keep(keep, len(finite)), [len(places) for places in members])
    found: dict[Any, Region] = {}
    # NumPy makes integers of times in nanoseconds.
    keys = list(names) if names.dtype.kind in "mM" and np.datetime_data(names.dtype)[0] == "ns" else names.tolist()
    for name, share, places in zip(keys, shares, members, strict=True):
        if share:
            rows = finite[places]
            own = {argument: column[rows] for argument, column in columns.items()}
            region = search(values[rows], keep=share, ids=hashed[rows], **own, **named)
            found[name] = replace(region, indices=rows[region.indices])
    return found
