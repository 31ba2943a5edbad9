"""The rows that each method of a recipe trains on, and what finding them cost."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from euds.ops.keep import Keep
from euds.pipeline.recipe import Method, Recipe, method_list, selected_method
from euds.progress import say
from euds.selection.axes import AXES, SAMPLE_COLUMNS, measure_of, score_columns
from euds.selection.choose import choose
from euds.selection.features import RunTexts
from euds.selection.rules import VALIDATED
from euds.selection.select import AUTO, find_keep_of
from euds.selection.summary import starved_lines
from euds.study.types import MethodRows
from euds.types import Selection

STAGES_OF_ESTIMATE = {
    "information": ("read", "information", "finish"),
    "generative": ("loading", "read", "generative", "finish"),
    "semantic": ("loading", "read", "embedding", "clustering", "finish"),
    "samples": ("loading", "read", "generation", "generation_embedding", "grouping", "estimation", "finish"),
    "label_words": ("loading", "read", "label_words", "finish"),
}
"""Stages of scoring that a measure needs; a method that uses several measures pays for each stage once."""

EMBEDDING_STAGES = ("loading", "read", "embedding")
"""Of the rules that look at embeddings, and of the probes of searches by labels, where the run has clusters."""


def method_rows(
    recipe: Recipe,
    scored: pa.Table,
    seconds: Mapping[str, float],
    *,
    selection: Selection | None,
    texts: RunTexts,
) -> list[MethodRows]:
    """Choose the rows of every method at the recipe's budget, or its own; warn of labels left without a row.

    Args:
        recipe: the methods and how much to keep.
        scored: rows that have all scores; every method chooses among the same, so that they compare on equal terms.
        seconds: what each stage of scoring took.
        selection: the run's selection, which knows what `keep: auto` of the recipe found.
        texts: of the run, for searches by labels and rules that cover embeddings; the test rows are no part of it.
    """
    return [_rows(method, recipe, scored, seconds, selection, texts) for method in method_list(recipe)]


def fully_scored(scores: pa.Table) -> pa.Table:
    """Return the rows that have every score of the run."""
    for name in score_columns(scores):
        scores = scores.filter(pc.is_valid(scores.column(name)))
    return scores


def _rows(
    method: Method,
    recipe: Recipe,
    scores: pa.Table,
    seconds: Mapping[str, float],
    selection: Selection | None,
    texts: RunTexts,
) -> MethodRows:
    if method.rule is None:
        return MethodRows(method.name, None, (), scores.column("row_id").to_numpy(), 0.0)
    settings: dict[str, Any] = {
        "axes": method.axes,
        "group_by": method.group_by,
        "adjust": method.adjust,
        "bins": method.bins,
        "pairs": texts.pairs,
    }
    if texts.covers(method.rule):
        settings["embedded"] = texts.embedded
    keep, keep_auto = _budget(method, recipe, scores, settings, selection, texts)
    trainee = texts.trainee if method.rule == VALIDATED else None
    # Only random draws anew for every seed; the other rules take one draw of ties, of a first row or of a split.
    seeds = recipe.seed_list if method.rule == "random" else (0,)
    drawn = {
        seed: choose(scores, keep=keep, rule=method.rule, seed=seed, trainee=trainee, **settings) for seed in seeds
    }
    _warn_of_starved(method.name, drawn)
    first = drawn[seeds[0]]
    record: Mapping[str, Any] = first.record
    # Every score that `auto` examined had to be computed.
    axes = record["auto"]["examined"] if record["auto"] else first.axes
    validated = record["validated"]
    stages = {stage for axis in axes for stage in STAGES_OF_ESTIMATE.get(_estimate_of(axis) or "", ())}
    search_seconds = record["seconds"] + (keep_auto["seconds"] if keep_auto else 0.0)
    if "embedded" in settings or trainee is not None or keep_auto:
        if "embedding" in seconds:
            stages |= set(EMBEDDING_STAGES)
        else:
            # The run has no clusters, and what it embedded, if anything, were generations.
            search_seconds += texts.seconds
    if method.rule in ("longest", "shortest"):
        stages.add("read")
    return MethodRows(
        name=method.name,
        rule=method.rule,
        axes=tuple(axes),
        row_ids={seed: own.row_ids for seed, own in drawn.items()} if len(drawn) > 1 else first.row_ids,
        scoring_seconds=sum(seconds.get(stage, 0.0) for stage in stages),
        search_seconds=search_seconds,
        search={"validated": validated, "keep_auto": keep_auto} if validated or keep_auto else None,
    )


def _warn_of_starved(name: str, drawn: Mapping[int, Selection]) -> None:
    """Say aloud which labels no row is kept of, by draw where a method draws anew for every seed."""
    for seed, own in drawn.items():
        draw = f"{name}, seed {seed}" if len(drawn) > 1 else name
        for line in starved_lines(own.record):
            say(f"warning: {draw}: {line}")


def _estimate_of(axis: str) -> str | None:
    """Return the key of `STAGES_OF_ESTIMATE` for an axis, or None for what is no score."""
    column = AXES.get(axis, axis)
    if column in SAMPLE_COLUMNS:
        return "samples"
    return "label_words" if column == AXES["label_words"] else measure_of(axis)


def _budget(
    method: Method,
    recipe: Recipe,
    scores: pa.Table,
    settings: Mapping[str, Any],
    selection: Selection | None,
    texts: RunTexts,
) -> tuple[Keep, Mapping[str, Any] | None]:
    """Return how much a method keeps, and the record of the search for it if the method has had one."""
    if method.keep == AUTO and method.rule is not None:
        found = find_keep_of(method.rule, texts.trainee, scores, settings, margin=recipe.select.margin, seed=0)
        return found.keep or 1.0, found.to_record()
    if method.keep is not None:
        return method.keep, None
    if recipe.select.keep != AUTO or selection is None:
        return recipe.select.keep, None
    selected = selected_method(recipe)
    found_for_it = selected is not None and selected.name == method.name
    record: Mapping[str, Any] = selection.record
    return record["keep"], record["keep_auto"] if found_for_it else None
