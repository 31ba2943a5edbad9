"""Recipes: one YAML file that says what to score, select, fine-tune and report; checked before any work starts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from euds.engine.config import MEASURES, score_config
from euds.engine.generations_config import SampleSettings
from euds.engine.label_words_config import LabelWordSettings
from euds.errors import InvalidArgument, check_seed, nearest, one_of
from euds.ops.cluster import DEFAULT_NEIGHBORS, DEFAULT_TEMPERATURE
from euds.ops.interval import INTERVAL_RULES
from euds.ops.keep import check_keep, parse_keep
from euds.pipeline.sections import LocalPath, RowsSection, TrainerSection
from euds.pipeline.settings import Section, load_settings
from euds.selection.axes import AXES, measure_of
from euds.selection.choose import check_choice
from euds.selection.curves import check_margin
from euds.selection.rules import COVERAGE_RULES, FIXED_AXES, SEARCHED_RULES, VALIDATED
from euds.selection.select import AUTO, check_automatic, check_coverage
from euds.study.types import CLASSIFICATION, Task, task_of

DEFAULT_METHODS = ("full", "random", "information", "generative", "semantic", "igse")


class DataSection(RowsSection):
    """Pool and test rows; a limit takes a seeded sample."""

    limit: PositiveInt | None = None
    test_limit: PositiveInt | None = None


class SamplesSection(Section):
    """Settings of semantic entropy over generations, as `euds.SampleSettings` has them."""

    sampler: str = SampleSettings.sampler
    n_generations: int = SampleSettings.n_generations
    max_new_tokens: int = SampleSettings.max_new_tokens
    template: str = SampleSettings.template
    labels: tuple[str, ...] = Field(default=(), strict=False)
    temperature: float = SampleSettings.temperature
    top_p: float = SampleSettings.top_p
    top_k: int = SampleSettings.top_k
    grouping: str = SampleSettings.grouping
    min_similarity: float = SampleSettings.min_similarity
    linkage: str = SampleSettings.linkage
    nli: str | None = None
    estimators: tuple[str, ...] = Field(default=SampleSettings.estimators, strict=False)
    generations_from: str | None = None


class LabelWordsSection(Section):
    """Settings of semantic entropy over label words, as `euds.LabelWordSettings` has them."""

    labels: tuple[str, ...] = Field(default=(), strict=False)
    template: str = LabelWordSettings.template


class ScoreSection(Section):
    """Settings of `euds.score`, but for the fields, which `data` has, and how the work is carried out."""

    lm: str | None = None
    embedder: str | None = None
    tokenizer: str | None = None
    measures: list[str] = Field(default_factory=lambda: list(MEASURES))
    semantic: tuple[str, ...] = Field(default=("clusters",), strict=False)
    samples: SamplesSection = Field(default_factory=SamplesSection)
    label_words: LabelWordsSection = Field(default_factory=LabelWordsSection)
    max_tokens: PositiveInt | None = None
    token_budget: PositiveInt | None = None
    shard_rows: PositiveInt = 256
    n_clusters: PositiveInt | None = None
    n_neighbors: PositiveInt = DEFAULT_NEIGHBORS
    similarity_temperature: PositiveFloat = DEFAULT_TEMPERATURE
    device: str = "auto"
    dtype: str = "auto"
    seed: int = Field(default=0, ge=0, lt=1 << 31)
    cache: str | None = None
    cache_limit_gb: PositiveFloat | None = None

    @property
    def sample_settings(self) -> SampleSettings | None:
        """The settings of the generations, or None where none are sampled."""
        if "samples" not in self.semantic:
            return None
        return SampleSettings(**self.samples.model_dump())

    @property
    def label_word_settings(self) -> LabelWordSettings | None:
        """The settings of the label words, or None where none are scored."""
        if "label_words" not in self.semantic:
            return None
        return LabelWordSettings(**self.label_words.model_dump())


OTHERWISE = ("samples", "label_words", "cache", "cache_limit_gb")
AS_THEY_ARE = tuple(name for name in ScoreSection.model_fields if name not in OTHERWISE)
"""Keys of `score` that `euds.score` takes under the same names, the cache apart, which changes no score."""


class MethodSection(Section):
    """A method that has no short name, or its own options; without `keep` it keeps as much as the others."""

    name: str
    rule: str
    keep: float | int | Literal["auto"] | None = None
    axes: list[str] | None = None
    group_by: str | None = None
    adjust: str | None = None
    bins: PositiveInt | None = None


class SelectSection(Section):
    """How much to keep, and the methods to compare; `interval` is the rule of methods that name only a score.

    `keep: 1.0` keeps all rows, `keep: 1` one, as everywhere. `keep: auto` finds how much the run's selection may drop,
    and lets every method keep as much; `margin` is the loss of accuracy that counts as none.
    """

    keep: float | int | Literal["auto"]
    margin: float = 0.005
    methods: tuple[str | MethodSection, ...] = Field(DEFAULT_METHODS, strict=False)
    interval: str = "middle"


class TrainSection(TrainerSection):
    """Settings of the fine-tuning; `steps` or `epochs`, 3 of these where neither is given."""

    epochs: PositiveFloat | None = None
    steps: PositiveInt | None = None


class Recipe(Section):
    """A whole recipe."""

    task: Literal["classification", "question_answering"] = "classification"
    out: LocalPath
    seeds: PositiveInt | list[int] = 2
    data: DataSection
    score: ScoreSection
    select: SelectSection
    train: TrainSection
    report: bool = True

    @property
    def settled_task(self) -> Task:
        """What is learned, from which fields."""
        return task_of(self.task, self.data.text_field, self.data.label_field)

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The training seeds."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else tuple(self.seeds)

    @property
    def source_field(self) -> str | None:
        """The field of the sources: the one that is named, or "source" where a method groups by it."""
        grouped = any(
            isinstance(method, MethodSection) and method.group_by == "source" for method in self.select.methods
        )
        return self.data.source_field or ("source" if grouped else None)

    @property
    def score_arguments(self) -> dict[str, Any]:
        """What `euds.score` is told of the scores, by the names of its arguments."""
        score = self.score
        return {
            "text_field": self.settled_task.text_fields,
            "label_field": self.settled_task.label_field if self.task == CLASSIFICATION else None,
            "source_field": self.source_field,
            "samples": score.sample_settings,
            "label_words": score.label_word_settings,
            **{name: getattr(score, name) for name in AS_THEY_ARE},
        }


class Method(BaseModel):
    """A method to compare; without a rule it is the full data."""

    model_config = ConfigDict(frozen=True)

    name: str
    rule: str | None
    keep: float | int | Literal["auto"] | None = None
    axes: tuple[str, ...] = ()
    group_by: str | None = None
    adjust: str | None = None
    bins: int | None = None

    @property
    def has_region(self) -> bool:
        """Whether the rule looks at scores."""
        return bool(self.axes) or self.rule in SEARCHED_RULES


def load_recipe(recipe: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, apply "key=value" overrides, and check everything that can be known without reading data.

    Raises:
        InputError: the file is missing or not YAML.
        InvalidArgument: a key is unknown (the message suggests the nearest), missing, or has an impossible value.
    """
    where = "recipe" if isinstance(recipe, Mapping) else str(recipe)
    settings = load_settings(Recipe, recipe, overrides, where)
    try:
        _ = settings.settled_task
    except InvalidArgument as error:
        raise InvalidArgument(f"{where}: data.{error}") from None
    try:
        _check_estimates(settings.score)
        score_config(settings.data.train, **settings.score_arguments)
    except InvalidArgument as error:
        raise InvalidArgument(f"{where}: score.{error}") from None
    try:
        one_of("interval", settings.select.interval, INTERVAL_RULES)
        if settings.select.keep != AUTO:
            check_keep(settings.select.keep)
        check_margin(settings.select.margin)
        keeps = [settings.select.keep, *(method.keep for method in method_list(settings))]
        if "margin" in settings.select.model_fields_set and AUTO not in keeps:
            raise InvalidArgument("margin: is of keep 'auto'; leave it out")
        for method in method_list(settings):
            _check_method(method, settings)
        _check_label_needs(settings)
    except InvalidArgument as error:
        raise InvalidArgument(f"{where}: select.{error}") from None
    try:
        settings.train.config(epochs=settings.train.epochs, steps=settings.train.steps)
    except InvalidArgument as error:
        raise InvalidArgument(f"{where}: train.{error}") from None
    for seed in settings.seed_list:
        check_seed(f"{where}: seeds", seed)
    if not settings.seed_list or len(set(settings.seed_list)) < len(settings.seed_list):
        raise InvalidArgument(f"{where}: seeds: give a number of seeds, or a list without repetition")
    return settings


