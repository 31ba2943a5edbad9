"""End-to-end generative scoring on a GPU: the engine against the bare backbone and against full logits.

The models have the shapes of SmolLM2 and random weights, the texts are drawn from a seeded Zipf vocabulary with
realistic lengths: throughput depends on neither. The limit is the backbone alone, which computes no score, on the
batches that the engine forms and packs; beside it, the backbone followed by the bare product with the output
projection, without which there is no entropy. The plain contenders read batches that are formed alike but padded. The
loop over single texts and lm-evaluation-harness, where it is installed, read the first texts of the small model only.

    python benchmarks/bench_scoring_gpu.py        # writes benchmarks/results/scoring-cuda_GPU.json and the README table
"""

import json
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from environment import environment, results_path
from scoring_gpu_contenders import (
    HARNESS,
    HARNESS_ROWS,
    LEAST_CORRELATION,
    MAX_TOKENS,
    OF_EVERY_SHAPE,
    REFERENCE,
    SINGLE,
    SINGLE_ROWS,
    TOLERANCE_NATS,
    Contenders,
    Outcome,
)
from table import write_tables

from euds.files import atomic_path

VOCABULARY = 49152


@dataclass(frozen=True)
class Shape:
    """Size of a Llama, and how many texts it reads."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    rows: int


SHAPES = {
    "SmolLM2-135M": Shape(576, 1536, 30, 9, 3, 6000),
    "SmolLM2-1.7B": Shape(2048, 8192, 24, 32, 32, 1500),
}
MEDIAN_TOKENS = 160
ROUNDS = 2
NOT_INSTALLED = ModuleNotFoundError.__name__
"""How the reason begins where a peer is left out because it is not there, which is no failure."""


def main() -> None:
    """Time the contenders in turn, check that they agree, and write the rows after each round."""
    if not torch.cuda.is_available():
        print("no GPU here: nothing to measure")
        return
    facts = {
        **environment(("euds", "torch", "transformers", "triton", "lm-eval")),
        "model": "shapes of SmolLM2, random, bfloat16",
    }
    path = results_path("scoring", "cuda")
    rows: list[dict[str, Any]] = []
    # Whatever ends the run, the file tells what it has not come to.
    left_out = dict.fromkeys(SHAPES, "no time was left")
    try:
        for model, shape in SHAPES.items():
            earlier, without = rows, dict[str, str]()
            for found in time_model(model, shape, without):
                rows = earlier + found
                left_out.pop(model, None)
                left_out |= {f"{model}, {contender}": reason for contender, reason in without.items()}
                with atomic_path(path) as partial:
                    content = {"environment": facts, "rows": rows, "left_out": left_out}
                    partial.write_text(json.dumps(content, indent=2) + "\n")
    finally:
        write_tables()
    failed = {contender: reason for contender, reason in left_out.items() if not reason.startswith(NOT_INSTALLED)}
    if failed:
        raise SystemExit(f"left out: {failed}")
    print(f"wrote {path}")


def time_model(model: str, shape: Shape, left_out: dict[str, str]) -> Iterator[list[dict[str, Any]]]:
    """Run the contenders of a shape in turn and give their rows after each round; add those that are left out."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder / "lm", shape)
        corpus = make_corpus(folder / "corpus.jsonl", shape.rows)
        contenders = Contenders(folder / "lm", corpus, folder).calls()
        if shape is not SHAPES["SmolLM2-135M"]:
            contenders = {contender: contenders[contender] for contender in OF_EVERY_SHAPE}
        outcomes: dict[str, list[Outcome]] = {contender: [] for contender in contenders}
        for round_ in range(ROUNDS + 1):
            run_round(contenders, outcomes, left_out)
            if round_ == 0:
                # It has compiled and warmed up.
                for found in outcomes.values():
                    found.clear()
            else:
                yield summarise(model, shape.rows, outcomes, left_out)


