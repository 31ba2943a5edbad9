"""What a scoring run is made of: its configuration, and how it differs from the one a run directory holds."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from os import PathLike
from pathlib import Path
from typing import Any

from euds.engine.generations_config import SampleSettings, model_name
from euds.engine.label_words_config import LabelWordSettings
from euds.errors import (
    InputError,
    InvalidArgument,
    InvalidType,
    check_seed,
    goes_by_columns,
    instance_of,
    names_of,
    one_of,
    positive_number,
    whole_number,
)
from euds.files import at_home
from euds.measures.prompts import template_of
from euds.ops.cluster import DEFAULT_NEIGHBORS, DEFAULT_TEMPERATURE

MEASURES = ("information", "generative", "semantic")
SEMANTIC = ("clusters", "samples", "label_words")
"""The estimates of semantic entropy: from clusters of embeddings, sampled generations, or the task's label words."""

DEFAULT_MAX_TOKENS = 1024
"""Tokens of a text that a model reads unless told otherwise; the LM's context length if that is shorter."""


@dataclass(frozen=True)
class ScoreConfig:
    """The settings of a scoring run; two runs with equal settings and equal inputs give equal scores.

    Attributes:
        inputs: files, globs or asset files, as given.
        text_fields: one field, or two that are joined with a newline.
        id_field: field carried along as `id`, or None.
        label_field: field carried along as `label`, or None.
        source_field: field carried along as `source` (original, synthetic, ...), or None.
        measures: some of "information", "generative", "semantic".
        semantic: some of "clusters", "samples", "label_words", the estimates of semantic entropy; empty without that
            measure.
        samples: settings of "samples", or None without it.
        label_words: settings of "label_words", or None without it.
        lm: causal language model for generative entropy, generations and label words: asset, folder or hub name.
        embedder: sentence encoder for semantic entropy: asset, folder or hub name.
        tokenizer: model whose tokens information entropy counts; None: the LM's, and words without an LM.
        max_tokens: tokens read of each text; None: no limit for words, 1024 or the LM's context for models.
        token_budget: tokens of one batch, padding included where there is any; None: by device and model.
        shard_rows: rows per part file; None: by the number of rows, the size of the files and the device.
        n_clusters: centroids of the semantic clusters; None: by the number of rows.
        n_neighbors: nearest centroids that the entropy runs over.
        similarity_temperature: divisor of the cosine similarities.
        device: "auto", "cpu", "cuda" or "cuda:N".
        dtype: "auto", "float32", "bfloat16" or "float16".
        seed: of the clustering and of the generations.
    """

    inputs: tuple[str, ...]
    text_fields: tuple[str, ...]
    id_field: str | None
    label_field: str | None
    source_field: str | None
    measures: tuple[str, ...]
    semantic: tuple[str, ...]
    samples: SampleSettings | None
    label_words: LabelWordSettings | None
    lm: str | None
    embedder: str | None
    tokenizer: str | None
    max_tokens: int | None
    token_budget: int | None
    shard_rows: int | None
    n_clusters: int | None
    n_neighbors: int
    similarity_temperature: float
    device: str
    dtype: str
    seed: int

    def __post_init__(self) -> None:
        """Refuse impossible settings before any file or model is opened; take numbers of any kind as Python's."""
        self._settle_numbers()
        if not self.measures:
            raise InvalidArgument(f"measures: name at least one of {', '.join(MEASURES)}")
        if not 1 <= len(self.text_fields) <= 2:
            raise InvalidArgument(f"text_field: give one field, or two for pairs; got {len(self.text_fields)}")
        if len(set(self.text_fields)) < len(self.text_fields):
            raise InvalidArgument(f"text_field: {self.text_fields[0]!r} is named twice; name two fields, or it once")
        if "generative" in self.measures and self.lm is None:
            raise InvalidArgument("lm: generative entropy needs a causal language model, such as --lm smollm2-135m")
        self._check_semantic()
        if self.runs_lm and self.tokenizer not in (None, self.lm):
            raise InvalidArgument("tokenizer: where the LM runs, the texts are tokenised once, by the LM's tokenizer")
        if self.tokenizer is not None and "information" not in self.measures:
            raise InvalidArgument("tokenizer: only information entropy counts its tokens; leave it out")
        if self.max_tokens == 1 and "generative" in self.measures:
            raise InvalidArgument("max_tokens: generative entropy needs at least 2 tokens of a text, got 1")

    def _settle_numbers(self) -> None:
        settled: dict[str, int | float] = {"seed": check_seed("seed", self.seed)}
        for name in ("max_tokens", "token_budget", "shard_rows", "n_clusters", "n_neighbors"):
            value = getattr(self, name)
            if value is not None:
                settled[name] = whole_number(name, value, least=1)
        settled["similarity_temperature"] = positive_number("similarity_temperature", self.similarity_temperature)
        for name, number in settled.items():
            object.__setattr__(self, name, number)

    def _check_semantic(self) -> None:
        if "semantic" in self.measures and not self.semantic:
            raise InvalidArgument(f"semantic: name at least one of {', '.join(SEMANTIC)}")
        if self.samples is not None and self.lm is None:
            raise InvalidArgument("lm: sampling generations needs a causal language model, such as --lm smollm2-135m")
        if self.label_words is not None and self.lm is None:
            raise InvalidArgument("lm: label words need a causal language model, such as --lm smollm2-135m")
        if self.embeds and self.embedder is None:
            raise InvalidArgument("embedder: semantic entropy needs an encoder, such as --embedder all-minilm-l6-v2")
        for settings in (self.samples, self.label_words):
            if settings is not None:
                template_of(settings.template, self.text_fields)

    @property
    def clusters(self) -> bool:
        """Whether semantic entropy is estimated from clusters."""
        return "clusters" in self.semantic

    @property
    def embeds(self) -> bool:
        """Whether the sentence encoder runs."""
        return self.clusters or (self.samples is not None and self.samples.needs_embeddings)

    @property
    def runs_lm(self) -> bool:
        """Whether the causal language model runs."""
        return "generative" in self.measures or self.samples is not None or self.label_words is not None

    @property
    def token_model(self) -> str | None:
        """The model whose tokens information and generative entropy read; None means words."""
        if self.runs_lm:
            return self.lm
        return self.tokenizer or self.lm

    @property
    def unused(self) -> list[str]:
        """The settings that were given and that none of the measures looks at."""
        counts_tokens = "information" in self.measures and self.token_model == self.lm
        groups = self.samples is not None and self.samples.grouping == "similarity"
        return [
            name
            for name, given, used in (
                ("lm", self.lm is not None, self.runs_lm or counts_tokens),
                ("embedder", self.embedder is not None, self.embeds),
                ("token_budget", self.token_budget is not None, self.runs_lm or self.embeds),
                ("n_clusters", self.n_clusters is not None, self.clusters),
                ("n_neighbors", self.n_neighbors != DEFAULT_NEIGHBORS, self.clusters),
                ("similarity_temperature", self.similarity_temperature != DEFAULT_TEMPERATURE, self.clusters),
                ("dtype", self.dtype != "auto", self.runs_lm or self.embeds),
                ("seed", self.seed != 0, self.clusters or self.samples is not None),
                ("min_similarity", self._generations_differ("min_similarity"), groups),
                ("linkage", self._generations_differ("linkage"), groups),
                ("labels", self._generations_differ("labels"), self._labels_used),
            )
            if given and not used
        ]

    @property
    def _labels_used(self) -> bool:
        """Whether generations, or the estimate of label words, depend on the words that were given as labels."""
        if self.samples is None or self.samples.grouping == "labels" or self.label_words is not None:
            return True
        return "{labels}" in template_of(self.samples.template, self.text_fields)

    def _generations_differ(self, name: str) -> bool:
        return self.samples is not None and getattr(self.samples, name) != getattr(SampleSettings(), name)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain JSON types, as a manifest gives them back."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


