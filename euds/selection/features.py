"""What a run's texts give beyond its scores: embeddings by the run's own encoder, and features of the cheap trainee."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from euds.corpus import Row, extract_text, take_rows
from euds.errors import InputError, InvalidArgument
from euds.progress import bar, say
from euds.selection.axes import values_of
from euds.selection.coverage import MAX_FACILITY_ROWS
from euds.selection.rules import AUTO_RULE, COVERAGE_RULES
from euds.selection.trainee import Trainee
from euds.types import Float32Array, Int64Array

if TYPE_CHECKING:
    from euds.measures.device import Precision

MAX_WORDS = 50_000


@dataclass(frozen=True, eq=False)
class Embedded:
    """Embeddings of some of a run's rows.

    Attributes:
        row_ids: (n,) ascending.
        vectors: float32 (n, H), unit norm; zero where a text has none.
    """

    row_ids: Int64Array
    vectors: Float32Array

    def of(self, row_ids: Int64Array) -> Float32Array:
        """Return the embeddings of ids, (len(row_ids), H); zero for one that is not there."""
        places = np.searchsorted(self.row_ids, row_ids).clip(max=len(self.row_ids) - 1)
        there = self.row_ids[places] == row_ids
        found: Float32Array = self.vectors[places]
        found[~there] = 0
        return found


class RunTexts:
    """What the texts of a run's rows with tokens give; each is made once, when it is first needed.

    Args:
        manifest: of the run.
        files: its corpus.
        scores: as `read_scores` gives them.

    Attributes:
        seconds: what has been spent on embeddings and features so far.
    """

    def __init__(self, manifest: Mapping[str, Any], files: Sequence[Path], scores: pa.Table) -> None:
        self._manifest = manifest
        self._files = files
        self._scores = scores
        self.seconds = 0.0

    def covers(self, rule: str) -> bool:
        """Tell whether a rule covers embeddings; "auto" does those of single texts, if they are not too many."""
        if rule == AUTO_RULE:
            few = self._scores.num_rows <= MAX_FACILITY_ROWS
            return few and not self.pairs and "embedder" in self._manifest["models"]
        return rule in COVERAGE_RULES

    @property
    def pairs(self) -> bool:
        """Whether the texts are pairs of fields, such as questions and passages."""
        return len(self._manifest["config"]["text_fields"]) == 2

    @cached_property
    def embedded(self) -> Embedded:
        """The embeddings.

        Raises:
            InputError: the run has no encoder, or it is gone or has changed.
        """
        facts = self._manifest["models"].get("embedder")
        if facts is None:
            raise InputError(
                "rule: 'k_center' and 'facility' cover the embeddings of texts, and the run has no encoder; score with "
                "--measures semantic and --embedder, such as all-minilm-l6-v2"
            )
        start = time.perf_counter()
        vectors = embed_texts(self._texts, facts, self._manifest["config"])
        self.seconds += time.perf_counter() - start
        return Embedded(self._rows.column("row_id").to_numpy(), vectors)

    @cached_property
    def labels(self) -> Int64Array:
        """The class code of every row with tokens, (n,), -1 where it has no label.

        Raises:
            InputError: the scores have no labels.
        """
        if self._rows.column("label").null_count == self._rows.num_rows:
            raise InputError(
                "rule 'validated' and keep 'auto' need labels, and the scores have none; score into a new directory "
                "with --label-field"
            )
        names = self._rows.column("label").to_pylist()
        codes = {name: code for code, name in enumerate(sorted({str(name) for name in names if name is not None}))}
        return np.array([-1 if name is None else codes[str(name)] for name in names], np.int64)

    @cached_property
    def trainee(self) -> Trainee:
        """What the probe learns from: the embeddings, or TF-IDF where the run has no encoder.

        Raises:
            InputError: the scores have no labels, or the run's encoder is gone or has changed.
        """
        row_ids = self._rows.column("row_id").to_numpy()
        facts = self._manifest["models"].get("embedder")
        if facts is None:
            start = time.perf_counter()
            features = _tf_idf(self._texts)
            self.seconds += time.perf_counter() - start
            return Trainee(row_ids, features, self.labels, "TF-IDF of words and pairs of words")
        return Trainee(row_ids, self.embedded.vectors, self.labels, f"embeddings by {facts['name']}")

    @cached_property
    def _rows(self) -> pa.Table:
        """The rows with tokens."""
        return self._scores.filter(pa.array(np.isfinite(values_of(self._scores, "n_tokens"))))

    @cached_property
    def _texts(self) -> list[str]:
        row_ids = self._rows.column("row_id").to_pylist()
        fields = self._manifest["config"]["text_fields"]
        rows = take_rows(self._files, row_ids, columns=fields)
        return [extract_text(Row(at, "", 0, row), fields)[0] or "" for at, row in zip(row_ids, rows, strict=True)]


def _tf_idf(texts: Sequence[str]) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, max_features=MAX_WORDS, token_pattern=r"\w+"
    ).fit_transform(texts)


def embed_texts(texts: Sequence[str], facts: Mapping[str, Any], config: Mapping[str, Any]) -> Float32Array:
    """Return the embeddings of texts by a run's own encoder, (n, H), zero where a text has none.

    Args:
        texts: to embed.
        facts: of the encoder, as the run's manifest has them.
        config: of the run.

    Raises:
        InputError: the encoder is gone or has changed.
    """
    from euds.assets import content_sha256
    from euds.engine.batches import TokenBudget
    from euds.engine.embed import embed_into
    from euds.engine.worker import TOKEN_BUDGET
    from euds.measures.models import model_folder
    from euds.measures.semantic import Embedder, embedder_limit
    from euds.measures.tokens import ModelTokenizer

    folder = model_folder(_place_of(facts))
    if content_sha256(folder) != facts["sha256"]:
        raise InputError(f"{folder}: the encoder has changed since the run was scored; score into a new directory")
    settled = _precision_of(facts, config)
    embedder = Embedder(folder, settled)
    limit = embedder_limit(folder)
    # A run whose encoder embedded generations only has no limit for texts on record.
    max_tokens = facts.get("max_tokens") or min(limit, config["max_tokens"] or limit)
    ids = [encoded.ids for encoded in ModelTokenizer(folder, max_tokens).encode(texts)]
    budget = TokenBudget(config["token_budget"] or TOKEN_BUDGET[settled.torch_device.type])
    found = np.zeros((len(texts), embedder.width), np.float32)
    lengths = [len(own) for own in ids]
    n_lost = 0
    with bar("embed", len(texts)) as progress:
        for rows, failed in embed_into(found, range(len(ids)), lengths, ids.__getitem__, embedder, budget):
            # A row without an embedding is at zero, the probe's "no idea".
            found[list(failed)] = 0
            n_lost += len(failed)
            progress.advance(len(rows))
    if n_lost:
        say(f"warning: {n_lost:,} texts have no embedding: out of memory on each alone, or no finite numbers")
    return found


def _place_of(facts: Mapping[str, Any]) -> str:
    """Return where a run's encoder is to be looked for: its folder, or else its name, as scoring was told it.

    Raises:
        InputError: it was a folder, and is gone.
    """
    from euds.assets import given_folder

    name, folder = str(facts["name"]), facts.get("folder")
    if folder is None:
        return name
    if Path(folder).is_dir():
        return str(folder)
    # A path that leads nowhere from here would be taken for a hub's name.
    if given_folder(name) is None:
        raise InputError(
            f"{folder}: the run's encoder is no longer there; put it back, or repeat `euds score` with its new place"
        )
    return name


def _precision_of(facts: Mapping[str, Any], config: Mapping[str, Any]) -> "Precision":
    """Return the device and dtype of a run's encoder, or those of this machine where the device is not there."""
    from euds.measures.device import precision

    try:
        return precision(config["device"], facts["dtype"])
    except InvalidArgument:
        return precision()
