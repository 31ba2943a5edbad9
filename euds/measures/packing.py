"""Run a causal LM over many texts laid end to end, so that no layer computes on padding.

Linear layers, norms and activations see one long sequence. Attention alone must keep the texts apart. On a GPU and in
2-byte dtypes torch's variable-length attention does; elsewhere they are lifted into padded blocks, where causality
keeps right padding out of every text, and their result is laid end to end again.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from euds.measures.device import is_out_of_memory, on_device

NAME, PADDED_NAME = "euds_packed", "euds_packed_padded"
"""Of the two ways to keep texts apart, as models are told which: by variable-length attention, and padded."""

PROBE_LENGTHS = (5, 3)
"""Texts of the check that a model reads packed texts as it reads padded ones, and each for itself."""

LARGEST_ERROR = {4: 1e-4, 2: 0.15}
"""By bytes of a number, of the norm of the difference over that of the states. On SmolLM2-135M in bfloat16 two kinds of
attention differ by 0.01 to 0.03, texts that are not kept apart by 0.4 to 0.5."""

LARGEST_BLOCK = 2
"""Places of a padded block for each token in it, at most; beside a long text, a short one would cost what that does."""

KNOWN_ARGUMENTS = frozenset(
    (
        *("dropout", "scaling", "is_causal", "position_ids", "cache_position", "use_cache"),
        *("output_attentions", "output_hidden_states", "return_dict"),
    )
)
"""What a model may ask of attention within packed texts; whatever else it asks would be left out without a word."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Where packed texts begin and end, for variable-length attention.

    Attributes:
        offsets: of the texts, int32 (n + 1,), from 0 to their tokens.
        longest: tokens of the longest text.
    """

    offsets: torch.Tensor
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "Layout":
        """Return the layout of texts with the given numbers of tokens."""
        ends = torch.tensor([0, *lengths]).cumsum(0)
        return cls(on_device(ends.int(), device), max(lengths))


@dataclass(frozen=True, eq=False)
class PaddedLayout:
    """Where the tokens of packed texts stand in padded blocks of texts of similar length.

    Attributes:
        blocks: index into the packed tokens for each place of a block, int64 (n, longest) each. Padding repeats the
            text's own first token: a weight of 0 on another text's NaN would still be NaN.
        packed: index into the flat blocks, one after another, for each packed token, int64 (tokens,).
    """

    blocks: tuple[torch.Tensor, ...]
    packed: torch.Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "PaddedLayout":
        """Return the layout of texts with the given numbers of tokens."""
        n_tokens = torch.tensor(lengths)
        starts = n_tokens.cumsum(0) - n_tokens
        packed = torch.empty(sum(lengths), dtype=torch.int64)
        blocks = []
        n_places = 0
        for texts in _alike(lengths):
            places = torch.arange(max(lengths[at] for at in texts))
            first = starts[texts, None]
            inside = places < n_tokens[texts, None]
            block = torch.where(inside, first + places, first)
            packed[block[inside]] = n_places + inside.flatten().nonzero()[:, 0]
            n_places += inside.numel()
            blocks.append(on_device(block, device))
        return cls(tuple(blocks), on_device(packed, device))


def _alike(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield groups of texts whose padded blocks have at most `LARGEST_BLOCK` places a token, the longest first."""
    group: list[int] = []
    longest = tokens = 0
    for at in sorted(range(len(lengths)), key=lambda at: -lengths[at]):
        if group and longest * (len(group) + 1) > LARGEST_BLOCK * (tokens + lengths[at]):
            yield sorted(group)
            group, tokens = [], 0
        longest = longest if group else lengths[at]
        group.append(at)
        tokens += lengths[at]
    yield sorted(group)


_layout: ContextVar[Layout | PaddedLayout | None] = ContextVar("layout", default=None)


def backbone(model: Any) -> Any:
    """Return a causal LM without its output projection, or the model itself where the two are not apart."""
    # The prefix that Llama 4 and Mllama give names no attribute of theirs.
    return getattr(model, "model", model) if model.base_model is model else model.base_model


def use_packing(model: Any) -> bool:
    """Prepare a causal LM for `packed_hidden_states`, if it can do it.

    Returns:
        False, with the model as it was, where its attention is none that texts can be kept apart in: not torch's scaled
        dot product, a window or chunks, no backbone apart from its output projection, or a computation that comes out
        differently on packed texts.
    """
    config = model.config
    text = config.get_text_config()
    windowed = getattr(text, "sliding_window", None) is not None and getattr(text, "use_sliding_window", True)
    windowed |= getattr(text, "attention_chunk_size", None) is not None
    if windowed or config._attn_implementation != "sdpa" or backbone(model) is model:
        return False
    for name in (NAME, PADDED_NAME) if model.device.type == "cuda" and model.dtype.itemsize == 2 else (PADDED_NAME,):
        model.set_attn_implementation(name)
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
    kind = Layout if model.config._attn_implementation == NAME else PaddedLayout
    with _laid_out(kind.of(lengths, ids.device)):
        output = backbone(model)(input_ids=ids[None], position_ids=positions[None], use_cache=False)
    hidden: torch.Tensor = output.last_hidden_state[0]
    return hidden


