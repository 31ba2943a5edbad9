"""The YAML file of a study: a task, its data, scores and training, and the grid of cells, the most telling first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from euds.corpus.location import local_output
from euds.engine.config import score_config
from euds.errors import InputError, InvalidArgument, one_of
from euds.pipeline.sections import LocalPath, RowsSection, TrainerSection
from euds.pipeline.settings import Section, load_settings
from euds.study.grid.cells import Cell
from euds.study.grid.methods import METHODS
from euds.study.grid.task import FULL, is_whole_box
from euds.study.types import CLASSIFICATION, QUESTION_ANSWERING, Task, TrainConfig, task_of

FOLDERS = {
    "out": "a folder for the scores",
    "results": "a folder for the finished cells",
    "repeated_in": "the folder of a page",
}
"""Keys that name a folder of this machine, and which."""


class DataSection(RowsSection):
    """How many rows: the pool and the validation rows are drawn from `train`; `classes` leaves rows of others out.

    `passage_words` cuts the passages of questions after so many words; rows whose answer lies beyond are left out.
    """

    classes: list[str] | None = Field(default=None, min_length=2)
    passage_words: PositiveInt | None = None
    pool: PositiveInt
    validation: PositiveInt
    test_rows: PositiveInt


class ScoreSection(Section):
    """Models that score the pool."""

    lm: str
    embedder: str
    max_tokens: PositiveInt = 256


class TrainSection(TrainerSection):
    """Settings of the fine-tuning that all cells share."""

    by_length: bool = True


class BlockSection(Section):
    """A part of the grid: methods at one or more budgets, for some seeds, by one schedule.

    `selections` draws the rows anew for each of that many selection seeds and trains all of them with every training
    seed; without it the two seeds are the same. Fewer selections than seeds need a block of as many seeds without it.
    """

    keep: list[float] = Field(min_length=1)
    methods: Annotated[list[str], Field(min_length=1)] | Literal["all"] = "all"
    seeds: PositiveInt
    epochs: PositiveFloat | None = Field(default=None, allow_inf_nan=False)
    steps: PositiveInt | None = None
    selections: PositiveInt | None = None

    @model_validator(mode="after")
    def _one_schedule(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give epochs or steps, one of them")
        return self

    @property
    def schedule(self) -> str:
        """How long a cell trains, as cells record it."""
        return f"{self.epochs:g} epochs" if self.steps is None else f"{self.steps} steps"


class StudyFile(Section):
    """A whole study; `notes` are sentences for its page, such as decisions made after looking at results.

    `main_schedule`, such as "240 steps", is that of the page's conclusions; by default that of the full data. `repeats`
    is the file of a study that this one repeats on other rows; `repeated_in` is the folder with the page of those that
    repeat this one. `timed_cells` says how many cells, from the first, the machine of the facts trained when it was
    timed: the seconds of later ones are not compared, be it another machine, another day or beside other work.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    task: Literal["classification", "question_answering"] = "classification"
    data: DataSection
    score: ScoreSection
    train: TrainSection
    grid: list[BlockSection] = Field(min_length=1)
    out: LocalPath
    results: LocalPath
    notes: list[str] = Field(default_factory=list)
    main_schedule: str | None = None
    repeats: LocalPath | None = None
    repeated_in: LocalPath | None = None
    timed_cells: int | None = Field(default=None, ge=0)

    @property
    def settled_task(self) -> Task:
        """What is learned."""
        return task_of(self.task, self.data.text_field, self.data.label_field)

    @property
    def score_arguments(self) -> dict[str, Any]:
        """What `euds.score` is told of the pool's scores, by the names of its arguments."""
        task = self.settled_task
        return {
            "text_field": task.text_fields,
            "label_field": task.label_field if task.kind == CLASSIFICATION else None,
            "source_field": self.data.source_field,
            **self.score.model_dump(),
        }

    @property
    def cells_path(self) -> Path:
        """Finished cells, one a line."""
        return Path(self.results) / f"{self.name}.cells.jsonl"

    @property
    def facts_path(self) -> Path:
        """What the pool is and what everything cost."""
        return Path(self.results) / f"{self.name}.facts.json"

    def train_config(self, block: BlockSection) -> TrainConfig:
        """Return the settings of a block's cells."""
        return self.train.config(epochs=block.epochs, steps=block.steps)


@dataclass(frozen=True)
class Planned:
    """A cell to be trained: the method and its budget, the schedule, and the two seeds."""

    method: str
    keep: float
    block: BlockSection
    selection_seed: int
    seed: int

    @property
    def key(self) -> tuple[str, float, str, int, int]:
        """What no two cells of a study share, as in `Cell.key`."""
        return self.method, self.keep, self.block.schedule, self.selection_seed, self.seed


