"""A causal language model that reads prompts once and goes on from what it remembers of them."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import Cache

from euds.errors import InputError
from euds.measures.causal_lm import CausalLM
from euds.measures.device import on_device


class Remembered:
    """What the model has been given so far, left-padded: an attention mask (n, length), and what it keeps of it."""

    def __init__(self, mask: torch.Tensor, cache: Any) -> None:
        self.mask = mask
        self.cache = cache

    def repeat(self, times: int) -> None:
        """Let every row stand `times` times in a row."""
        self.select(torch.arange(len(self.mask), device=self.mask.device).repeat_interleave(times))

    def select(self, rows: torch.Tensor) -> None:
        """Keep the given rows, in that order."""
        # By beam search's way of doing it, the only one that states of convolutions and recurrences know.
        self.cache.reorder_cache(rows)
        self.mask = self.mask[rows]

    def append(self, length: int) -> None:
        """Make room for more tokens."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), length)], 1)


class PromptReader:
    """Gives the logits after prompts, and after what is put behind them.

    Args:
        lm: the model.
    """

    def __init__(self, lm: CausalLM) -> None:
        self.lm = lm
        self.model = lm.model
        self.device = lm.device
        self._takes = inspect.signature(self.model.forward).parameters.keys()

    def read(self, prompts: Sequence[Sequence[int]]) -> tuple[Remembered, torch.Tensor]:
        """Read prompts, each of at least one token, in one pass.

        Returns:
            What the model remembers of them, and the logits of their next tokens, float32 (n, V).

        Raises:
            InputError: the model remembers what it has read in a way of its own, or does not know a token.
        """
        longest = max(map(len, prompts))
        # Padded with a token of its own, so that a prompt can only be spoilt by itself.
        ids = torch.tensor([[prompt[0]] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        self.lm.check_ids(ids)
        ids, mask = on_device(ids, self.device), on_device(mask, self.device)
        given = {"input_ids": ids, "attention_mask": mask, "position_ids": _positions(mask)}
        output = self.model(**self._known({**given, "logits_to_keep": 1}), use_cache=True)
        cache = getattr(output, "past_key_values", None)
        # MiniMax's has states that do not come along when rows are chosen.
        if not isinstance(cache, Cache) or hasattr(cache, "linear_cache"):
            raise InputError(
                f"{self.lm.folder}: {type(self.model).__name__} keeps no cache of keys and values, so no prompt can be "
                "gone on from; choose another LM"
            )
        return Remembered(mask, cache), output.logits[:, -1].float()

    def go_on(self, remembered: Remembered, ids: torch.Tensor) -> torch.Tensor:
        """Read tokens (n, t) behind what is remembered; return the logits after each, float32 (n, t, V)."""
        length = ids.shape[1]
        if length > 1 and any(map(_has_recurrence, remembered.cache.layers)):
            # Some recurrences (Jamba's, Zamba's) begin anew where several tokens follow at once.
            return torch.cat([self.go_on(remembered, one) for one in ids.split(1, 1)], 1)
        remembered.append(length)
        positions = _positions(remembered.mask)[:, -length:]
        given = {"input_ids": ids, "attention_mask": remembered.mask, "position_ids": positions}
        output = self.model(**self._known(given), past_key_values=remembered.cache, use_cache=True)
        logits: torch.Tensor = output.logits
        return logits.float()

    def _known(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Leave out what this model's forward does not take."""
        return {name: value for name, value in given.items() if name in self._takes}


def _has_recurrence(layer: Any) -> bool:
    """Whether a layer of a cache keeps a recurrent state, not only what a convolution saw last."""
    # Newer transformers keep one for each of a layer's states.
    initialized = getattr(layer, "is_recurrent_states_initialized", False)
    return any(initialized.values()) if isinstance(initialized, dict) else bool(initialized)


def _positions(mask: torch.Tensor) -> torch.Tensor:
    return (mask.cumsum(1) - 1).clamp_min(0)
