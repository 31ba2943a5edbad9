"""Read a shard's rows and tokenise their texts, once, for every model of the run."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from euds.corpus import Row, extract_scalar, extract_text
from euds.engine.prepare import Plan
from euds.engine.prompts import add_prompts, add_questions, label_prompt_encoder, prompt_encoder
from euds.measures.prompts import PromptEncoder
from euds.measures.tokens import Encoded, ModelTokenizer, TextEncoder, WordTokenizer

NO_TOKENS = Encoded([], truncated=False)
CHUNK_ROWS = 1024
CHUNK_CHARS = 1 << 22
"""Whichever is reached first ends a chunk of texts: memory does not grow with the shard or with the texts in it."""

SCHEMA = pa.schema(
    [
        ("row_id", pa.int64()),
        ("file", pa.string()),
        ("position", pa.int64()),
        ("reason", pa.string()),
        ("id", pa.string()),
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
    """The tokenizers of a run.

    Attributes:
        tokens: feeds information and generative entropy.
        embedder: feeds the clusters of semantic entropy.
        prompts: feeds the generations of semantic entropy.
        label_prompts: feeds the label words of semantic entropy.
        label_words: their tokens.
    """

    tokens: TextEncoder | None
    embedder: ModelTokenizer | None
    prompts: PromptEncoder | None = None
    label_prompts: PromptEncoder | None = None
    label_words: Sequence[Sequence[int]] = ()

    @classmethod
    def of(cls, plan: Plan) -> "Encoders":
        """Load the tokenizers that a run needs."""
        config, folders = plan.config, plan.folders
        tokens: TextEncoder | None = None
        if "lm" in folders or "tokenizer" in folders:
            tokens = ModelTokenizer(folders.get("lm") or folders["tokenizer"], plan.max_tokens)
            if plan.context is not None and tokens.bos_id is not None:
                # The BOS token takes a place, too.
                tokens.max_tokens = min(plan.max_tokens, plan.context - 1)
        elif "information" in config.measures:
            tokens = WordTokenizer(config.max_tokens)
        embedder = None
        if config.clusters:
            from euds.measures.semantic import embedder_limit

            limit = embedder_limit(folders["embedder"])
            embedder = ModelTokenizer(folders["embedder"], min(limit, config.max_tokens or limit))
        label_prompts, label_words = label_prompt_encoder(plan) or (None, ())
        return cls(tokens, embedder, prompt_encoder(plan), label_prompts, label_words)


def read_shard(plan: Plan, rows: Iterable[Row], encoders: Encoders) -> pa.Table:
    """Turn the rows of one shard into tokens; only a chunk of the texts is held at a time.

    Returns:
        A table of `SCHEMA`, with prompts where a model goes on from them; one line a row in order, `reason` is why a
        row cannot be scored at all, or null. Word ids are local to the shard: the words stand in the schema's metadata
        under `words`.
    """
    if isinstance(encoders.tokens, WordTokenizer):
        encoders = replace(encoders, tokens=WordTokenizer(encoders.tokens.max_tokens))
    batches = [_read_chunk(plan, chunk, encoders) for chunk in _chunks(rows, plan.config.text_fields)]
    table = pa.concat_tables(batches).combine_chunks() if batches else SCHEMA.empty_table()
    if isinstance(encoders.tokens, WordTokenizer):
        table = table.replace_schema_metadata({b"words": json.dumps(encoders.tokens.words).encode()})
    return table


def _chunks(rows: Iterable[Row], text_fields: Sequence[str]) -> Iterator[list[tuple[Row, str | None, str | None]]]:
    """Yield rows with their text or reason, some at a time."""
    chunk: list[tuple[Row, str | None, str | None]] = []
    chars = 0
    for row in rows:
        text, reason = extract_text(row, text_fields)
        chunk.append((row, text, reason))
        chars += len(text or "")
        if len(chunk) == CHUNK_ROWS or chars >= CHUNK_CHARS:
            yield chunk
            chunk, chars = [], 0
    if chunk:
        yield chunk


def _read_chunk(plan: Plan, chunk: Sequence[tuple[Row, str | None, str | None]], encoders: Encoders) -> pa.Table:
    config = plan.config
    texts = [text for _, text, _ in chunk]
    rows = [row for row, _, _ in chunk]
    tokens = _encode(encoders.tokens, texts)
    embedder_tokens = _encode(encoders.embedder, texts)
    reasons = [
        reason or ("text has no tokens" if _is_empty(encoders, main, side) else None)
        for (_, _, reason), main, side in zip(chunk, tokens, embedder_tokens, strict=True)
    ]
    columns = {
        "row_id": [row.row_id for row in rows],
        "file": [row.file for row in rows],
        "position": [row.position for row in rows],
        "reason": reasons,
        "id": [extract_scalar(row, config.id_field) for row in rows],
        "label": [extract_scalar(row, config.label_field) for row in rows],
        "source": [extract_scalar(row, config.source_field) for row in rows],
        "n_bytes": [None if text is None else _n_bytes(text) for text in texts],
        "truncated": [a.truncated or b.truncated for a, b in zip(tokens, embedder_tokens, strict=True)],
        "tokens": [encoded.ids for encoded in tokens],
        "embedder_tokens": [encoded.ids for encoded in embedder_tokens],
    }
    table = pa.table(columns, schema=SCHEMA)
    if encoders.prompts is not None:
        table = add_prompts(table, "prompt_tokens", rows, config.text_fields, encoders.prompts)
        table = add_questions(plan, table, rows)
    if encoders.label_prompts is not None:
        table = add_prompts(table, "label_prompt_tokens", rows, config.text_fields, encoders.label_prompts)
    return table


def _encode(encoder: TextEncoder | None, texts: Sequence[str | None]) -> list[Encoded]:
    if encoder is None:
        return [NO_TOKENS] * len(texts)
    encoded = iter(encoder.encode([text for text in texts if text is not None]))
    return [NO_TOKENS if text is None else next(encoded) for text in texts]


def _is_empty(encoders: Encoders, tokens: Encoded, embedder_tokens: Encoded) -> bool:
    return (encoders.tokens is not None and not tokens.ids) or (
        encoders.embedder is not None and not embedder_tokens.ids
    )


def _n_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