def method_list(recipe: Recipe) -> list[Method]:
    """Return the methods of a recipe in order.

    Raises:
        InvalidArgument: a name is unknown or stands twice, or there is none.
    """
    methods = [_method(entry, recipe.select.interval) for entry in recipe.select.methods]
    names = [method.name for method in methods]
    if not names or len(set(names)) < len(names):
        raise InvalidArgument("methods: name at least one method, and none twice")
    return methods


def selected_method(recipe: Recipe) -> Method | None:
    """Return the recipe's last method that looks at scores, whose rows are the run's selection."""
    return next((method for method in reversed(method_list(recipe)) if method.has_region), None)


def _method(entry: str | MethodSection, interval: str) -> Method:
    if isinstance(entry, MethodSection):
        given = entry.model_dump()
        return Method(**{**given, "axes": tuple(entry.axes or FIXED_AXES.get(entry.rule, ()))})
    if entry == "full":
        return Method(name=entry, rule=None)
    if entry in SEARCHED_RULES:
        return Method(name=entry, rule=entry)
    if entry in FIXED_AXES:
        return Method(name=entry, rule=entry, axes=FIXED_AXES[entry])
    one_of("methods", entry, ["full", *SEARCHED_RULES, *FIXED_AXES, *AXES])
    return Method(name=entry, rule=interval, axes=(entry,))