def score_config(
    inputs: str | Path | Sequence[str | Path],
    *,
    text_field: str | Sequence[str] = "text",
    id_field: str | None = None,
    label_field: str | None = None,
    source_field: str | None = None,
    measures: str | Sequence[str] = MEASURES,
    semantic: str | Sequence[str] = "clusters",
    samples: SampleSettings | None = None,
    label_words: LabelWordSettings | None = None,
    lm: str | Path | None = None,
    embedder: str | Path | None = None,
    tokenizer: str | Path | None = None,
    max_tokens: int | None = None,
    token_budget: int | None = None,
    shard_rows: int | None = None,
    n_clusters: int | None = None,
    n_neighbors: int = DEFAULT_NEIGHBORS,
    similarity_temperature: float = DEFAULT_TEMPERATURE,
    device: str = "auto",
    dtype: str = "auto",
    seed: int = 0,
) -> ScoreConfig:
    """Return the settings that arguments of `euds.score` make, which are told there.

    Raises:
        InvalidArgument: an argument is impossible.
        InvalidType: an argument is of another type than a name, names or settings.
    """
    if samples is not None:
        instance_of("samples", samples, SampleSettings, "euds.SampleSettings")
    if label_words is not None:
        instance_of("label_words", label_words, LabelWordSettings, "euds.LabelWordSettings")
    if samples is not None and samples.generations_from is not None:
        samples = replace(samples, generations_from=at_home(samples.generations_from))
    measures = tuple(dict.fromkeys(names_of("measures", measures)))
    for measure in measures:
        one_of("measures", measure, MEASURES)
    for name, field in (("id_field", id_field), ("label_field", label_field), ("source_field", source_field)):
        if field is not None:
            instance_of(name, field, str, "the name of a field")
    instance_of("device", device, str, "a name such as 'cpu'")
    estimates, samples, label_words = settle_semantic(measures, semantic, samples, label_words)
    many = list(inputs) if isinstance(inputs, Iterable) and not _names_file(inputs) else [inputs]
    if goes_by_columns(inputs) or not all(map(_names_file, many)):
        raise InvalidType(
            f"inputs: must be names of files, got {type(inputs).__name__}; write rows to a file first, such as "
            "corpus.jsonl or corpus.parquet"
        )
    if "" in many:
        raise InvalidArgument("inputs: a name is empty; name a file")
    return ScoreConfig(
        inputs=tuple(map(str, many)),
        text_fields=names_of("text_field", text_field),
        id_field=id_field,
        label_field=label_field,
        source_field=source_field,
        measures=measures,
        semantic=estimates,
        samples=samples,
        label_words=label_words,
        lm=model_name("lm", lm),
        embedder=model_name("embedder", embedder),
        tokenizer=model_name("tokenizer", tokenizer),
        max_tokens=max_tokens,
        token_budget=token_budget,
        shard_rows=shard_rows,
        n_clusters=n_clusters,
        n_neighbors=n_neighbors,
        similarity_temperature=similarity_temperature,
        device=device,
        dtype=dtype,
        seed=seed,
    )


