"""Sampled generations through vLLM, which forms batches and remembers prompts by itself."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, GenerationConfig

from euds.errors import InputError, InvalidArgument, reason_of
from euds.measures.device import Precision
from euds.measures.endings import Endings
from euds.measures.generate import Generations
from euds.measures.tokens import load_tokenizer
from euds.measures.warping import Warping

FREE_SHARE = 0.8
"""Of the free memory of a GPU that vLLM takes; the rest is left to the encoder that groups the generations."""


class VllmGenerator:
    """A causal language model that is sampled from by vLLM.

    Args:
        folder: of the model, with safetensors weights and the tokenizer.
        precision: device, the CPU or the first GPU in sight, and dtype.
        warping: how distributions are cut.
        stop_at_newline: end a generation at the first token that holds a line break, as at an end token.
        most_tokens: of a prompt and its generation together, at most the model's context, for which memory is kept;
            None: its whole context.

    Raises:
        InvalidArgument: the device is another GPU than the first.
        InputError: vLLM cannot load the model.
    """

    def __init__(
        self,
        folder: Path,
        precision: Precision,
        warping: Warping,
        *,
        stop_at_newline: bool = False,
        most_tokens: int | None = None,
    ) -> None:
        if precision.torch_device.index:
            raise InvalidArgument(
                f"device: vLLM takes the first GPU in sight, not {precision.device}; set CUDA_VISIBLE_DEVICES and give "
                "each GPU its own --split"
            )
        # In this process: scheduling is the same in every run, and nothing outlives a kill.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        from vllm import LLM

        on_gpu = precision.torch_device.type == "cuda"
        arguments: dict[str, Any] = {"gpu_memory_utilization": _share_of_memory()} if on_gpu else {}
        try:
            self.llm = LLM(
                model=str(folder),
                dtype=precision.dtype,
                seed=0,
                max_model_len=most_tokens,
                load_format="safetensors",
                trust_remote_code=False,
                # Log-probabilities of the whole distribution, before temperature, top-k and top-p.
                logprobs_mode="raw_logprobs",
                # Compiling takes minutes on a CPU, and saves seconds.
                enforce_eager=not on_gpu,
                **arguments,
            )
        except (OSError, RuntimeError, ValueError) as error:
            reason = reason_of(error)
            raise InputError(f"{folder}: vLLM cannot load it: {reason}") from error
        self.warping = warping
        self._endings = Endings(_generation_config(folder), load_tokenizer(folder), stop_at_newline=stop_at_newline)

    def generate(
        self, prompts: Sequence[Sequence[int]], row_ids: Sequence[int], *, n: int, max_new_tokens: int, seed: int
    ) -> Generations:
        """Draw n generations for each prompt; a generation ends at an end token or after max_new_tokens.

        vLLM draws by a generator of each generation, seeded by the seed, the row and the generation, so a draw depends
        on the batch only as far as floating point lets the model's logits depend on it.

        Args:
            prompts: token ids with any BOS token, each at least one.
            row_ids: (len(prompts),) numbers that name the prompts, >= 0.
            n: generations a prompt, >= 1.
            max_new_tokens: most tokens drawn for a generation, >= 1.
            seed: of the draws, an integer of 64 bits.
        """
        from vllm import SamplingParams, TokensPrompt

        warping = self.warping
        settings = [
            SamplingParams(
                n=n,
                max_tokens=max_new_tokens,
                temperature=warping.temperature,
                top_k=warping.top_k,
                top_p=warping.top_p,
                seed=_seed(seed, row_id),
                stop_token_ids=self._endings.ids,
                logprobs=0,
                detokenize=False,
            )
            for row_id in row_ids
        ]
        inputs = [TokensPrompt(prompt_token_ids=list(prompt)) for prompt in prompts]
        made = [sorted(one.outputs, key=_index) for one in self.llm.generate(inputs, settings, use_tqdm=False)]
        sums = np.array([[one.cumulative_logprob for one in row] for row in made], np.float64)
        return Generations(
            [[self._endings.text(one.token_ids) for one in row] for row in made],
            np.array([[len(one.token_ids) for one in row] for row in made], np.int64),
            # The rounding of a float32 log-softmax can put a sure token a hair above 0.
            np.minimum(sums, 0.0),
            np.asarray(np.isfinite(sums).all(-1)),
        )


def _generation_config(folder: Path) -> GenerationConfig:
    """As transformers' own models have it."""
    if (folder / "generation_config.json").exists():
        return GenerationConfig.from_pretrained(folder)
    return GenerationConfig.from_model_config(AutoConfig.from_pretrained(folder, trust_remote_code=False))


def _seed(seed: int, row_id: int) -> int:
    """A seed of a row; vLLM adds the generation's number to it."""
    words = np.random.SeedSequence([seed % (1 << 64), row_id]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(2))


def _index(output: Any) -> int:
    return int(output.index)


def _share_of_memory() -> float:
    free, total = torch.cuda.mem_get_info()
    return FREE_SHARE * free / total
