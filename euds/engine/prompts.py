"""The prompts of a shard's rows, encoded beside their tokens."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from euds.corpus import Row
from euds.engine.prepare import Plan
from euds.errors import InputError
from euds.measures.models import context_length
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
    folder = plan.folders["lm"]
    room = context_length(folder) - settings.max_new_tokens
    if room < 1:
        raise InputError(
            f"{folder}: reads {context_length(folder)} tokens, and {settings.max_new_tokens} new ones leave none for a "
            "prompt; choose fewer max_new_tokens"
        )
    template = template_of(settings.template, plan.config.text_fields)
    return PromptEncoder(folder, template, settings.labels, min(plan.max_tokens, room))


def add_prompts(plan: Plan, tokens: pa.Table, rows: Sequence[Row], encoder: PromptEncoder) -> pa.Table:
    """Add `prompt_tokens`, and `question` where answers are judged with it, to a tokens table of usable rows.

    A row whose prompt has no token gets a reason; one whose prompt had to be cut counts as truncated.
    """
    fields = plan.config.text_fields
    reasons: list[str | None] = tokens.column("reason").to_pylist()
    encoded = []
    questions: list[str | None] = []
    for at, row in enumerate(rows):
        texts = {field: str((row.fields or {}).get(field)) for field in fields}
        prompt = encoder.encode(texts) if reasons[at] is None else NO_PROMPT
        if reasons[at] is None and not prompt.ids:
            reasons[at] = PROMPT_TOO_LONG if prompt.truncated else "text has no tokens"
        encoded.append(prompt)
        asks = reasons[at] is None and plan.config.samples is not None and plan.config.samples.template == "question"
        questions.append(texts[fields[0]] if asks else None)
    truncated = np.array(tokens.column("truncated").to_pylist()) | [prompt.truncated for prompt in encoded]
    changed = {"reason": pa.array(reasons, pa.string()), "truncated": pa.array(truncated, pa.bool_())}
    for name, column in changed.items():
        tokens = tokens.set_column(tokens.column_names.index(name), name, column)
    tokens = tokens.append_column("prompt_tokens", pa.array([prompt.ids for prompt in encoded], pa.list_(pa.int32())))
    return tokens.append_column("question", pa.array(questions, pa.string()))
