"""Who scores texts on a GPU: the engine, the backbone alone, plain loops, lm-evaluation-harness."""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from euds.corpus import read_scores
from euds.engine.score import score
from euds.engine.worker import LM_BUDGET
from euds.measures.batches import plan_batches
from euds.measures.causal_lm import CausalLM
from euds.measures.device import on_device, precision
from euds.measures.packing import packed_hidden_states

REFERENCE = "full logits, log-softmax"
BACKBONE, PRODUCT = "backbone alone, no scores", "backbone and product, no scores"
SINGLE, HARNESS = "one text at a time", "lm-evaluation-harness"
SINGLE_ROWS, HARNESS_ROWS = 200, 1000
HARNESS_BATCH = 64
PRODUCT_ROWS = 8192
"""Products of so many hidden states are held at once."""
SHARD_ROWS = 8192
"""What the engine takes by itself on a GPU for a corpus of this size."""
SMALL_SHARD_ROWS = 1024
SMALL = ", shards of 1,024 rows"
"""As on a CPU: between shards a GPU waits."""
OF_EVERY_SHAPE = (*(name + size for name in (BACKBONE, PRODUCT, "euds") for size in ("", SMALL)), REFERENCE)
"""Who reads with the large model, too."""
MAX_TOKENS = 1024
TOLERANCE_NATS = 0.1
"""bfloat16 logits of a batch against the engine's float32 accumulators; 24 texts on a CPU differed by 0.008."""
LEAST_CORRELATION = 0.9
"""Of a contender's entropies with those of full logits, over texts whose standard deviation is 0.07 nats."""


@dataclass(frozen=True)
class Outcome:
    """What a contender did: seconds, tokens that it read, and mean entropies of the first rows if it has them."""

    seconds: float
    tokens: int
    entropies: np.ndarray | None = None


