"""The options of semantic entropy that several commands take, and the settings that they make."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from euds.engine.label_words_config import LabelWordSettings
    from euds.engine.samples_config import SampleSettings

DEFAULT_ESTIMATORS = "discrete,rao_blackwell"

Semantic = Annotated[str, typer.Option(help="Any of clusters,samples,label_words.")]
Sampler = Annotated[str, typer.Option(help="samples: transformers, or vllm where it is installed.")]
NGenerations = Annotated[int, typer.Option(help="samples: generations of a row.")]
MaxNewTokens = Annotated[int, typer.Option(help="samples: most tokens of a generation.")]
Template = Annotated[
    str | None,
    typer.Option(
        help="continuation, labels, question, or a template with {text}; by default continuation for samples, "
        "labels for label_words."
    ),
]
Labels = Annotated[str, typer.Option(help="samples, label_words: label words, such as positive,negative.")]
Temperature = Annotated[float, typer.Option(help="samples: divisor of the logits.")]
TopP = Annotated[float, typer.Option(help="samples: probability that is left to draw from.")]
TopK = Annotated[int, typer.Option(help="samples: tokens left to draw from; 0: all, 1: greedy.")]
Grouping = Annotated[str, typer.Option(help="samples: similarity, entailment or labels.")]
MinSimilarity = Annotated[float, typer.Option(help="samples: smallest cosine similarity of one meaning.")]
Linkage = Annotated[str, typer.Option(help="samples: first_representative or connected_components.")]
Nli = Annotated[str | None, typer.Option(help="samples: cross-encoder with a label entailment.")]
Estimators = Annotated[
    str, typer.Option(help="samples: any of discrete,rao_blackwell,miller_madow,chao_shen,nearest_neighbor,...")
]


def semantic_settings(
    semantic: str, *, template: str | None, labels: str, estimators: str, **samples: Any
) -> tuple[list[str], "SampleSettings | None", "LabelWordSettings | None"]:
    """Return the estimates with the settings of generations and label words, as `euds.score` takes them.

    Raises:
        InvalidArgument: a setting is impossible, or given for an estimate that is not asked for.
    """
    from euds.engine.label_words_config import LabelWordSettings
    from euds.engine.samples_config import SampleSettings

    estimates, words = names(semantic), tuple(names(labels))
    shared: dict[str, Any] = {"labels": words, **({} if template is None else {"template": template})}
    label_words = LabelWordSettings(**shared) if "label_words" in estimates else None
    sampled = "samples" in estimates
    # What the label words take is no setting of generations that nobody asked for.
    given = shared if sampled or label_words is None else {}
    settings = SampleSettings(**given, estimators=tuple(names(estimators)), **samples)
    return estimates, settings if sampled or settings != SampleSettings() else None, label_words


def names(text: str) -> list[str]:
    """Return the parts of a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
