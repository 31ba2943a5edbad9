"""The settings of semantic entropy over label words."""

from dataclasses import dataclass

from euds.errors import InvalidArgument, instance_of
from euds.ops.grouping import label_words_of


@dataclass(frozen=True)
class LabelWordSettings:
    """How label words are scored after a prompt, without sampling (`semantic="label_words"`).

    Attributes:
        labels: the task's label words, two or more; spaces around them do not matter.
        template: "labels" (`Text: ... Label (positive or negative):`) or another as in `euds.SampleSettings`; a word
            follows it after a space, or at once where the template ends in a line break.

    Raises:
        InvalidArgument: they are a set or fewer than two words, one is no string or empty, or two are the same but for
            case, spaces and punctuation around them.
    """

    labels: tuple[str, ...]
    template: str = "labels"

    def __post_init__(self) -> None:
        """Refuse impossible settings before any file or model is opened."""
        object.__setattr__(self, "labels", label_words_of(self.labels))
        instance_of("template", self.template, str, "a name or a text")
        if len(self.labels) < 2:
            raise InvalidArgument("labels: give the label words, two or more, such as --labels positive,negative")

    @property
    def words(self) -> tuple[str, ...]:
        """The label words without the spaces around them."""
        return tuple(label.strip() for label in self.labels)
