"""Sampled generations of a causal language model: each prompt is read once, each draw depends on its place alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from euds.measures.causal_lm import CausalLM
from euds.measures.endings import Endings
from euds.measures.prompted import PromptReader
from euds.measures.tokens import load_tokenizer
from euds.measures.warping import Warping
from euds.ops.draws import uniform_draws
from euds.types import BoolArray, Float64Array, Int64Array


@dataclass(frozen=True, eq=False)
class Generations:
    """N generations a prompt.

    Attributes:
        texts: the N texts of every prompt, without the token that ended them.
        n_tokens: tokens drawn, the ending one included, int64 (n, N), >= 1.
        sum_logprob: sum of the drawn tokens' log-probabilities under the model's whole distribution, before warping and
            at temperature 1; nats, float64 (n, N), <= 0.
        finite: whether all logits looked at were numbers, (n,); where not, the row's other values mean nothing.
    """

    texts: list[list[str]]
    n_tokens: Int64Array
    sum_logprob: Float64Array
    finite: BoolArray


@dataclass(frozen=True, eq=False)
class Candidates:
    """The tokens that warping has left at a position, most probable first.

    Attributes:
        ids: int64 (n, K).
        upto: sums of their renormalised probabilities, float64 (n, K), rising to 1.
        logprobs: under the whole distribution, float32 (n, K).
        finite: whether the logits were numbers, (n,).
    """

    ids: torch.Tensor
    upto: torch.Tensor
    logprobs: torch.Tensor
    finite: torch.Tensor

    def repeat(self, times: int) -> "Candidates":
        """Return every position `times` times in a row."""
        parts = (self.ids, self.upto, self.logprobs, self.finite)
        return Candidates(*(part.repeat_interleave(times, 0) for part in parts))


class Sampler(Protocol):
    """What draws generations: `Generator`, or `euds.measures.generate_vllm.VllmGenerator`."""

    def generate(
        self, prompts: Sequence[Sequence[int]], row_ids: Sequence[int], *, n: int, max_new_tokens: int, seed: int
    ) -> Generations:
        """Draw n generations for each prompt, which row_ids name."""


class Generator:
    """A causal language model that is sampled from.

    Args:
        lm: the model.
        warping: how distributions are cut.
        stop_at_newline: end a generation at the first token that holds a line break, as at an end token.

    Raises:
        InputError: the model's folder holds no tokenizer.
    """

    def __init__(self, lm: CausalLM, warping: Warping, *, stop_at_newline: bool = False) -> None:
        self.device = lm.device
        self.model = lm.model
        self.reader = PromptReader(lm)
        self.warping = warping
        tokenizer = load_tokenizer(lm.folder)
        self._endings = Endings(self.model.generation_config, tokenizer, stop_at_newline=stop_at_newline)
        self._ends = torch.tensor(self._endings.ids, dtype=torch.int64).to(self.device)

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[Sequence[int]], row_ids: Sequence[int], *, n: int, max_new_tokens: int, seed: int
    ) -> Generations:
        """Draw n generations for each prompt; a generation ends at an end token or after max_new_tokens.

        The prompts are read in one pass, and what the model remembers of them is copied n times. A draw is the inverse
        of the cumulated probabilities at `uniform_draws(seed, row id, generation, step)`, so it depends on the batch
        only as far as floating point lets the model's logits depend on it.

        Args:
            prompts: token ids with any BOS token, each at least one.
            row_ids: (len(prompts),) numbers that name the prompts, >= 0.
            n: generations a prompt, >= 1.
            max_new_tokens: most tokens drawn for a generation, >= 1.
            seed: of the draws.
        """
        places = np.repeat(np.asarray(row_ids), n), np.tile(np.arange(n), len(prompts))
        draws = uniform_draws(seed, places[0], places[1], np.arange(max_new_tokens)[:, None])
        uniform = torch.from_numpy(draws).to(self.device)
        tokens = torch.full((len(prompts) * n, max_new_tokens), -1, dtype=torch.int64, device=self.device)
        logprobs = torch.zeros((len(prompts) * n, max_new_tokens), dtype=torch.float32, device=self.device)
        finite = torch.ones(len(prompts) * n, dtype=torch.bool, device=self.device)
        remembered, logits = self.reader.read(prompts)
        candidates = warp(logits, self.warping).repeat(n)
        del logits
        remembered.repeat(n)
        going = torch.arange(len(prompts) * n, device=self.device)
        for step in range(max_new_tokens):
            drawn = (candidates.upto <= uniform[step, going, None]).sum(1, keepdim=True)
            ids = candidates.ids.gather(1, drawn)
            tokens[going, step] = ids[:, 0]
            logprobs[going, step] = candidates.logprobs.gather(1, drawn)[:, 0]
            finite[going] &= candidates.finite
            on = (~torch.isin(ids[:, 0], self._ends) & candidates.finite).nonzero()[:, 0]
            if step + 1 == max_new_tokens or len(on) == 0:
                break
            if len(on) < len(going):
                remembered.select(on)
                going, ids = going[on], ids[on]
            candidates = warp(self.reader.go_on(remembered, ids)[:, -1], self.warping)
        shape = (len(prompts), n, max_new_tokens)
        return self._result(tokens.view(shape), logprobs.view(shape), finite.view(shape[:2]))

    def _result(self, tokens: torch.Tensor, logprobs: torch.Tensor, finite: torch.Tensor) -> Generations:
        ids = tokens.cpu().numpy()
        texts = [[self._endings.text(token for token in one if token >= 0) for one in row] for row in ids.tolist()]
        sums: Float64Array = logprobs.double().sum(-1).cpu().numpy()
        # The rounding of a float32 log-softmax can put a sure token a hair above 0.
        return Generations(texts, (ids >= 0).sum(-1), np.minimum(sums, 0.0), finite.all(-1).cpu().numpy())


def warp(logits: torch.Tensor, warping: Warping) -> Candidates:
    """Cut next-token distributions, float32 logits (n, V), to what may be drawn; a -inf logit is never drawn."""
    total = logits.logsumexp(-1, keepdim=True)
    k = min(warping.top_k or logits.shape[-1], logits.shape[-1])
    top, ids = logits.topk(k)
    shares = torch.softmax(top.double() / warping.temperature, -1)
    before = shares.cumsum(-1) - shares
    # The most probable token always stays, as nothing is before it.
    shares = shares.where(before < warping.top_p, 0.0)
    upto = shares.cumsum(-1)
    return Candidates(ids, upto / upto[:, -1:], top - total, total[:, 0].isfinite())
