"""Which rows the methods of a grid keep: classes, sources, lengths."""

from collections.abc import Mapping, Sequence

import numpy as np

from euds.selection.describe import Groups, places_of
from euds.study.grid.task import GridTask, Group
from euds.types import BoolArray, Float64Array


def kept_mask(task: GridTask, group: Group) -> BoolArray:
    """Return (n_seeds, n_pool) which rows of the pool each model was trained on."""
    return np.stack([cell.mask(task.n_pool) for cell in group.cells])


def class_rates(task: GridTask, masks: BoolArray, field: str = "label") -> dict[str, float] | None:
    """Return each class's share of rows kept, 0..1, mean over seeds; None where the rows have no classes.

    Args:
        task: with the pool's rows.
        masks: (n_seeds, n_pool) of a method.
        field: "label" or "source".
    """
    classes = classes_of(task, field)
    if classes is None:
        return None
    by_row = masks.mean(axis=0)
    return {str(name): float(by_row[classes == name].mean()) for name in np.unique(classes)}


def classes_of(task: GridTask, field: str) -> np.ndarray[tuple[int], np.dtype[np.str_]] | None:
    """Return (n_pool,) the label or source of every row, or None without them."""
    values: Sequence[object] | None = task.facts["rows"].get(field)
    return None if not values else np.array([str(value) for value in values[: task.n_pool]])


def source_places(task: GridTask) -> dict[str, dict[str, Mapping[str, float]]] | None:
    """Return where the rows of each source lie along every score, as `places_of` says; None with fewer than two."""
    sources = classes_of(task, "source")
    if sources is None:
        return None
    names, codes = np.unique(sources, return_inverse=True)
    if len(names) < 2:
        return None
    axes = (*task.facts["rows"].get("scores", {}), "n_tokens")
    return {axis: places_of(axis_values(task, axis), Groups(names.tolist(), codes)) for axis in axes}


def relative_length(task: GridTask, masks: BoolArray) -> float | None:
    """Return the mean tokens of the kept rows over those of the pool, mean over seeds; None where nothing is kept."""
    lengths = axis_values(task, "n_tokens")
    by_row = masks.mean(axis=0)
    return float((by_row @ lengths) / by_row.sum() / lengths.mean()) if by_row.any() else None


def axis_values(task: GridTask, axis: str) -> Float64Array:
    """Return (n_pool,) a score or the length of every row of the pool, NaN where it has none."""
    rows = task.facts["rows"]
    values = rows["n_tokens"] if axis == "n_tokens" else rows["scores"][axis]
    return np.array(values, np.float64)[: task.n_pool]