def _check_estimates(score: ScoreSection) -> None:
    """Refuse settings of an estimate that is not asked for, and name the section of impossible ones."""
    if score.samples != SamplesSection() and "samples" not in score.semantic:
        raise InvalidArgument("samples: settings of generations need samples among score.semantic")
    if score.label_words != LabelWordsSection() and "label_words" not in score.semantic:
        raise InvalidArgument("label_words: settings of label words need label_words among score.semantic")
    try:
        _ = score.sample_settings
    except InvalidArgument as error:
        raise InvalidArgument(f"samples.{error}") from None
    try:
        _ = score.label_word_settings
    except InvalidArgument as error:
        raise InvalidArgument(f"label_words.{error}") from None


def _check_method(method: Method, recipe: Recipe) -> None:
    if method.rule is None:
        return
    try:
        axes = check_choice(
            keep=1.0 if method.keep is None or method.keep == AUTO else method.keep,
            rule=method.rule,
            axes=method.axes,
            group_by=method.group_by,
            adjust=method.adjust,
            bins=method.bins,
        )
        if method.keep == AUTO:
            check_automatic(method.rule, recipe.select.margin)
    except InvalidArgument as error:
        raise InvalidArgument(f"methods: {method.name}: {error}") from None
    if method.rule in COVERAGE_RULES and not _embeds(recipe.score):
        lacking = (
            "score.semantic has neither clusters nor samples that are grouped by similarity"
            if "semantic" in recipe.score.measures
            else "score.measures lacks semantic"
        )
        raise InvalidArgument(f"methods: {method.name} covers embeddings, but {lacking}")
    if method.rule == VALIDATED and not axes and not _scores_an_entropy(recipe.score):
        raise InvalidArgument(
            f"methods: {method.name} looks at the three entropies, of which score has none; name the scores to look at "
            "as its axes"
        )
    for axis in axes:
        measure = measure_of(axis)
        if measure is None:
            raise InvalidArgument(f"methods: {method.name}: unknown score {axis!r}{nearest(axis, AXES)}")
        if measure not in recipe.score.measures:
            raise InvalidArgument(f"methods: {method.name} looks at {axis}, but score.measures lacks {measure}")
        if measure == "semantic":
            _check_estimate(method, axis, recipe.score)


def check_budgets(recipe: Recipe, n_pool: int) -> dict[str, int]:
    """Refuse what a pool is too small or too large for, before it is scored.

    Returns:
        By method, the rows that it is to keep if all of them can be scored; none for `keep: auto` and an empty pool.

    Raises:
        InvalidArgument: a method is to keep more rows than there are, or compares all pairs of too many.
    """
    budgets = {}
    for method in method_list(recipe):
        keep = recipe.select.keep if method.keep is None else method.keep
        keep = 1.0 if method.rule is None else keep
        try:
            # An empty pool is told by scoring, which knows why.
            if keep != AUTO and n_pool:
                budgets[method.name] = parse_keep(keep, n_pool)
            if method.group_by is None:
                check_coverage(method.rule or "", n_pool, None)
        except InvalidArgument as error:
            raise InvalidArgument(f"select.methods: {method.name}: {error}") from None
    return budgets


def _scores_an_entropy(score: ScoreSection) -> bool:
    """Whether the run has one of the three entropies."""
    clusters = "semantic" in score.measures and "clusters" in score.semantic
    return clusters or not {"information", "generative"}.isdisjoint(score.measures)


def _embeds(score: ScoreSection) -> bool:
    """Whether the run has a sentence encoder."""
    settings = score.sample_settings
    sampled = settings is not None and settings.needs_embeddings
    return "semantic" in score.measures and ("clusters" in score.semantic or sampled)


def _check_estimate(method: Method, axis: str, score: ScoreSection) -> None:
    """Refuse an axis of semantic entropy that the recipe does not estimate."""
    column = AXES.get(axis, axis)
    settings = score.sample_settings
    sampled = () if settings is None else tuple(f"semantic_samples_{name}_nats" for name in settings.estimators)
    others = {"clusters": AXES["semantic"], "label_words": AXES["label_words"]}
    if column not in (*sampled, *(others[name] for name in others if name in score.semantic)):
        raise InvalidArgument(f"methods: {method.name} looks at {axis}, but score.semantic does not estimate it")


def _check_label_needs(recipe: Recipe) -> None:
    """Refuse what needs labels where there are none, and a common budget that no method can tell."""
    if recipe.select.keep == AUTO:
        selected = selected_method(recipe)
        if selected is None or selected.rule is None or selected.keep is not None:
            raise InvalidArgument(
                "keep: 'auto' is found for the last method that looks at scores, which must have no keep of its own"
            )
        check_automatic(selected.rule, recipe.select.margin)
    if recipe.task != CLASSIFICATION:
        for method in method_list(recipe):
            if method.group_by == "label":
                raise InvalidArgument(
                    f"methods: {method.name}: group_by 'label' needs labels; task {recipe.task} has none"
                )
            if method.rule == VALIDATED or AUTO in (recipe.select.keep, method.keep):
                raise InvalidArgument(
                    f"methods: {method.name}: rule 'validated' and keep 'auto' train a classifier on labels; "
                    f"task {recipe.task} has none"
                )
