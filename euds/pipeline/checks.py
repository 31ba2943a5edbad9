"""What a recipe's scoring and training would refuse, told before anything is written or scored."""

from collections.abc import Sequence

import numpy as np

from euds.corpus.location import local_output
from euds.engine.cache_settings import CacheSettings
from euds.engine.config import score_config
from euds.engine.execution import Execution
from euds.engine.manifest import is_finished
from euds.engine.prepare import draft_of
from euds.engine.score import check_runnable
from euds.errors import InputError
from euds.pipeline.recipe import Recipe, method_list, selected_method
from euds.selection.rules import VALIDATED
from euds.selection.select import AUTO, check_splittable
from euds.study.examples import Example


def check_scoring(recipe: Recipe) -> None:
    """Refuse what scoring would refuse, as far as that shows without reading the pool; nothing is written.

    Raises:
        InvalidArgument: a setting is impossible, or `out` is empty or a URL.
        InputError: an input, field or model is missing, or `out` cannot be made.
        BackendUnavailable: generations are to be drawn by what is not installed.
    """
    CacheSettings.of(recipe.score.cache, recipe.score.cache_limit_gb)
    draft = draft_of(
        score_config(recipe.data.train, **recipe.score_arguments), local_output(recipe.out, "the run directory")
    )
    if not is_finished(draft):
        check_runnable(draft, Execution())


def check_training(recipe: Recipe, pool: Sequence[Example], test: Sequence[Example]) -> None:
    """Refuse a model or rows that cannot be trained, and labels that are too few for the methods that use them.

    Scoring may leave rows out, so that what just passes here may still be refused later.

    Raises:
        InputError: of the model, a question that leaves no room, a single class, or a pool too small for a validation
            split or learning curves.
    """
    _check_split(recipe, pool)
    # Loads torch and transformers.
    from euds.study.cell import check_trainable

    train = recipe.train
    config = train.config(epochs=train.epochs, steps=train.steps)
    check_trainable(pool, test, task=recipe.settled_task, config=config)


def _check_split(recipe: Recipe, pool: Sequence[Example]) -> None:
    for method in method_list(recipe):
        finds_keep = method.keep == AUTO or (recipe.select.keep == AUTO and method == selected_method(recipe))
        if not finds_keep and method.rule != VALIDATED:
            continue
        _, codes = np.unique([example.label for example in pool], return_inverse=True)
        try:
            # How many rows a split takes depends on the labels alone, not on its seed.
            check_splittable(codes, 0, n_rows=len(pool) if finds_keep else None)
        except InputError as error:
            raise InputError(f"select.methods: {method.name}: {error}") from None