def settle_semantic(
    measures: Sequence[str],
    semantic: str | Sequence[str],
    samples: SampleSettings | None,
    label_words: LabelWordSettings | None,
) -> tuple[tuple[str, ...], SampleSettings | None, LabelWordSettings | None]:
    """Return the estimates of semantic entropy with the settings of each; nothing, where it is not measured.

    Raises:
        InvalidArgument: settings are given for an estimate that is not asked for, or the label words are missing.
    """
    estimates = tuple(dict.fromkeys(names_of("semantic", semantic)))
    for estimate in estimates:
        one_of("semantic", estimate, SEMANTIC)
    if samples is not None and "samples" not in estimates:
        given = [field.name for field in fields(samples) if getattr(samples, field.name) != field.default]
        instead = " or 'label_words'" if set(given) <= {"labels", "template"} else ""
        named = ", ".join(given) or "samples"
        raise InvalidArgument(
            f"semantic: settings of generations were given ({named}), which need semantic='samples'{instead}"
        )
    if label_words is not None and "label_words" not in estimates:
        raise InvalidArgument("label_words: settings of label words need semantic='label_words'")
    if "semantic" not in measures:
        if samples is not None or label_words is not None:
            raise InvalidArgument("measures: generations and label words are of semantic entropy; add 'semantic'")
        return (), None, None
    if label_words is None and "label_words" in estimates:
        raise InvalidArgument("label_words: name the label words, such as --labels positive,negative")
    return estimates, (samples or SampleSettings()) if "samples" in estimates else None, label_words


def stages_of(measures: Sequence[str], semantic: Sequence[str]) -> list[str]:
    """Return the stages that bring a shard's measures into being, in order."""
    stages = ["tokens"]
    if "clusters" in semantic:
        stages.append("embeddings")
    if "generative" in measures:
        stages.append("generative")
    if "samples" in semantic:
        stages += ["generation", "meanings"]
    if "label_words" in semantic:
        stages.append("label_words")
    return stages


def refuse_change(run_dir: object, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to continue a run directory that holds scores of another configuration.

    Raises:
        InputError: they differ; the message lists every difference as `key: before -> now`.
    """
    found = changes(before, now)
    if found:
        raise InputError(
            f"{run_dir} holds another run; choose another out, undo the change, or start over (euds score --force-new, "
            "or delete the folder):\n" + "\n".join(found)
        )


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return every difference of two nested mappings as a line `key: before -> now`, by key."""
    old, new = dict(_flat(before)), dict(_flat(now))
    return [
        f"  {key}: {old.get(key, '(absent)')} -> {new.get(key, '(absent)')}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, "(absent)") != new.get(key, "(absent)")
    ]


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list | tuple):
        for at, inner in enumerate(value):
            yield from _flat(inner, f"{prefix}[{at}]")
    else:
        yield prefix, value


def _names_file(value: object) -> bool:
    """Tell whether this may name an input; a remote path of universal_pathlib, then loaded, is no `PathLike`."""
    upath = sys.modules.get("upath")
    return isinstance(value, str | PathLike) or (upath is not None and isinstance(value, upath.UPath))