def as_planned(study: StudyFile, cell: Cell) -> Planned:
    """Return a finished cell as one of the study's grid, which need not have it any more.

    Raises:
        InputError: the cell's method or schedule is none.
    """
    if cell.method not in METHODS:
        raise InputError(f"cell {cell.cell}: there is no method {cell.method!r}; remove its line")
    block = next((own for own in study.grid if own.schedule == cell.schedule), None)
    if block is None:
        try:
            amount, unit = cell.schedule.split()
            of_unit = {unit: int(amount) if unit == "steps" else float(amount)}
            block = BlockSection.model_validate({"keep": [cell.keep], "seeds": 1, **of_unit})
        except ValueError:
            raise InputError(
                f"cell {cell.cell}: its schedule {cell.schedule!r} must be as '3 epochs' or '9 steps'; remove its line"
            ) from None
    return Planned(cell.method, cell.keep, block, cell.selection_seed, cell.seed)


def load_study(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> StudyFile:
    """Read a study's file and check everything that can be known without reading data.

    Raises:
        InputError: the file is missing or not YAML.
        InvalidArgument: a key or method is unknown, missing, or has an impossible value.
    """
    where = "study" if isinstance(source, Mapping) else str(source)
    study = load_settings(StudyFile, source, overrides, where)
    try:
        _ = study.settled_task
    except InvalidArgument as error:
        raise InvalidArgument(f"{where}: data.{error}") from None
    try:
        score_config(study.data.train, **study.score_arguments)
    except InvalidArgument as error:
        raise InvalidArgument(f"{where}: score.{error}") from None
    if study.data.classes and study.task != CLASSIFICATION:
        raise InvalidArgument(f"{where}: data.classes: task {study.task} has no classes")
    if study.data.passage_words is not None and study.task != QUESTION_ANSWERING:
        raise InvalidArgument(f"{where}: data.passage_words: task {study.task} has no passages")
    try:
        # Epochs and steps are the blocks' own.
        study.train.config(epochs=None, steps=1)
    except InvalidArgument as error:
        raise InvalidArgument(f"{where}: train.{error}") from None
    try:
        for key, what in FOLDERS.items():
            if (folder := getattr(study, key)) is not None:
                local_output(folder, what, key)
        for block in study.grid:
            if not all(0 < keep <= 1 for keep in block.keep):
                raise InvalidArgument(f"grid: keep must be fractions in (0, 1], got {block.keep}")
            for name in methods_of(block, study.task):
                one_of("grid: methods", name, METHODS)
                if name == FULL and block.keep != [1.0]:
                    raise InvalidArgument("grid: method full keeps the whole pool; give it a block with keep: [1.0]")
                if study.task != CLASSIFICATION and METHODS[name].needs_classes:
                    raise InvalidArgument(f"grid: method {name} needs classes; task {study.task} has none")
                if METHODS[name].source is not None and study.data.source_field is None:
                    raise InvalidArgument(f"grid: method {name} needs sources; name their field in data.source_field")
            _refuse_single_draws(study, block)
        if study.main_schedule is not None:
            one_of("main_schedule", study.main_schedule, dict.fromkeys(block.schedule for block in study.grid))
    except InvalidArgument as error:
        raise InvalidArgument(f"{where}: {error}") from None
    return study


def _refuse_single_draws(study: StudyFile, block: BlockSection) -> None:
    """Refuse a block of fewer choices than trainings: most of its models would stand for one draw of the rows.

    Blocks without `selections` have a draw for each seed, and are then the main comparison.

    Raises:
        InvalidArgument: a method of the block has too few draws in the whole grid.
    """
    if block.selections is None or block.selections >= block.seeds:
        return
    for keep in block.keep:
        for method in methods_of(block, study.task):
            draws = max(
                min(other.seeds, other.selections or other.seeds)
                for other in study.grid
                if other.schedule == block.schedule and keep in other.keep and method in methods_of(other, study.task)
            )
            if draws < block.seeds:
                raise InvalidArgument(
                    f"grid: the block with selections: {block.selections} and seeds: {block.seeds} trains {method} at "
                    f"keep {keep:g} for {block.schedule} on too few draws; give it as many selections as seeds, or add "
                    f"a block with seeds: {block.seeds} and without selections"
                )


def methods_of(block: BlockSection, task: str) -> list[str]:
    """Return the methods of a block: those named, or all that the task can have but `full` and those of one source."""
    if block.methods != "all":
        return block.methods
    classes = task == CLASSIFICATION
    rules = (name for name, method in METHODS.items() if name != FULL and method.source is None)
    return [name for name in rules if classes or not METHODS[name].needs_classes]


def planned_cells(study: StudyFile) -> Iterator[Planned]:
    """Yield the cells of the grid in the order they are to be trained, none twice.

    Within a block methods take turns within each seed, so that an unfinished block compares all of them on fewer seeds.
    """
    seen = set()
    for block in study.grid:
        for seed in range(block.seeds):
            for keep in block.keep:
                for method in methods_of(block, study.task):
                    if is_whole_box(method, keep):
                        continue
                    draws = range(block.selections) if block.selections else [seed]
                    for selection_seed in draws:
                        cell = Planned(method, keep, block, selection_seed, seed)
                        if cell.key not in seen:
                            seen.add(cell.key)
                            yield cell
