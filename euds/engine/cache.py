"""A cache of what the models say of a text, by its tokens; a corpus that grew by 1 % costs 1 % of the models' time."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from euds.engine.cache_settings import TOKEN_COLUMNS, CacheSettings
from euds.engine.cache_upkeep import tend
from euds.engine.columns import ragged, usable
from euds.engine.meter import Advance
from euds.engine.read import Encoders
from euds.engine.segments import NAMESPACE_FILE, Segments, keys_of
from euds.errors import InputError, RunStopped
from euds.files import json_sha256, write_json
from euds.measures.device import Precision
from euds.measures.tokens import ModelTokenizer
from euds.progress import say
from euds.types import BoolArray

CACHE_FORMAT = 1
"""Raised when segments or keys change, or scores by more than rounding: entries of another format are not seen."""

ROLE_OF = {"generative": "lm", "embeddings": "embedder", "label_words": "lm"}

HITS, MISSES = b"cache_hits", b"cache_misses"


class ScoreCache:
    """The cache as one run sees it.

    Args:
        settings: where it lies.
        models: hashes by role, as the run's fingerprint has them.
        precision: device and dtype of the run.
        encoders: tokenizers of the run.

    Raises:
        InputError: nothing can be written there.
    """

    def __init__(
        self, settings: CacheSettings, models: dict[str, dict[str, str]], precision: Precision, encoders: Encoders
    ) -> None:
        self._settings = settings
        self._stages: dict[str, Segments] = {}
        for stage, role in ROLE_OF.items():
            if role in models and (stage != "label_words" or encoders.label_words):
                self._stages[stage] = _open(settings, _namespace(stage, models[role], precision, encoders))

    def through(
        self, stage: str, tokens: pa.Table, compute: Callable[[pa.Table], pa.Table], advance: Advance
    ) -> pa.Table:
        """Return what `compute` gives for a shard, computed only for texts that are not known.

        Texts with the same tokens are computed once. Rows without a score are not kept.

        Args:
            stage: of the shard; one that is not cached is computed.
            tokens: the shard, as `read_shard` gives it.
            compute: gives a line for each row of such a table, with `reason` for a usable row without a score; its
                schema's metadata are passed on.
            advance: told of the rows that were not computed.
        """
        able = usable(tokens)
        if stage not in self._stages or not able:
            return compute(tokens)
        segments = self._stages[stage]
        keys, first, inverse = np.unique(
            keys_of(*ragged(tokens, TOKEN_COLUMNS[stage]), able), return_index=True, return_inverse=True
        )
        found, known = segments.look_up(keys)
        # In the order of the corpus: a cold cache forms the same batches as none.
        missing = np.flatnonzero(~found)
        missing = missing[np.argsort(first[missing])]
        advance(tokens.num_rows - len(missing), 0, 0)
        metadata: dict[bytes, bytes] = {}
        pieces = [] if known is None else [known.append_column("reason", pa.nulls(known.num_rows, pa.string()))]
        if len(missing):
            computed = compute(tokens.take(pa.array([able[first[at]] for at in missing])))
            metadata = computed.schema.metadata or {}
            computed = computed.replace_schema_metadata(None)
            good = _has_score(computed)
            self._add(segments, keys[missing][good], computed.filter(pa.array(good)).drop_columns(["reason"]))
            pieces.append(computed)
        pieces.append(_blank_row(pieces[0].schema))
        # Where each key's line lies in the pieces; the last line is that of rows that cannot be scored at all.
        line_of_key = np.empty(len(keys), np.int64)
        line_of_key[np.concatenate([np.flatnonzero(found), missing])] = np.arange(len(keys))
        lines = np.full(tokens.num_rows, len(keys), np.int64)
        lines[able] = line_of_key[inverse]
        hits = int(found[inverse].sum())
        metadata |= {HITS: str(hits).encode(), MISSES: str(len(able) - hits).encode()}
        return pa.concat_tables(pieces).take(pa.array(lines)).combine_chunks().replace_schema_metadata(metadata)

    def _add(self, segments: Segments, keys: np.ndarray, rows: pa.Table) -> None:
        order = np.argsort(keys)
        try:
            if len(order):
                segments.add(keys[order], rows.take(pa.array(order)))
            tend(self._settings.folder, segments.folder, self._settings.limit_bytes)
        except (OSError, RunStopped) as error:
            # The scores are there; that they cannot be kept for another run is no reason to end this one.
            _warn(self._settings, error)


def cache_counts(stage: str, table: pa.Table) -> dict[str, dict[str, int]]:
    """Return hits and misses behind a stage's table under the stage's name, or nothing if it went through no cache."""
    metadata = table.schema.metadata or {}
    return {stage: {"hits": int(metadata[HITS]), "misses": int(metadata[MISSES])}} if HITS in metadata else {}


def _namespace(stage: str, model: dict[str, str], precision: Precision, encoders: Encoders) -> dict[str, Any]:
    """Return all that a cached score depends on besides the tokens."""
    facts = {
        "format": CACHE_FORMAT,
        "stage": stage,
        "model_sha256": model["sha256"],
        "tokenizer_sha256": model["tokenizer_sha256"],
        "dtype": precision.dtype,
        "device": precision.kind,
    }
    if stage == "generative":
        assert isinstance(encoders.tokens, ModelTokenizer)
        facts["bos_id"] = encoders.tokens.bos_id
        facts |= {key: value for key, value in precision.to_json().items() if key == "logits"}
    if stage == "label_words":
        facts["words"] = [list(word) for word in encoders.label_words]
    return facts


def _open(settings: CacheSettings, facts: dict[str, Any]) -> Segments:
    folder = settings.folder / f"{facts['stage']}-{json_sha256(facts)[:32]}"
    try:
        if not (folder / NAMESPACE_FILE).exists():
            write_json(folder / NAMESPACE_FILE, facts)
    except OSError as error:
        raise InputError(f"{settings.folder}: no cache can be kept there: {error.strerror or error}") from error
    except RunStopped as error:
        # What is kept there can be looked up on a full disk, too.
        _warn(settings, error)
    return Segments(folder)


def _warn(settings: CacheSettings, error: Exception) -> None:
    say(f"warning: {settings.folder}: scores could not be cached: {error}")


def _has_score(rows: pa.Table) -> BoolArray:
    """Tell the rows that have no reason for being without a score, and only finite numbers."""
    good = np.asarray(pc.is_null(rows.column("reason"))).copy()
    for column in rows.drop_columns(["reason"]).columns:
        array = column.combine_chunks()
        good &= np.asarray(array.is_valid())
        if pa.types.is_fixed_size_list(array.type):
            good &= np.isfinite(np.asarray(array.values)).reshape(len(array), -1).all(1)
    return good


def _blank_row(schema: pa.Schema) -> pa.Table:
    """The line of a row that is not scored: null, and NaN in an embedding."""

    def blank(kind: pa.DataType) -> pa.Array:
        if pa.types.is_fixed_size_list(kind):
            return pa.FixedSizeListArray.from_arrays(
                pa.array(np.full(kind.list_size, np.nan, np.float32)), kind.list_size
            )
        return pa.nulls(1, kind)

    return pa.table({field.name: blank(field.type) for field in schema}, schema=schema)