def run_round(
    contenders: Mapping[str, Callable[[], Outcome]], outcomes: dict[str, list[Outcome]], left_out: dict[str, str]
) -> None:
    """Run every contender that has not failed yet once; add its outcome, or the reason why it is left out."""
    for contender, run in contenders.items():
        if contender in left_out:
            continue
        try:
            outcome = run()
        except Exception as error:
            left_out[contender] = f"{type(error).__name__}: {error}"
            print(f"left out {contender}: {left_out[contender]}", file=sys.stderr)
        else:
            print(f"{contender}: {outcome.seconds:.2f} s", file=sys.stderr)
            outcomes[contender].append(outcome)
        torch.cuda.empty_cache()


def make_model(folder: Path, shape: Shape) -> None:
    """A Llama of a shape with random weights, and a tokenizer of one token a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({f"w{at}": at for at in range(VOCABULARY)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="w0", eos_token="w0").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        initializer_range=0.04,
    )
    with torch.device("cuda"):
        model: Any = LlamaForCausalLM(config)
    # Otherwise every distribution is nearly flat, and all texts have the same entropy: no check could tell them apart.
    model.model.norm.weight.data.fill_(144 / math.sqrt(shape.hidden))
    model.to(torch.bfloat16).save_pretrained(folder)


def make_corpus(path: Path, n_rows: int) -> Path:
    """Write texts of log-normal length whose words follow Zipf's law."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(MEDIAN_TOKENS), 0.8, n_rows), 2, MAX_TOKENS).astype(int)
    weights = 1 / np.arange(1, VOCABULARY + 1)
    words = rng.choice(VOCABULARY, size=int(lengths.sum()), p=weights / weights.sum())
    parts = np.split(words, np.cumsum(lengths)[:-1])
    path.write_text("".join(json.dumps({"text": " ".join(f"w{word}" for word in part)}) + "\n" for part in parts))
    return path


def summarise(
    model: str, n_rows: int, outcomes: Mapping[str, Sequence[Outcome]], left_out: dict[str, str]
) -> list[dict[str, Any]]:
    """Return the rows of the contenders that agree with full logits, or compute no entropies.

    What disagrees, or cannot be compared, is added to those left out: nothing is timed that is not right.
    """
    reference = next((outcome.entropies for outcome in outcomes[REFERENCE]), None)
    rows: list[dict[str, Any]] = []
    for name, found in outcomes.items():
        given = [outcome.entropies for outcome in found if outcome.entropies is not None]
        if given and reference is None:
            left_out[name] = f"there is no {REFERENCE} to compare its entropies with"
            continue
        pairs = [] if reference is None else [(own, reference[: len(own)]) for own in given]
        errors = [float(np.abs(own - right).max()) for own, right in pairs]
        alike = [float(np.corrcoef(own, right)[0, 1]) for own, right in pairs]
        # Texts differ less than bfloat16 may be off: whether each has its own score shows in their order.
        agrees = [error <= TOLERANCE_NATS for error in errors] + [value >= LEAST_CORRELATION for value in alike]
        if not all(agrees):
            left_out[name] = f"it is off by {max(errors):.2g} nats, with a correlation of {min(alike):.2g}"
            continue
        if not found:
            continue
        speeds = sorted(outcome.tokens / outcome.seconds for outcome in found)
        rows.append(
            {
                "op": "score generative",
                "corpus": f"Zipf texts, {model}",
                "contender": name,
                "rows": {SINGLE: SINGLE_ROWS, HARNESS: HARNESS_ROWS}.get(name, n_rows),
                "tokens": found[0].tokens,
                "unit": "tokens/s",
                "median": round(statistics.median(speeds), 1),
                "low": round(speeds[0], 1),
                "high": round(speeds[-1], 1),
                "peak_memory_mib": None,
                "largest_error_nats": float(f"{max(errors):.2g}") if errors else None,
            }
        )
    ours = next((row["median"] for row in rows if row["contender"] == "euds"), None)
    for row in rows:
        row["ratio_to_euds"] = None if ours is None else round(row["median"] / ours, 3)
    return rows


if __name__ == "__main__":
    main()
