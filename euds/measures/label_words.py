"""How probable each label word is after a prompt: exactly, without sampling."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from euds.measures.causal_lm import CausalLM
from euds.measures.prompted import PromptReader
from euds.ops.token_stats import token_entropy
from euds.types import Float32Array


@dataclass(frozen=True, eq=False)
class LabelWordScores:
    """The label words after each prompt; NaN where the model's logits were not finite.

    Attributes:
        logprobs: ln p(word | prompt), summed over the word's tokens, nats, float32 (n, C), <= 0.
        entropy: of the C words, their probabilities renormalised to 1; nats, float32 (n,), in 0..ln C.
    """

    logprobs: Float32Array
    entropy: Float32Array


class LabelWordScorer:
    """A causal language model that chooses among words.

    Args:
        lm: the model.
        words: tokens of each word as it follows a prompt; two words or more, each of one token or more.

    Raises:
        InputError: the model does not know a token of them.
    """

    def __init__(self, lm: CausalLM, words: Sequence[Sequence[int]]) -> None:
        self.reader = PromptReader(lm)
        lm.check_ids(torch.tensor([token for word in words for token in word]))
        self._firsts = torch.tensor([word[0] for word in words], device=lm.device)
        longer = [at for at, word in enumerate(words) if len(word) > 1]
        self._longer = torch.tensor(longer, dtype=torch.int64, device=lm.device)
        self._longest = max(map(len, words))
        # Padded with a token of its own, so that a word can only be spoilt by itself.
        rests = [[*words[at]] + [words[at][0]] * (self._longest - len(words[at])) for at in longer]
        self._rests = torch.tensor(rests, dtype=torch.int64, device=lm.device)
        places = torch.arange(1, self._longest, device=lm.device)
        self._inside = places < torch.tensor([len(words[at]) for at in longer], device=lm.device)[:, None]
        self.n_read = sum(len(word) - 1 for word in words)
        """Tokens read of the words behind each prompt: the last of a word is predicted, but never read."""

    def n_remembered(self, length: int) -> int:
        """Return the tokens that the model remembers at the end of a prompt of that length, over all words."""
        return max(1, len(self._longer)) * (length + self._longest - 1)

    @torch.inference_mode()
    def score(self, prompts: Sequence[Sequence[int]]) -> LabelWordScores:
        """Score the words after each prompt; the prompts are read in one pass, words of several tokens in a second.

        Args:
            prompts: token ids with any BOS token, each at least one.
        """
        remembered, logits = self.reader.read(prompts)
        logprobs = _logprobs(logits, self._firsts.expand(len(prompts), -1))
        if len(self._longer):
            remembered.repeat(len(self._longer))
            rests = self._rests.repeat(len(prompts), 1)
            # Right padding is read behind a word, so it cannot change the word.
            more = self.reader.go_on(remembered, rests[:, :-1])
            found = _logprobs(more, rests[:, 1:, None])[..., 0].view(len(prompts), *self._inside.shape)
            logprobs[:, self._longer] += found.where(self._inside, 0.0).sum(-1)
        entropy = token_entropy(logprobs)
        return LabelWordScores(logprobs.cpu().numpy(), entropy.cpu().numpy())


def _logprobs(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of targets (..., C) in logits (..., V); NaN where a logit is NaN or infinite, -inf excepted."""
    total = logits.logsumexp(-1, keepdim=True)
    return (logits.gather(-1, targets) - total).where(total.isfinite(), torch.nan)
