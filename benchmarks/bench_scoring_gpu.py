"""End-to-end generative scoring on a GPU: the engine against the bare backbone and against full logits.

The model has SmolLM2-135M's shape and random weights, the texts are drawn from a seeded Zipf vocabulary with realistic
lengths: throughput depends on neither. The limit is the backbone alone, which computes no score, on the batches that
the engine forms and packs; the plain contenders read batches that are formed alike but padded. The loop over single
texts and lm-evaluation-harness, where it is installed, read the first texts only.

    python benchmarks/bench_scoring_gpu.py        # writes benchmarks/results/scoring-cuda.json and the README table
"""

import functools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from environment import environment
from table import write_tables

from euds.files import atomic_path

RESULTS = Path(__file__).parent / "results"
MODEL = "SmolLM2-135M's shape, random weights, bfloat16"
ROWS = 6000
VOCABULARY = 49152
MEDIAN_TOKENS = 160
MAX_TOKENS = 1024
ROUNDS = 2
REFERENCE = "full logits, log-softmax"
TOLERANCE_NATS = 0.1
"""bfloat16 logits of a batch against the engine's float32 accumulators."""

SINGLE_ROWS, HARNESS_ROWS = 200, 1000
HARNESS = "lm-evaluation-harness"
HARNESS_BATCH = 64


@dataclass(frozen=True)
class Outcome:
    """What a contender did: seconds, tokens that it read, and mean entropies of the first rows if it has them."""

    seconds: float
    tokens: int
    entropies: np.ndarray | None = None


def main() -> None:
    """Time the contenders in turn, check that they agree, and write the rows after each round."""
    if not torch.cuda.is_available():
        print("no GPU here: nothing to measure")
        return
    facts = {
        **environment(("euds", "torch", "transformers", "triton", "lm-eval")),
        "model": "SmolLM2-135M shape, random, bfloat16",
    }
    path = RESULTS / "scoring-cuda.json"
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder / "lm")
        corpus = make_corpus(folder / "corpus.jsonl")
        contenders = make_contenders(folder / "lm", corpus, folder)
        outcomes: dict[str, list[Outcome]] = {contender: [] for contender in contenders}
        try:
            for round_ in range(ROUNDS + 1):
                run_round(contenders, outcomes, left_out)
                if round_ == 0:
                    # It has compiled and warmed up.
                    for found in outcomes.values():
                        found.clear()
                elif rows := summarise(outcomes, left_out):
                    with atomic_path(path) as partial:
                        content = {"environment": facts, "rows": rows, "left_out": left_out}
                        partial.write_text(json.dumps(content, indent=2) + "\n")
        finally:
            write_tables()
    if left_out:
        raise SystemExit(f"left out: {left_out}")
    print(f"wrote {path}")


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


