"""Generative entropy: how uncertain a causal language model is while it reads a text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from euds.errors import InputError
from euds.measures.causal_lm import CausalLM
from euds.measures.device import on_device
from euds.measures.packing import backbone, packed_hidden_states
from euds.ops.sample_stats import begin_sample_mean_max
from euds.ops.token_stats import linear_token_stats
from euds.types import Float32Array, Int64Array

PROBE_LENGTH = 8
"""Tokens of the check that hidden states times output projection really are the model's logits."""

LARGEST_ERROR = {4: 1e-4, 2: 1e-2}
"""By bytes of a number, of the norm of the difference over that of the logits; the products are the same."""

SOFT_CAPS = ("final_logit_softcapping", "logits_soft_cap")
"""What families call the soft cap of their logits: Gemma, RecurrentGemma."""


@dataclass(frozen=True, eq=False)
class GenerativeScores:
    """Per-sample means over the scored positions, float32 (n,), NaN where the logits were not finite.

    Attributes:
        entropy: mean entropy of the next-token distribution, nats.
        entropy_max: largest of those entropies, nats.
        nll: mean surprisal of the text's own tokens, nats.
        varentropy: mean variance of the surprisal under the model, nats^2.
        n_positions: scored positions, int64 (n,).
    """

    entropy: Float32Array
    entropy_max: Float32Array
    nll: Float32Array
    varentropy: Float32Array
    n_positions: Int64Array


