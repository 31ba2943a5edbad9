"""The rows that each method of a recipe trains on, and what finding them cost."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from euds.pipeline.recipe import Method, Recipe, method_list
from euds.selection.choose import choose
from euds.study.types import MethodRows
from euds.types import Int64Array

STAGES = {
    "information": ("read", "information", "finish"),
    "generative": ("loading", "read", "generative", "finish"),
    "semantic": ("loading", "read", "embedding", "clustering", "finish"),
}
"""Stages of scoring that a measure needs; a method that uses several measures pays for each stage once."""

MEASURE_OF = {
    "information_entropy_nats": "information",
    "surprisal_nats": "information",
    "generative_entropy_nats": "generative",
    "generative_entropy_max_nats": "generative",
    "nll_nats": "generative",
    "varentropy_nats2": "generative",
    "semantic_entropy_nats": "semantic",
}


def method_rows(recipe: Recipe, scores: pa.Table, seconds: Mapping[str, float]) -> list[MethodRows]:
    """Choose the rows of every method at the recipe's budget.

    Every method, the full data too, chooses among the rows that have all scores, so that they compare on equal terms.
    """
    usable = _scored(scores)
    return [_rows(method, recipe, usable, seconds) for method in method_list(recipe)]


def _scored(scores: pa.Table) -> pa.Table:
    for name in MEASURE_OF:
        if name in scores.column_names:
            scores = scores.filter(pc.is_valid(scores.column(name)))
    return scores


def _rows(method: Method, recipe: Recipe, scores: pa.Table, seconds: Mapping[str, float]) -> MethodRows:
    if method.rule is None:
        return MethodRows(method.name, None, (), scores.column("row_id").to_numpy(), 0.0)
    drawn: dict[int, Int64Array] = {}
    axes: Sequence[str] = ()
    # Only random draws anew for every seed; the other rules would give the same rows up to ties.
    for seed in recipe.seed_list if method.rule == "random" else [0]:
        selection = choose(
            scores,
            keep=recipe.select.keep,
            rule=method.rule,
            axes=method.axes,
            seed=seed,
            group_by=method.group_by,
            adjust=method.adjust,
        )
        drawn[seed] = selection.row_ids
        axes = selection.axes
    stages = {stage for axis in axes if axis in MEASURE_OF for stage in STAGES[MEASURE_OF[axis]]}
    cost = sum(seconds.get(stage, 0.0) for stage in stages)
    return MethodRows(method.name, method.rule, tuple(axes), drawn if len(drawn) > 1 else drawn[min(drawn)], cost)
