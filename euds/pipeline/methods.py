"""The rows that each method of a recipe trains on, and what finding them cost."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from euds.pipeline.recipe import Method, Recipe, measure_of, method_list
from euds.selection.axes import AXES, SAMPLE_COLUMNS, score_columns
from euds.selection.choose import choose
from euds.study.types import MethodRows
from euds.types import Int64Array

STAGES = {
    "information": ("read", "information", "finish"),
    "generative": ("loading", "read", "generative", "finish"),
    "semantic": ("loading", "read", "embedding", "clustering", "finish"),
    "samples": ("loading", "read", "generation", "generation_embedding", "grouping", "estimation", "finish"),
}
"""Stages of scoring that a measure needs; a method that uses several measures pays for each stage once."""


def method_rows(recipe: Recipe, scored: pa.Table, seconds: Mapping[str, float]) -> list[MethodRows]:
    """Choose the rows of every method at the recipe's budget.

    Args:
        recipe: the methods and how much to keep.
        scored: rows that have all scores; every method chooses among the same, so that they compare on equal terms.
        seconds: what each stage of scoring took.
    """
    return [_rows(method, recipe, scored, seconds) for method in method_list(recipe)]


def fully_scored(scores: pa.Table) -> pa.Table:
    """Return the rows that have every score of the run."""
    for name in score_columns(scores):
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
        decided = selection.record["auto"]
        # Every score that `auto` examined had to be computed.
        axes = decided["examined"] if isinstance(decided, dict) else selection.axes
    measures = {"samples" if AXES.get(axis, axis) in SAMPLE_COLUMNS else measure_of(axis) for axis in axes}
    stages = {stage for measure in measures if measure is not None for stage in STAGES[measure]}
    cost = sum(seconds.get(stage, 0.0) for stage in stages)
    return MethodRows(method.name, method.rule, tuple(axes), drawn if len(drawn) > 1 else drawn[min(drawn)], cost)
