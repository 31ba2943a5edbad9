"""Read a shard's rows and tokenise their texts, once, for every model of the run."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from euds.corpus import Row, extract_scalar, extract_text
from euds.engine.columns import lists_of, with_words
from euds.engine.prepare import Plan
from euds.engine.prompts import add_prompts, add_questions, label_prompt_encoder, prompt_encoder
from euds.errors import InputError
from euds.measures.prompts import PromptEncoder
from euds.measures.tokens import ModelTokenizer, RaggedTokens, TextEncoder, offsets_of
from euds.measures.words import WordTokenizer
from euds.types import Int32Array

CHUNK_ROWS = 4096
CHUNK_CHARS = 1 << 22
"""Whichever is reached first ends a chunk of texts: memory does not grow with the shard or with the texts in it. For
every chunk the words of the shard so far are hashed: with a quarter of the rows that took a third of the splitting."""

MAX_SHARD_TOKENS = (1 << 31) - 1
"""Tokens of a shard's texts, or prompts, that a list column can count."""

MAX_SHARD_WORD_BYTES = (1 << 31) - (1 << 20)
"""Bytes of a shard's different words that the schema of its file can hold, with room for the rest of that."""

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

    Raises:
        InputError: the shard has more tokens or words than its file can hold.
    """
    if isinstance(encoders.tokens, WordTokenizer):
        encoders = replace(encoders, tokens=WordTokenizer(encoders.tokens.max_tokens))
    batches: list[pa.Table] = []
    n_tokens: Counter[str] = Counter()
    for chunk in _chunks(rows, plan.config.text_fields):
        batches.append(_read_chunk(plan, chunk, encoders))
        _check_size(plan, batches, n_tokens, encoders.tokens)
    table = pa.concat_tables(batches).combine_chunks() if batches else SCHEMA.empty_table()
    if isinstance(encoders.tokens, WordTokenizer):
        table = with_words(table, encoders.tokens.words)
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
    empty = np.zeros(len(chunk), bool)
    for encoder, found in ((encoders.tokens, tokens), (encoders.embedder, embedder_tokens)):
        if encoder is not None:
            empty |= np.diff(found.offsets) == 0
    reasons = [
        reason or ("text has no tokens" if is_empty else None)
        for (_, _, reason), is_empty in zip(chunk, empty.tolist(), strict=True)
    ]
    columns = {
        "row_id": [row.row_id for row in rows],
        "file": [row.file for row in rows],
        "position": [row.position for row in rows],
        "reason": reasons,
        "id": _scalars(rows, config.id_field),
        "label": _scalars(rows, config.label_field),
        "source": _scalars(rows, config.source_field),
        "n_bytes": [None if text is None else _n_bytes(text) for text in texts],
        "truncated": tokens.truncated | embedder_tokens.truncated,
        "tokens": lists_of(tokens.ids, tokens.offsets),
        "embedder_tokens": lists_of(embedder_tokens.ids, embedder_tokens.offsets),
    }
    table = pa.table(columns, schema=SCHEMA)
    if encoders.prompts is not None:
        table = add_prompts(table, "prompt_tokens", rows, config.text_fields, encoders.prompts)
        table = add_questions(plan, table, rows)
    if encoders.label_prompts is not None:
        table = add_prompts(table, "label_prompt_tokens", rows, config.text_fields, encoders.label_prompts)
    return table


def _check_size(plan: Plan, batches: Sequence[pa.Table], n_tokens: Counter[str], encoder: TextEncoder | None) -> None:
    """Count the tokens of the last chunk of a shard, and refuse a shard that its file could not hold."""
    last = batches[-1]
    for field in last.schema:
        if pa.types.is_list(field.type):
            n_tokens[field.name] += sum(len(lists.flatten()) for lists in last.column(field.name).chunks)
    sizes = [(count, MAX_SHARD_TOKENS, name.replace("_", " ")) for name, count in n_tokens.items()]
    if isinstance(encoder, WordTokenizer):
        sizes.append((encoder.words.nbytes, MAX_SHARD_WORD_BYTES, "bytes of different words"))
    for size, most, what in sizes:
        if size > most:
            first = batches[0].column("row_id")[0].as_py()
            raise InputError(
                f"shard_rows: the shard of {plan.config.shard_rows:,} rows that begins with row id {first:,} has more "
                f"than {most:,} {what}, which its file cannot hold; start over with a smaller --shard-rows"
            )


def _encode(encoder: TextEncoder | None, texts: Sequence[str | None]) -> RaggedTokens:
    """Encode the texts that are there; the others have no tokens."""
    lengths, truncated = np.zeros(len(texts), np.int64), np.zeros(len(texts), bool)
    ids: Int32Array = np.zeros(0, np.int32)
    if encoder is not None:
        there = np.array([text is not None for text in texts])
        found = encoder.encode_ragged([text for text in texts if text is not None])
        ids, lengths[there], truncated[there] = found.ids, np.diff(found.offsets), found.truncated
    return RaggedTokens(ids, offsets_of(lengths), truncated)


def _scalars(rows: Sequence[Row], field: str | None) -> list[str | None]:
    return [None] * len(rows) if field is None else [extract_scalar(row, field) for row in rows]


def _n_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
