"""Stage 1: read a shard's rows and tokenise their texts, once, for every model of the run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from euds.corpus import Row, extract_scalar, extract_text
from euds.engine.prepare import Plan
from euds.measures.semantic import embedder_limit
from euds.measures.tokens import Encoded, ModelTokenizer, TextEncoder, WordTokenizer
from euds.types import Int64Array

STAGE = "tokens"
NO_TOKENS = Encoded([], truncated=False)

SCHEMA = pa.schema(
    [
        ("row_id", pa.int64()),
        ("file", pa.string()),
        ("position", pa.int64()),
        ("reason", pa.string()),
        ("label", pa.string()),
        ("source", pa.string()),
        ("n_bytes", pa.int64()),
        ("truncated", pa.bool_()),
        ("tokens", pa.list_(pa.int32())),
        ("embedder_tokens", pa.list_(pa.int32())),
    ]
)


@dataclass(frozen=True)
class Encoders:
    """The tokenizers of a run; `tokens` feeds information and generative entropy, `embedder` semantic entropy."""

    tokens: TextEncoder | None
    embedder: ModelTokenizer | None

    @classmethod
    def of(cls, plan: Plan) -> "Encoders":
        """Load the tokenizers that a run needs."""
        config, folders = plan.config, plan.folders
        tokens: TextEncoder | None = None
        if "lm" in folders or "tokenizer" in folders:
            tokens = ModelTokenizer(folders.get("lm") or folders["tokenizer"], plan.max_tokens)
        elif "information" in config.measures:
            tokens = WordTokenizer(config.max_tokens)
        embedder = None
        if "embedder" in folders:
            limit = embedder_limit(folders["embedder"])
            embedder = ModelTokenizer(folders["embedder"], min(limit, config.max_tokens or limit))
        return cls(tokens, embedder)


def read_shard(plan: Plan, rows: Sequence[Row], encoders: Encoders) -> pa.Table:
    """Turn the rows of one shard into tokens.

    Returns:
        A table of `SCHEMA`, one line a row in order; `reason` is why a row cannot be scored at all, or null. Word ids
        are local to the shard: the words stand in the schema's metadata under `words`.
    """
    extracted = [extract_text(row, plan.config.text_fields) for row in rows]
    texts = [text for text, _ in extracted]
    if isinstance(encoders.tokens, WordTokenizer):
        encoders = Encoders(WordTokenizer(encoders.tokens.max_tokens), encoders.embedder)
    tokens = _encode(encoders.tokens, texts)
    embedder_tokens = _encode(encoders.embedder, texts)
    reasons = [
        reason or ("text has no tokens" if _is_empty(encoders, main, side) else None)
        for (_, reason), main, side in zip(extracted, tokens, embedder_tokens, strict=True)
    ]
    columns = {
        "row_id": [row.row_id for row in rows],
        "file": [row.file for row in rows],
        "position": [row.position for row in rows],
        "reason": reasons,
        "label": [extract_scalar(row, plan.config.label_field) for row in rows],
        "source": [extract_scalar(row, plan.config.source_field) for row in rows],
        "n_bytes": [None if text is None else len(text.encode()) for text in texts],
        "truncated": [a.truncated or b.truncated for a, b in zip(tokens, embedder_tokens, strict=True)],
        "tokens": [encoded.ids for encoded in tokens],
        "embedder_tokens": [encoded.ids for encoded in embedder_tokens],
    }
    table = pa.table(columns, schema=SCHEMA)
    if isinstance(encoders.tokens, WordTokenizer):
        table = table.replace_schema_metadata({b"words": json.dumps(encoders.tokens.words).encode()})
    return table


def ragged(table: pa.Table, column: str) -> tuple[Int64Array, Int64Array]:
    """Return a list column as flat values and offsets, both int64; sample i is values[offsets[i]:offsets[i+1]]."""
    lists = table.column(column).combine_chunks()
    offsets = np.asarray(lists.offsets, dtype=np.int64)
    values = np.asarray(lists.values, dtype=np.int64)
    return values[offsets[0] : offsets[-1]], offsets - offsets[0]


def usable(table: pa.Table) -> list[int]:
    """Return the lines of a tokens table whose text can be scored."""
    return [at for at, reason in enumerate(table.column("reason").to_pylist()) if reason is None]


def _encode(encoder: TextEncoder | None, texts: Sequence[str | None]) -> list[Encoded]:
    if encoder is None:
        return [NO_TOKENS] * len(texts)
    encoded = iter(encoder.encode([text for text in texts if text is not None]))
    return [NO_TOKENS if text is None else next(encoded) for text in texts]


def _is_empty(encoders: Encoders, tokens: Encoded, embedder_tokens: Encoded) -> bool:
    return (encoders.tokens is not None and not tokens.ids) or (
        encoders.embedder is not None and not embedder_tokens.ids
    )
