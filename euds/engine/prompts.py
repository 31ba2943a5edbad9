"""The prompts of a shard's rows, encoded beside their tokens."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from euds.corpus import Row
from euds.engine.prepare import Plan
from euds.errors import InputError, InvalidArgument
from euds.measures.prompts import PromptEncoder, template_of
from euds.measures.tokens import Encoded

PROMPT_TOO_LONG = "the template alone is longer than a prompt may be"
NO_PROMPT = Encoded([], truncated=False)


def prompt_encoder(plan: Plan) -> PromptEncoder | None:
    """Return the encoder of a run that samples generations, or None.

    Raises:
        InputError: the generations leave no room for a prompt in the LM's context.
    """
    settings = plan.config.samples
    if settings is None:
        return None
    room = _room(plan, settings.max_new_tokens, "choose fewer max_new_tokens")
    template = template_of(settings.template, plan.config.text_fields)
    return PromptEncoder(plan.folders["lm"], template, settings.labels, room)


def label_prompt_encoder(plan: Plan) -> tuple[PromptEncoder, list[list[int]]] | None:
    """Return the encoder of a run that scores label words, and each word's tokens after a prompt; or None.

    Raises:
        InvalidArgument: a label word has no tokens, or two have the same.
        InputError: the label words leave no room for a prompt in the LM's context.
    """
    settings = plan.config.label_words
    if settings is None:
        return None
    folder = plan.folders["lm"]
    # A space that the template ends in belongs to the word: tokenizers write the two as one.
    template = template_of(settings.template, plan.config.text_fields).rstrip(" ")
    encoder = PromptEncoder(folder, template, settings.words, plan.max_tokens)
    words = encoder.followed_by(settings.words)
    alone = encoder.tokens.encode(settings.words)
    for at, (label, ids) in enumerate(zip(settings.words, words, strict=True)):
        # Where nothing is left of a word, the space before it still is.
        if not alone[at].ids or not ids:
            raise InvalidArgument(f"labels: {label!r} has no tokens in the tokenizer of {folder}")
        if ids in words[:at]:
            same = settings.words[words.index(ids)]
            raise InvalidArgument(f"labels: {same!r} and {label!r} are the same tokens in the tokenizer of {folder}")
    encoder.max_tokens = _room(plan, max(map(len, words)), "choose shorter labels")
    return encoder, words


def check_prompts(plan: Plan) -> None:
    """Refuse prompts that cannot be made, before anything is written.

    Loads the tokenizers of a run with prompts.

    Raises:
        InvalidArgument, InputError: as the two encoders.
    """
    prompt_encoder(plan)
    label_prompt_encoder(plan)


def add_prompts(
    tokens: pa.Table, column: str, rows: Sequence[Row], fields: Sequence[str], encoder: PromptEncoder
) -> pa.Table:
    """Add a column of prompts to a tokens table.

    A row whose prompt has no token gets a reason; one whose prompt had to be cut counts as truncated.
    """
    reasons: list[str | None] = tokens.column("reason").to_pylist()
    encoded = []
    for at, row in enumerate(rows):
        prompt = encoder.encode(_texts(row, fields)) if reasons[at] is None else NO_PROMPT
        if reasons[at] is None and not prompt.ids:
            reasons[at] = PROMPT_TOO_LONG if prompt.truncated else "text has no tokens"
        encoded.append(prompt)
    truncated = np.array(tokens.column("truncated").to_pylist()) | [prompt.truncated for prompt in encoded]
    changed = {"reason": pa.array(reasons, pa.string()), "truncated": pa.array(truncated, pa.bool_())}
    for name, values in changed.items():
        tokens = tokens.set_column(tokens.column_names.index(name), name, values)
    return tokens.append_column(column, pa.array([prompt.ids for prompt in encoded], pa.list_(pa.int32())))


def add_questions(plan: Plan, tokens: pa.Table, rows: Sequence[Row]) -> pa.Table:
    """Add `question` to a tokens table: the row's first field where answers are judged with it, else null."""
    fields = plan.config.text_fields
    asks = plan.config.samples is not None and plan.config.samples.template == "question"
    reasons = tokens.column("reason").to_pylist()
    questions = [
        _texts(row, fields)[fields[0]] if asks and reason is None else None
        for row, reason in zip(rows, reasons, strict=True)
    ]
    return tokens.append_column("question", pa.array(questions, pa.string()))


def _texts(row: Row, fields: Sequence[str]) -> Mapping[str, str]:
    return {field: str((row.fields or {}).get(field)) for field in fields}


def _room(plan: Plan, n_after: int, remedy: str) -> int:
    """Return the most tokens of a prompt that n_after more follow."""
    if plan.context is None:
        return plan.max_tokens
    room = plan.context - n_after
    if room < 1:
        raise InputError(
            f"{plan.folders['lm']}: reads {plan.context} tokens, and {n_after} new ones leave none for a prompt; "
            f"{remedy}"
        )
    return min(plan.max_tokens, room)