class GenerativeScorer:
    """A causal language model that is run without its output projection; the logits of a batch never exist.

    Args:
        lm: the model.
        bos_id: token to put before every text, or None; without it the first token of a text is not scored.

    Raises:
        InputError: the model's logits are no projection of the hidden states, soft-capped or divided by a constant at
            most, or it is not causal.
    """

    def __init__(self, lm: CausalLM, bos_id: int | None) -> None:
        self.lm = lm
        self.bos_id = bos_id
        self.device = lm.device
        self.model = lm.model
        self.packs = lm.packs
        self.softcap = _softcap(self.model.config.get_text_config())
        self.temperature = _temperature(self, lm)

    def hidden_states(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return the last hidden states (n, length, H) of right-padded ids; causality keeps padding out of them."""
        output = backbone(self.model)(input_ids=input_ids, use_cache=False)
        hidden: torch.Tensor = output.last_hidden_state
        return hidden

    @property
    def n_context(self) -> int:
        """Tokens that a text may add to what is conditioned on: 1 if a BOS token is put before it."""
        return 0 if self.bos_id is None else 1

    def score(self, samples: Sequence[npt.ArrayLike]) -> GenerativeScores:
        """Score token sequences in one forward pass.

        Args:
            samples: token ids without special tokens, each with at least one position to score: two ids without a BOS
                token, one with it.

        Returns:
            Scores in the order of `samples`.
        """
        return self.begin(samples)()

    @torch.inference_mode()
    def begin(self, samples: Sequence[npt.ArrayLike]) -> Callable[[], GenerativeScores]:
        """Give `score` to the device, and return what waits for it: until then the device may be given more."""
        prefix = np.array([] if self.bos_id is None else [self.bos_id], np.int64)
        rows = [torch.from_numpy(np.concatenate((prefix, np.asarray(ids, np.int64)))) for ids in samples]
        self.lm.check_ids(torch.cat(rows))
        lengths = torch.tensor([len(row) for row in rows])
        hidden = self._predicting(rows, lengths)
        # On the CPU, where their range is checked without waiting for the device.
        targets = torch.cat([row[1:] for row in rows])
        projection = self.model.get_output_embeddings()
        stats = linear_token_stats(
            hidden,
            projection.weight,
            targets,
            bias=getattr(projection, "bias", None),
            softcap=self.softcap,
            temperature=self.temperature,
        )
        assert stats.target_logprob is not None
        assert stats.varentropy is not None
        n_positions = (lengths - 1).numpy()
        offsets = np.concatenate(([0], np.cumsum(n_positions)))
        tokens = torch.stack([stats.entropy, stats.target_logprob, stats.varentropy])
        wait = begin_sample_mean_max(tokens, offsets)

        def finish() -> GenerativeScores:
            (entropy, logprob, varentropy), (entropy_max, *_) = wait()
            return GenerativeScores(entropy, entropy_max, -logprob, varentropy, n_positions)

        return finish

    def _predicting(self, rows: Sequence[torch.Tensor], lengths: torch.Tensor) -> torch.Tensor:
        """Return the hidden states of all positions that predict a token, row by row, (positions, H)."""
        # Position t predicts token t + 1, so the last position of a row and its padding predict nothing. Places are
        # counted on the CPU: a mask on the device would make the device wait.
        if self.packs:
            packed = packed_hidden_states(self.model, on_device(torch.cat(list(rows)), self.device), lengths.tolist())
            predicts = torch.ones(len(packed), dtype=torch.bool)
            predicts[lengths.cumsum(0) - 1] = False
            return packed[on_device(predicts.nonzero()[:, 0], self.device)]
        block = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
        inside = torch.arange(block.shape[1])[None, :] < (lengths - 1)[:, None]
        hidden = self.hidden_states(on_device(block, self.device)).flatten(0, 1)
        return hidden[on_device(inside.flatten().nonzero()[:, 0], self.device)]


def _softcap(config: Any) -> float | None:
    """Return the soft cap of a model's logits, by its configuration."""
    return next((getattr(config, name) for name in SOFT_CAPS if getattr(config, name, None) is not None), None)


@torch.inference_mode()
def _temperature(scorer: GenerativeScorer, lm: CausalLM) -> float:
    """Return the constant that a model divides its logits by, 1 for most.

    Raises:
        InputError: its logits are anything but softcap(hidden @ weight.T + bias) or a multiple of the projection, or
            look at tokens behind them.
    """
    model = lm.model
    projection = model.get_output_embeddings()
    if projection is None or backbone(model) is model:
        raise InputError(f"{lm.folder}: {type(model).__name__} has no output projection apart from its backbone")
    ids = torch.arange(1, PROBE_LENGTH + 1, device=scorer.device)[None, :] % projection.weight.shape[0]
    expected = model(input_ids=ids, use_cache=False).logits.float()
    hidden = scorer.hidden_states(ids)
    # Two runs of the backbone over other tokens, where rounding adds up.
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.1
    other_end = scorer.hidden_states(torch.cat([ids[:, :-1], ids[:, :1]], 1))
    if not torch.allclose(other_end[:, :-1], hidden[:, :-1], rtol=tolerance, atol=tolerance, equal_nan=True):
        raise InputError(f"{lm.folder}: {type(model).__name__} sees the tokens that it predicts; choose a causal LM")
    if not expected.isfinite().all():
        # A model whose weights give NaN is caught row by row, where the reason can be told.
        return 1.0
    found = torch.nn.functional.linear(hidden, projection.weight, getattr(projection, "bias", None)).float()
    if scorer.softcap is not None:
        found = scorer.softcap * torch.tanh(found / scorer.softcap)
    largest = LARGEST_ERROR[model.dtype.itemsize]
    if expected.shape == found.shape:
        if _error(found, expected) <= largest:
            return 1.0
        scale = float((found * expected).sum() / found.square().sum())
        if scorer.softcap is None and scale > 0 and _error(scale * found, expected) <= largest:
            return 1 / scale
    raise InputError(
        f"{lm.folder}: {type(model).__name__} does more to its logits than project them and soft-cap or divide them"
    )


def _error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the norm of the difference over that of what is expected; 0 where both are 0."""
    return float((found - expected).norm() / expected.norm().clamp_min(torch.finfo(torch.float32).tiny))
