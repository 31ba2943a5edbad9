"""The options of scoring that several commands take, and the settings that those of semantic entropy make."""

from typing import Annotated, Any

import typer

from euds.engine.config import MEASURES, SEMANTIC
from euds.engine.generations_config import GROUPINGS, SampleSettings
from euds.engine.label_words_config import LabelWordSettings
from euds.ops.grouping import LINKAGES
from euds.ops.semantic import EMBEDDING_ESTIMATORS, ESTIMATORS

DEFAULT_MEASURES = ",".join(MEASURES)
SAMPLES = SampleSettings()
"""The defaults of the options of generations."""

DEFAULT_ESTIMATORS = ",".join(SAMPLES.estimators)
BAD_INPUT = 2
"""Exit code of bad input or arguments."""

Inputs = Annotated[
    list[str],
    typer.Argument(
        help="JSONL and CSV files, plain, .gz or .zst, Parquet or Arrow files, globs or URLs of such, or files of "
        "fetched assets."
    ),
]
TextField = Annotated[list[str] | None, typer.Option(help="Field of the text, text by default; give two for pairs.")]
IdField = Annotated[str | None, typer.Option(help="Field carried along as id.")]
LabelField = Annotated[
    str | None,
    typer.Option(
        help="Field carried along as label; label by default, if there is one (JSONL: in the first 1,000 rows)."
    ),
]
SourceField = Annotated[
    str | None,
    typer.Option(
        help="Field carried along as source; source by default, if there is one (JSONL: in the first 1,000 rows)."
    ),
]
Measures = Annotated[str, typer.Option(help=f"Any of {DEFAULT_MEASURES}.")]
Lm = Annotated[str | None, typer.Option(help="Causal LM: asset, folder or hub name.")]
Embedder = Annotated[str | None, typer.Option(help="Sentence encoder: asset, folder or hub name.")]
Tokenizer = Annotated[str | None, typer.Option(help="Tokens that information entropy counts; else words.")]
MaxTokens = Annotated[
    int | None,
    typer.Option(help="Tokens read of each text; 1,024 or the LM's context by default, all words without a model."),
]
TokenBudget = Annotated[int | None, typer.Option(help="Tokens of a batch, padding included.")]
ShardRows = Annotated[int | None, typer.Option(help="Rows of a part file; by default from rows, bytes and device.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]

Semantic = Annotated[str, typer.Option(help=f"Any of {','.join(SEMANTIC)}.")]
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
Grouping = Annotated[str, typer.Option(help=f"samples: {', '.join(GROUPINGS)}.")]
MinSimilarity = Annotated[float, typer.Option(help="samples: smallest cosine similarity of one meaning.")]
Linkage = Annotated[str, typer.Option(help=f"samples: {', '.join(LINKAGES)}.")]
Nli = Annotated[str | None, typer.Option(help="samples: cross-encoder with a label entailment.")]
Estimators = Annotated[str, typer.Option(help=f"samples: any of {', '.join((*ESTIMATORS, *EMBEDDING_ESTIMATORS))}.")]


def semantic_settings(
    semantic: str, *, template: str | None, labels: str, estimators: str, **samples: Any
) -> tuple[list[str], SampleSettings | None, LabelWordSettings | None]:
    """Return the estimates with the settings of generations and label words, as `euds.score` takes them.

    Raises:
        InvalidArgument: a setting is impossible, or given for an estimate that is not asked for.
    """
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
