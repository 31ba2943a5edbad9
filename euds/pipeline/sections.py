"""Groups of keys that recipes and studies have in common."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from euds.files import at_home
from euds.pipeline.settings import Section
from euds.study.types import TrainConfig, epochs_of

LocalPath = Annotated[str, AfterValidator(at_home)]
"""A path as a user types it; no shell has looked at it."""


class RowsSection(Section):
    """Where training and test rows come from, and which of their fields are read."""

    train: LocalPath
    test: LocalPath
    text_field: str | list[str] | None = None
    label_field: str | None = None
    source_field: str | None = Field(default=None, min_length=1)
    seed: int = Field(default=0, ge=0, lt=1 << 31)


class TrainerSection(Section):
    """Settings of the fine-tuning, but for how long it takes; see `TrainConfig`."""

    model: str
    batch_size: PositiveInt = 16
    learning_rate: PositiveFloat | None = None
    max_tokens: PositiveInt | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    by_length: bool = False

    def config(self, *, epochs: float | None, steps: int | None) -> TrainConfig:
        """Return the settings with a schedule: epochs or steps, 3 epochs where neither is given.

        Raises:
            InvalidArgument: both are given, or a setting is impossible.
        """
        shared: dict[str, Any] = {name: getattr(self, name) for name in TrainerSection.model_fields}
        return TrainConfig(**shared, epochs=epochs_of(epochs, steps), steps=steps)