@contextmanager
def _laid_out(layout: Layout | PaddedLayout) -> Iterator[None]:
    before = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(before)


@torch.inference_mode()
def _same_packed(model: Any) -> bool:
    """Tell whether two short texts read packed are what they are padded, and the second does not see the first."""
    # From the whole vocabulary: the first tokens are often special ones, on which rounding alone can change everything.
    generator = torch.Generator().manual_seed(0)
    n_tokens = len(model.get_input_embeddings().weight)
    ids = torch.randint(n_tokens, (sum(PROBE_LENGTHS),), generator=generator).to(model.device)
    first, second = ids.split(PROBE_LENGTHS)
    padded = backbone(model)(
        input_ids=torch.nn.utils.rnn.pad_sequence([first, second], batch_first=True), use_cache=False
    ).last_hidden_state
    try:
        packed = packed_hidden_states(model, ids, PROBE_LENGTHS).float()
        beside_another = packed_hidden_states(model, torch.cat([first.flip(0), second]), PROBE_LENGTHS).float()
    except (RuntimeError, TypeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        return False
    seen = packed[len(first) :], beside_another[len(first) :]
    if not torch.allclose(*seen, rtol=0, atol=0, equal_nan=True):
        return False
    expected = torch.cat([row[:length] for row, length in zip(padded, PROBE_LENGTHS, strict=True)]).float()
    # Weights that give NaN say nothing; such rows are caught one by one, whatever way they are read.
    off = (packed - expected).nan_to_num().norm() / expected.nan_to_num().norm()
    largest = LARGEST_ERROR[model.dtype.itemsize]
    return torch.equal(packed.isnan(), expected.isnan()) and not off > largest


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **arguments: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within each text; query, key and value are (1, heads, tokens, width).

    Raises:
        NotImplementedError: texts are packed, and the model asks for more than causal attention.
    """
    layout = _layout.get()
    if layout is None:
        attended, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **arguments)
        return attended, None
    more = {name for name, value in arguments.items() if value is not None} - KNOWN_ARGUMENTS
    if attention_mask is not None or more:
        raise NotImplementedError(f"attention with {', '.join(sorted(more)) or 'a mask'}")
    if isinstance(layout, Layout):
        return _variable_length(query, key, value, layout, **arguments), None
    arguments["is_causal"] = True
    places = []
    for block in layout.blocks:
        q, k, v = (packed[0][:, block].transpose(0, 1) for packed in (query, key, value))
        # (n, heads, longest, width) each, to (n, longest, heads, width).
        attended, _ = sdpa_attention_forward(module, q, k, v, None, **arguments)
        places.append(attended.flatten(0, 1))
    return torch.cat(places)[layout.packed][None], None


def _variable_length(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    *,
    scaling: float | None = None,
    **_: Any,
) -> torch.Tensor:
    """Return attention (1, tokens, heads, width) by torch's kernel for it.

    Raises:
        NotImplementedError: this torch has no such kernel, or not with the model's scale.
    """
    attend, known = _varlen_attn()
    # torch 2.10 has `is_causal`, as many key heads as query heads and one scale; later ones have the other three.
    named: dict[str, Any] = {"is_causal": True} if "is_causal" in known else {"window_size": (-1, 0)}
    if "scale" in known:
        named["scale"] = scaling
    elif scaling not in (None, query.shape[-1] ** -0.5):
        raise NotImplementedError(f"attention with a scale of {scaling}")
    # (tokens, heads, width) each.
    query, key, value = (packed[0].transpose(0, 1) for packed in (query, key, value))
    if "enable_gqa" in known:
        named["enable_gqa"] = True
    else:
        key, value = (heads.repeat_interleave(query.shape[1] // key.shape[1], 1) for heads in (key, value))
    offsets, longest = layout.offsets, layout.longest
    attended: torch.Tensor = attend(query, key, value, offsets, offsets, longest, longest, **named)
    return attended[None]


@cache
def _varlen_attn() -> tuple[Callable[..., torch.Tensor], frozenset[str]]:
    """Return torch's attention over packed texts, and the names of its arguments."""
    try:
        from torch.nn.attention import varlen
    except ImportError as error:
        raise NotImplementedError("attention of variable length needs torch 2.10") from error
    attend: Any = varlen.varlen_attn
    return attend, frozenset(inspect.signature(attend).parameters)


def _mask(*arguments: Any, **named: Any) -> torch.Tensor | None:
    """No mask for packed texts, which `_attention` keeps apart."""
    return sdpa_mask(*arguments, **named) if _layout.get() is None else None


for _name in (NAME, PADDED_NAME):
    AttentionInterface.register(_name, _attention)
    AttentionMaskInterface.register(_name, _mask)
