"""Packed attention: torch's variable-length kernel under either of its signatures, and models that ask for more."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from euds.measures import packing

LENGTHS = (5, 1, 9)
HEADS, KEY_HEADS, WIDTH = 4, 2, 8
OFFSETS = torch.tensor([0, 5, 6, 15], dtype=torch.int32)


def causal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None) -> torch.Tensor:
    """Attention of each text by itself; (tokens, heads, width) each."""
    found = []
    for q, k, v in zip(query.split(LENGTHS), key.split(LENGTHS), value.split(LENGTHS), strict=True):
        q, k, v = q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)
        attended = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
        found.append(attended.transpose(0, 1))
    return torch.cat(found)


def first_signature(
    query: Any, key: Any, value: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int, is_causal: bool = False
) -> torch.Tensor:
    """As in torch 2.10: as many key heads as query heads, and no scale."""
    assert is_causal
    assert query.shape == key.shape == value.shape
    assert cu_seq_q is cu_seq_k
    assert max_q == max_k == max(LENGTHS)
    return causal(query, key, value, WIDTH**-0.5)


def later_signature(
    query: Any,
    key: Any,
    value: Any,
    cu_seq_q: Any,
    cu_seq_k: Any,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> torch.Tensor:
    """As in torch 2.13."""
    assert window_size == (-1, 0)
    assert enable_gqa
    assert cu_seq_q.tolist() == OFFSETS.tolist()
    return causal(query, key, value, scale)


@pytest.fixture(params=[first_signature, later_signature])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., torch.Tensor]]:
    varlen = pytest.importorskip("torch.nn.attention.varlen")
    monkeypatch.setattr(varlen, "varlen_attn", request.param)
    packing._varlen_attn.cache_clear()
    yield request.param
    packing._varlen_attn.cache_clear()


def heads() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(1, n, sum(LENGTHS), WIDTH, generator=generator) for n in (HEADS, KEY_HEADS, KEY_HEADS))


def attend(layout: packing.Layout | packing.PaddedLayout, **arguments: Any) -> torch.Tensor:
    module: Any = nn.Module()
    module.num_key_value_groups = HEADS // KEY_HEADS
    mask = arguments.pop("attention_mask", None)
    query, key, value = heads()
    with packing._laid_out(layout):
        return packing._attention(module, query, key, value, mask, **arguments)[0]


def test_both_forms_and_signatures_agree(kernel: Callable[..., torch.Tensor]) -> None:
    layout = packing.Layout.of(LENGTHS, torch.device("cpu"))
    assert torch.equal(layout.offsets, OFFSETS)
    assert layout.offsets.dtype == torch.int32
    padded = packing.PaddedLayout.of(LENGTHS, torch.device("cpu"))
    query, key, value = (packed[0].transpose(0, 1) for packed in heads())
    expected = causal(query, key, value, WIDTH**-0.5)[None]
    arguments: dict[str, Any] = {
        "scaling": WIDTH**-0.5,
        "dropout": 0.0,
        "sliding_window": None,
        "position_ids": torch.zeros(1),
    }
    for form in (layout, padded):
        torch.testing.assert_close(attend(form, **arguments), expected)
        torch.testing.assert_close(attend(form), expected)
    if kernel is first_signature:
        with pytest.raises(NotImplementedError):
            attend(layout, scaling=0.1)
    else:
        torch.testing.assert_close(attend(layout, scaling=0.1), attend(padded, scaling=0.1))


@pytest.mark.parametrize(
    "asked",
    [{"softcap": 30.0}, {"sliding_window": 4}, {"s_aux": torch.zeros(HEADS)}, {"attention_mask": torch.ones(1)}],
)
@pytest.mark.parametrize("form", [packing.Layout, packing.PaddedLayout])
def test_what_a_model_asks_beyond_causal_attention_is_refused(form: Any, asked: dict[str, Any]) -> None:
    with pytest.raises(NotImplementedError, match="attention with"):
        attend(form.of(LENGTHS, torch.device("cpu")), **asked)
