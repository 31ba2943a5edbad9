"""End-to-end generative scoring on a GPU: the engine against the bare backbone and against full logits.

The model has SmolLM2-135M's shape and random weights, the texts are drawn from a seeded Zipf vocabulary with realistic
lengths: throughput depends on neither. All contenders read the same batches; the backbone alone, which computes no
score, is the limit.

    python benchmarks/bench_scoring_gpu.py        # writes benchmarks/results/scoring-cuda.json and the README table
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from environment import environment
from table import write_tables

RESULTS = Path(__file__).parent / "results"
MODEL = "SmolLM2-135M's shape, random weights, bfloat16"
ROWS = 6000
VOCABULARY = 49152
MEDIAN_TOKENS = 160
MAX_TOKENS = 1024
ROUNDS = 3
TOLERANCE_NATS = 0.1
"""bfloat16 logits of a batch against the engine's float32 accumulators."""

Outcome = tuple[float, np.ndarray | None]
"""Seconds, and the mean entropy of every row if the contender has it."""


def main() -> None:
    """Time the contenders in turn, check that they agree, and write the rows."""
    if not torch.cuda.is_available():
        print("no GPU here: nothing to measure")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder / "lm")
        corpus = make_corpus(folder / "corpus.jsonl")
        contenders = make_contenders(folder / "lm", corpus, folder)
        outcomes: dict[str, list[Outcome]] = {contender: [] for contender in contenders}
        for round_ in range(ROUNDS + 1):
            for contender, run in contenders.items():
                outcome = run()
                # The first round compiles and warms up.
                if round_:
                    outcomes[contender].append(outcome)
        tokens = sum(len(json.loads(line)["text"].split()) for line in corpus.read_text().splitlines())
    rows = summarise(outcomes, tokens)
    facts = {
        **environment(("euds", "torch", "transformers", "triton")),
        "model": "SmolLM2-135M shape, random, bfloat16",
    }
    path = RESULTS / "scoring-cuda.json"
    path.write_text(json.dumps({"environment": facts, "rows": rows}, indent=2) + "\n")
    write_tables()
    print(f"wrote {path}")


def make_model(folder: Path) -> None:
    """A Llama of SmolLM2-135M's shape with random weights, and a tokenizer of one token a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({f"w{at}": at for at in range(VOCABULARY)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="w0").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        initializer_range=0.04,
    )
    model: Any = LlamaForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(folder)


def make_corpus(path: Path) -> Path:
    """Write texts of log-normal length whose words follow Zipf's law."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(MEDIAN_TOKENS), 0.8, ROWS), 2, MAX_TOKENS).astype(int)
    weights = 1 / np.arange(1, VOCABULARY + 1)
    words = rng.choice(VOCABULARY, size=int(lengths.sum()), p=weights / weights.sum())
    parts = np.split(words, np.cumsum(lengths)[:-1])
    path.write_text("".join(json.dumps({"text": " ".join(f"w{word}" for word in part)}) + "\n" for part in parts))
    return path


def make_contenders(model_folder: Path, corpus: Path, folder: Path) -> dict[str, Callable[[], Outcome]]:
    """Return the contenders; the plain ones read the batches that the engine forms."""
    from transformers import AutoModelForCausalLM

    from euds.corpus import read_scores
    from euds.engine.batches import plan
    from euds.engine.score import score
    from euds.engine.worker import LM_BUDGET

    texts = [json.loads(line)["text"] for line in corpus.read_text().splitlines()]
    samples = [[int(word[1:]) for word in text.split()] for text in texts]
    model: Any = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.bfloat16)
    model.cuda().eval()
    budget = LM_BUDGET["cuda"]
    shard_rows = 1024
    shards = [range(start, min(start + shard_rows, ROWS)) for start in range(0, ROWS, shard_rows)]
    batches = [batch for shard in shards for batch in plan([len(ids) for ids in samples], list(shard), budget)]

    def engine() -> Outcome:
        out = Path(tempfile.mkdtemp(dir=folder))
        settings: dict[str, Any] = {"measures": ["generative"], "lm": model_folder, "device": "cuda"}
        result = score(corpus, out=out, max_tokens=MAX_TOKENS, shard_rows=shard_rows, **settings)
        entropies: np.ndarray = read_scores(out).column("generative_entropy_nats").to_numpy()
        return result.seconds["generative"], entropies

    @torch.inference_mode()
    def backbone() -> Outcome:
        start = time.perf_counter()
        for batch in batches:
            model.base_model(input_ids=padded(samples, batch), use_cache=False)
        torch.cuda.synchronize()
        return time.perf_counter() - start, None

    @torch.inference_mode()
    def full_logits() -> Outcome:
        entropies = np.empty(len(samples))
        start = time.perf_counter()
        # Logits of a whole batch would not fit: the loop takes rows as they fit into 8 GiB of float32.
        for batch in batches:
            step = max(1, (1 << 31) // (VOCABULARY * len(samples[batch[0]])))
            for at in range(0, len(batch), step):
                part = batch[at : at + step]
                logp = torch.log_softmax(model(input_ids=padded(samples, part), use_cache=False).logits.float(), -1)
                entropy = -(logp.exp() * logp).sum(-1)
                for line, row in enumerate(part):
                    entropies[row] = entropy[line, : len(samples[row]) - 1].mean().item()
        torch.cuda.synchronize()
        return time.perf_counter() - start, entropies

    return {"backbone alone, no scores": backbone, "full logits, log-softmax": full_logits, "euds": engine}


def padded(samples: Sequence[Sequence[int]], batch: Sequence[int]) -> torch.Tensor:
    """Return the token ids of a batch on the GPU, padded on the right."""
    rows = [torch.tensor(samples[at]) for at in batch]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).cuda()


def summarise(outcomes: dict[str, list[Outcome]], tokens: int) -> list[dict[str, Any]]:
    """Check the contenders against each other and return their rows."""
    reference = outcomes["full logits, log-softmax"][0][1]
    rows: list[dict[str, Any]] = []
    for name, found in outcomes.items():
        errors = [np.abs(entropies - reference).max() for _, entropies in found if entropies is not None]
        if any(not error <= TOLERANCE_NATS for error in errors):
            raise SystemExit(f"{name} is off by {max(errors):.2g} nats: nothing is timed that is not right")
        speeds = sorted(tokens / seconds for seconds, _ in found)
        rows.append(
            {
                "op": "score generative",
                "corpus": "synthetic Zipf texts",
                "contender": name,
                "rows": ROWS,
                "tokens": tokens,
                "unit": "tokens/s",
                "median": round(statistics.median(speeds), 1),
                "low": round(speeds[0], 1),
                "high": round(speeds[-1], 1),
                "peak_memory_mib": None,
                "largest_error_nats": float(f"{max(errors):.2g}") if errors else None,
            }
        )
    for row in rows:
        row["ratio_to_euds"] = round(row["median"] / rows[-1]["median"], 3)
    return rows


if __name__ == "__main__":
    main()