class Contenders:
    """All contenders over one model and corpus; all but the engine read batches that are formed as the engine's are.

    Args:
        model_folder: of a causal LM whose tokens are the words w0, w1, ...
        corpus: JSONL of texts of such words.
        folder: for the runs of the engine.
    """

    def __init__(self, model_folder: Path, corpus: Path, folder: Path) -> None:
        self._model_folder, self._corpus, self._folder = model_folder, corpus, folder
        self._texts = [json.loads(line)["text"] for line in corpus.read_text().splitlines()]
        self._samples = [[int(word[1:]) for word in text.split()] for text in self._texts]
        self._lengths = [len(ids) for ids in self._samples]
        self._lm = CausalLM.load(model_folder, precision("cuda", "bfloat16"))
        self._device = self._lm.device
        model: Any = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.bfloat16)
        self._model = model.to(self._device).eval()

    def calls(self) -> dict[str, Callable[[], Outcome]]:
        """Return the contenders by name."""
        return {
            BACKBONE: lambda: self.packed_backbone(SHARD_ROWS),
            PRODUCT: lambda: self.packed_product(SHARD_ROWS),
            BACKBONE + SMALL: lambda: self.packed_backbone(SMALL_SHARD_ROWS),
            PRODUCT + SMALL: lambda: self.packed_product(SMALL_SHARD_ROWS),
            "backbone, padded": self.padded_backbone,
            REFERENCE: self.full_logits,
            SINGLE: self.one_text_at_a_time,
            HARNESS: self.harness,
            "euds": lambda: self.engine(None),
            "euds" + SMALL: lambda: self.engine(SMALL_SHARD_ROWS),
        }

    def engine(self, shard_rows: int | None) -> Outcome:
        """Score the corpus as a user does; the seconds are those of the model's stage, without loading."""
        out = Path(tempfile.mkdtemp(dir=self._folder))
        settings: dict[str, Any] = {"measures": ["generative"], "lm": self._model_folder, "device": "cuda"}
        result = score(self._corpus, out=out, max_tokens=MAX_TOKENS, shard_rows=shard_rows, **settings)
        entropies: np.ndarray = read_scores(out).column("generative_entropy_nats").to_numpy()
        return Outcome(result.seconds["generative"], sum(self._lengths), entropies)

    def packed_product(self, shard_rows: int) -> Outcome:
        """Run the backbone likewise, and multiply its hidden states by the output projection, into one place."""
        weight = self._model.get_output_embeddings().weight
        place = torch.empty(PRODUCT_ROWS, len(weight), dtype=weight.dtype, device=self._device)

        def multiply(hidden: torch.Tensor) -> None:
            for part in hidden.reshape(-1, weight.shape[1]).split(PRODUCT_ROWS):
                torch.mm(part, weight.T, out=place[: len(part)])

        return self.packed_backbone(shard_rows, multiply)

    @torch.inference_mode()
    def packed_backbone(self, shard_rows: int, then: Callable[[torch.Tensor], None] | None = None) -> Outcome:
        """Run the backbone over texts laid end to end, in the batches that the engine forms of such shards."""
        if not self._lm.packs:
            raise RuntimeError("the model does not read packed texts")
        batches = self._batches(shard_rows, padded=False)
        start = time.perf_counter()
        for batch in batches:
            ids = torch.cat([torch.tensor(self._samples[row]) for row in batch])
            ids = on_device(ids, self._device)
            hidden = packed_hidden_states(self._lm.model, ids, [self._lengths[row] for row in batch])
            if then is not None:
                then(hidden)
        torch.cuda.synchronize()
        return Outcome(time.perf_counter() - start, sum(self._lengths))

    @torch.inference_mode()
    def padded_backbone(self) -> Outcome:
        """Run the backbone over padded batches."""
        batches = self._batches(SHARD_ROWS, padded=True)
        start = time.perf_counter()
        for batch in batches:
            self._model.base_model(input_ids=self._padded_ids(batch), use_cache=False)
        torch.cuda.synchronize()
        return Outcome(time.perf_counter() - start, sum(self._lengths))

    @torch.inference_mode()
    def full_logits(self) -> Outcome:
        """Take entropies from all logits of padded batches."""
        entropies = np.empty(len(self._samples), np.float32)
        order: list[int] = []
        means: list[torch.Tensor] = []
        batches = self._batches(SHARD_ROWS, padded=True)
        start = time.perf_counter()
        # Logits of a whole batch would not fit: the loop takes rows as they fit into 8 GiB of float32.
        for batch in batches:
            step = max(1, (1 << 31) // (self._model.config.vocab_size * self._lengths[batch[0]]))
            for at in range(0, len(batch), step):
                part = batch[at : at + step]
                ids = self._padded_ids(part)
                n_scored = on_device(torch.tensor([self._lengths[row] - 1 for row in part]), self._device)
                entropy = entropies_of(self._model(input_ids=ids, use_cache=False).logits)
                inside = torch.arange(ids.shape[1], device=self._device) < n_scored[:, None]
                means.append((entropy * inside).sum(1) / n_scored)
                order += part
        # The one copy waits for everything.
        entropies[order] = torch.cat(means).cpu().numpy()
        return Outcome(time.perf_counter() - start, sum(self._lengths), entropies)

    @torch.inference_mode()
    def one_text_at_a_time(self) -> Outcome:
        """Take entropies from the logits of the first texts, one after another."""
        entropies = np.empty(SINGLE_ROWS, np.float32)
        start = time.perf_counter()
        for row in range(SINGLE_ROWS):
            ids = torch.tensor([self._samples[row]], device=self._device)
            entropies[row] = entropies_of(self._model(input_ids=ids, use_cache=False).logits[0, :-1]).mean().item()
        return Outcome(time.perf_counter() - start, sum(self._lengths[:SINGLE_ROWS]), entropies)

    def harness(self) -> Outcome:
        """Take log-likelihoods of the first texts from lm-evaluation-harness; it raises where that is not installed.

        What it takes to tokenise is left out, as it is of the engine's seconds.
        """
        from lm_eval.api.instance import Instance

        texts = self._texts[:HARNESS_ROWS]
        requests = [Instance("loglikelihood_rolling", {}, (text,), at) for at, text in enumerate(texts)]
        start = time.perf_counter()
        found = self._harness.loglikelihood_rolling(requests, disable_tqdm=True)
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        for text in texts:
            self._harness.tok_encode(text)
        seconds -= time.perf_counter() - start
        self._check_harness(found)
        return Outcome(seconds, sum(self._lengths[:HARNESS_ROWS]))

    @cached_property
    def _harness(self) -> Any:
        from lm_eval.models.huggingface import HFLM

        return HFLM(
            pretrained=str(self._model_folder),
            device=str(self._device),
            dtype=torch.bfloat16,
            batch_size=HARNESS_BATCH,
            max_length=MAX_TOKENS,
        )

    @torch.inference_mode()
    def _check_harness(self, found: Sequence[float]) -> None:
        """Raise where log-likelihoods are not those of full logits, with the token that the harness puts in front."""
        whole = [row for row in range(SINGLE_ROWS) if self._lengths[row] < MAX_TOKENS]
        for row in whole[:8]:
            ids = torch.tensor([[self._harness.prefix_token_id, *self._samples[row]]], device=self._device)
            logp = torch.log_softmax(self._model(input_ids=ids, use_cache=False).logits[0, :-1].float(), -1)
            mean = logp.gather(1, ids[0, 1:, None]).mean().item()
            error = abs(found[row] / self._lengths[row] - mean)
            if not error <= TOLERANCE_NATS:
                raise RuntimeError(f"it is off by {error:.2g} nats a token")

    def _batches(self, shard_rows: int, *, padded: bool) -> list[list[int]]:
        """Return the rows of every batch, formed shard by shard."""
        rows, budget = range(len(self._samples)), LM_BUDGET["cuda"]
        shards = [list(rows[start : start + shard_rows]) for start in range(0, len(rows), shard_rows)]
        return [batch for shard in shards for batch in plan_batches(self._lengths, shard, budget, padded=padded)]

    def _padded_ids(self, batch: Sequence[int]) -> torch.Tensor:
        """Return the token ids of a batch, padded on the right, on the device."""
        rows = [torch.tensor(self._samples[row]) for row in batch]
        return on_device(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), self._device)


def entropies_of(logits: torch.Tensor) -> torch.Tensor:
    """Return the entropy of each distribution, nats, by a log-softmax of all logits."""
    logp = torch.log_softmax(logits.float(), -1)
    return -(logp.exp() * logp).sum(-1)