def make_model(folder: Path) -> None:
    """A Llama of SmolLM2-135M's shape with random weights, and a tokenizer of one token a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({f"w{at}": at for at in range(VOCABULARY)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="w0", eos_token="w0").save_pretrained(folder)
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
    """Return the contenders; all but the engine read batches that are formed as the engine's are."""
    from transformers import AutoModelForCausalLM

    from euds.corpus import read_scores
    from euds.engine.batches import plan
    from euds.engine.score import score
    from euds.engine.worker import LM_BUDGET
    from euds.measures.causal_lm import CausalLM
    from euds.measures.device import on_device, precision
    from euds.measures.packing import packed_hidden_states

    texts = [json.loads(line)["text"] for line in corpus.read_text().splitlines()]
    samples = [[int(word[1:]) for word in text.split()] for text in texts]
    lengths = [len(ids) for ids in samples]
    lm = CausalLM.load(model_folder, precision("cuda", "bfloat16"))
    model: Any = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.bfloat16)
    model.to(lm.device).eval()
    shard_rows = 1024
    shards = [list(range(start, min(start + shard_rows, ROWS))) for start in range(0, ROWS, shard_rows)]
    budget = LM_BUDGET["cuda"]
    packed = [batch for shard in shards for batch in plan(lengths, shard, budget, padded=False)]
    padded = [batch for shard in shards for batch in plan(lengths, shard, budget, padded=True)]

    def engine() -> Outcome:
        out = Path(tempfile.mkdtemp(dir=folder))
        settings: dict[str, Any] = {"measures": ["generative"], "lm": model_folder, "device": "cuda"}
        result = score(corpus, out=out, max_tokens=MAX_TOKENS, shard_rows=shard_rows, **settings)
        entropies: np.ndarray = read_scores(out).column("generative_entropy_nats").to_numpy()
        return Outcome(result.seconds["generative"], sum(lengths), entropies)

    @torch.inference_mode()
    def packed_backbone() -> Outcome:
        if not lm.packs:
            raise RuntimeError("the model does not read packed texts")
        start = time.perf_counter()
        for batch in packed:
            ids = torch.cat([torch.tensor(samples[row]) for row in batch])
            packed_hidden_states(lm.model, on_device(ids, lm.device), [lengths[row] for row in batch])
        torch.cuda.synchronize()
        return Outcome(time.perf_counter() - start, sum(lengths))

    @torch.inference_mode()
    def padded_backbone() -> Outcome:
        start = time.perf_counter()
        for batch in padded:
            model.base_model(input_ids=on_device(padded_ids(samples, batch), lm.device), use_cache=False)
        torch.cuda.synchronize()
        return Outcome(time.perf_counter() - start, sum(lengths))

    @torch.inference_mode()
    def full_logits() -> Outcome:
        entropies = np.empty(len(samples), np.float32)
        order: list[int] = []
        means: list[torch.Tensor] = []
        start = time.perf_counter()
        # Logits of a whole batch would not fit: the loop takes rows as they fit into 8 GiB of float32.
        for batch in padded:
            step = max(1, (1 << 31) // (VOCABULARY * lengths[batch[0]]))
            for at in range(0, len(batch), step):
                part = batch[at : at + step]
                ids = on_device(padded_ids(samples, part), lm.device)
                n_scored = on_device(torch.tensor([lengths[row] - 1 for row in part]), lm.device)
                logp = torch.log_softmax(model(input_ids=ids, use_cache=False).logits.float(), -1)
                entropy = -(logp.exp() * logp).sum(-1)
                inside = torch.arange(ids.shape[1], device=lm.device) < n_scored[:, None]
                means.append((entropy * inside).sum(1) / n_scored)
                order += part
        # The one copy waits for everything.
        entropies[order] = torch.cat(means).cpu().numpy()
        return Outcome(time.perf_counter() - start, sum(lengths), entropies)

    @torch.inference_mode()
    def one_text_at_a_time() -> Outcome:
        entropies = np.empty(SINGLE_ROWS, np.float32)
        start = time.perf_counter()
        for row in range(SINGLE_ROWS):
            logits = model(input_ids=torch.tensor([samples[row]], device=lm.device), use_cache=False).logits[0, :-1]
            logp = torch.log_softmax(logits.float(), -1)
            entropies[row] = -(logp.exp() * logp).sum(-1).mean().item()
        return Outcome(time.perf_counter() - start, sum(lengths[:SINGLE_ROWS]), entropies)

    harness = functools.cache(lambda: load_harness(model_folder))

    def by_harness() -> Outcome:
        from lm_eval.api.instance import Instance

        requests = [Instance("loglikelihood_rolling", {}, (text,), at) for at, text in enumerate(texts[:HARNESS_ROWS])]
        start = time.perf_counter()
        found = harness().loglikelihood_rolling(requests, disable_tqdm=True)
        seconds = time.perf_counter() - start
        check_harness(found, samples, harness().prefix_token_id, model)
        return Outcome(seconds, sum(lengths[:HARNESS_ROWS]))

    return {
        "backbone alone, no scores": packed_backbone,
        "backbone, padded": padded_backbone,
        REFERENCE: full_logits,
        "one text at a time": one_text_at_a_time,
        HARNESS: by_harness,
        "euds": engine,
    }


def load_harness(model_folder: Path) -> Any:
    """Return lm-evaluation-harness' model; it raises where that is not installed."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(
        pretrained=str(model_folder),
        device="cuda",
        dtype=torch.bfloat16,
        batch_size=HARNESS_BATCH,
        max_length=MAX_TOKENS,
    )


@torch.inference_mode()
def check_harness(found: Sequence[float], samples: Sequence[Sequence[int]], prefix: int, model: Any) -> None:
    """Raise where the harness' log-likelihoods are not those of full logits, with the token that it puts in front."""
    for row in range(8):
        ids = torch.tensor([[prefix, *samples[row]][:MAX_TOKENS]], device=model.device)
        logp = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0, :-1].float(), -1)
        mean = logp.gather(1, ids[0, 1:, None]).mean().item()
        error = abs(found[row] / len(samples[row]) - mean)
        if len(samples[row]) < MAX_TOKENS and not error <= TOLERANCE_NATS:
            raise RuntimeError(f"it is off by {error:.2g} nats a token")


def padded_ids(samples: Sequence[Sequence[int]], batch: Sequence[int]) -> torch.Tensor:
    """Return the token ids of a batch, padded on the right."""
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(samples[row]) for row in batch], batch_first=True)


def summarise(outcomes: Mapping[str, Sequence[Outcome]], left_out: dict[str, str]) -> list[dict[str, Any]]:
    """Return the rows of the contenders that agree with full logits, as far as those are there to compare with.

    What disagrees is added to those left out: nothing is timed that is not right.
    """
    reference = next((outcome.entropies for outcome in outcomes[REFERENCE]), None)
    rows: list[dict[str, Any]] = []
    for name, found in outcomes.items():
        given = [outcome.entropies for outcome in found if outcome.entropies is not None]
        errors = [] if reference is None else [float(np.abs(own - reference[: len(own)]).max()) for own in given]
        if any(not error <= TOLERANCE_NATS for error in errors):
            left_out[name] = f"it is off by {max(errors):.2g} nats"
            continue
        if not found:
            continue
        speeds = sorted(outcome.tokens / outcome.seconds for outcome in found)
        rows.append(
            {
                "op": "score generative",
                "corpus": "synthetic Zipf texts",
                "contender": name,
                "rows": {"one text at a time": SINGLE_ROWS, HARNESS: HARNESS_ROWS}.get(name, ROWS),
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
