"""Run a causal LM over many texts laid end to end, so that no layer computes on padding.

Linear layers, norms and activations see one long sequence. Attention alone must keep the texts apart: it lifts them
into a padded block, where causality keeps right padding out of every text, and lays its result end to end again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from euds.measures.device import on_device

NAME = "euds_packed"
PROBE_LENGTHS = (5, 3)
"""Texts of the check that a model reads packed texts as it reads padded ones."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the tokens of packed texts stand in a padded block.

    Attributes:
        padded: index into the packed tokens for each place of the block, int64 (n, longest). Padding repeats the text's
            own first token: a weight of 0 on another text's NaN would still be NaN.
        packed: index into the flat block for each packed token, int64 (tokens,).
    """

    padded: torch.Tensor
    packed: torch.Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "Layout":
        """Return the layout of texts with the given numbers of tokens."""
        n_tokens = torch.tensor(lengths)
        inside = torch.arange(max(lengths))[None, :] < n_tokens[:, None]
        starts = n_tokens.cumsum(0) - n_tokens
        padded = torch.where(inside, starts[:, None] + torch.arange(max(lengths)), starts[:, None])
        return cls(on_device(padded, device), on_device(inside.flatten().nonzero()[:, 0], device))


_layout: ContextVar[Layout | None] = ContextVar("layout", default=None)


def use_packing(model: Any) -> bool:
    """Prepare a causal LM for `packed_hidden_states`, if it can do it.

    Returns:
        False, with the model as it was, where its attention is none that texts can be lifted into: not torch's scaled
        dot product, a window, or a computation that comes out differently on packed texts.
    """
    config = model.config
    windowed = getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)
    if windowed or config._attn_implementation != "sdpa":
        return False
    model.set_attn_implementation(NAME)
    if _same_packed(model):
        return True
    model.set_attn_implementation("sdpa")
    return False


def packed_hidden_states(model: Any, ids: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """Return the last hidden states (tokens, H) of texts laid end to end.

    Args:
        model: prepared by `use_packing`.
        ids: int64 (tokens,), the texts one after another.
        lengths: tokens of each text, at least 1.
    """
    n_tokens = torch.tensor(lengths)
    starts = n_tokens.cumsum(0) - n_tokens
    positions = on_device(torch.arange(len(ids)) - starts.repeat_interleave(n_tokens), ids.device)
    with _laid_out(Layout.of(lengths, ids.device)):
        output = model.base_model(input_ids=ids[None], position_ids=positions[None], use_cache=False)
    hidden: torch.Tensor = output.last_hidden_state[0]
    return hidden


@contextmanager
def _laid_out(layout: Layout) -> Iterator[None]:
    before = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(before)


@torch.inference_mode()
def _same_packed(model: Any) -> bool:
    """Compare packed with padded reading on two short texts."""
    ids = torch.arange(1, sum(PROBE_LENGTHS) + 1, device=model.device) % model.config.vocab_size
    block = torch.nn.utils.rnn.pad_sequence(list(ids.split(PROBE_LENGTHS)), batch_first=True)
    padded = model.base_model(input_ids=block, use_cache=False).last_hidden_state
    try:
        packed = packed_hidden_states(model, ids, PROBE_LENGTHS)
    except (TypeError, ValueError):
        return False
    expected = torch.cat([row[:length] for row, length in zip(padded, PROBE_LENGTHS, strict=True)])
    tolerance = 1e-4 if model.dtype == torch.float32 else 0.1
    # Weights that give NaN say nothing; such rows are caught one by one, whatever way they are read.
    return torch.allclose(packed.float(), expected.float(), rtol=tolerance, atol=tolerance, equal_nan=True)


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **arguments: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within each text; query, key and value are (1, heads, tokens, width)."""
    layout = _layout.get()
    if layout is None:
        attended, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **arguments)
        return attended, None
    query, key, value = (packed[0][:, layout.padded].transpose(0, 1) for packed in (query, key, value))
    # (n, heads, longest, width) each, to (n, longest, heads, width).
    attended, _ = sdpa_attention_forward(module, query, key, value, None, **{**arguments, "is_causal": True})
    return attended.flatten(0, 1)[layout.packed][None], None


def _mask(*arguments: Any, **named: Any) -> torch.Tensor | None:
    """No mask for packed texts, which `_attention` keeps apart."""
    return sdpa_mask(*arguments, **named) if _layout.get() is None else None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)
