"""End-to-end generative scoring on this machine: euds against the loops people write by hand.

Every contender scores the same rows with the same model in a process of its own: read, tokenise, score. Loading the
model is not counted. Contenders are interleaved over several rounds; the table gives medians and peak resident memory.
The limit is no contender: the model's matrix products and nothing else, as fast as this machine's libraries do them.

    python benchmarks/bench_scoring.py            # writes results/scoring-cpu*.json and the README table
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from environment import environment, results_path
from table import write_tables

from euds.assets import fetch

MODEL = "smollm2-135m"
TOLERANCE_NATS = 1e-4
MAX_TOKENS = 256
BATCH_ROWS = 16
LIMIT = "limit: the matrix products alone"
LIMIT_TOKENS = 1024
CORPORA = {"movie-snippets": 160, "newsgroups-20": 24}
"""Rows taken from the head of each training file: short sentences, and posts of some hundred tokens."""


def main() -> None:
    """Time every contender on every corpus, check that they agree, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", nargs=2, metavar=("CONTENDER", "CORPUS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(work(*arguments.worker)))
        return
    for asset in (MODEL, *CORPORA):
        fetch(asset)
    rows = [row for corpus in CORPORA for row in measure(corpus, arguments.rounds)]
    path = results_path("scoring")
    facts = {**environment(), "model": f"{MODEL}, float32, at most {MAX_TOKENS} tokens a text"}
    path.write_text(json.dumps({"environment": facts, "rows": rows}, indent=2) + "\n")
    write_tables()
    print(f"wrote {path}")


def measure(corpus: str, rounds: int) -> list[dict[str, Any]]:
    """Run the contenders in turn, several rounds, and summarise."""
    outcomes: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name in CONTENDERS:
            command = [sys.executable, __file__, "--worker", name, corpus]
            finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            outcome = json.loads(finished.stdout.splitlines()[-1])
            outcomes[name].append(outcome)
            print(f"{corpus} {name}: {outcome['tokens'] / outcome['seconds']:.0f} tokens/s", file=sys.stderr)
    reference = outcomes["batch of 1"][0]["entropies"]
    rows: list[dict[str, Any]] = []
    for name, found in outcomes.items():
        rates = sorted(outcome["tokens"] / outcome["seconds"] for outcome in found)
        row = {
            "op": "score generative",
            "corpus": corpus,
            "contender": name,
            "rows": len(reference),
            "tokens": found[0]["tokens"],
            "unit": "tokens/s",
            "median": round(statistics.median(rates), 1),
            "low": round(rates[0], 1),
            "high": round(rates[-1], 1),
            "peak_memory_mib": None,
            "largest_error_nats": None,
        }
        if name != LIMIT:
            row["peak_memory_mib"] = round(statistics.median(outcome["peak_memory_mib"] for outcome in found))
            row["largest_error_nats"] = float(f"{checked_error(name, corpus, found, reference):.2g}")
        rows.append(row)
    (ours,) = (row["median"] for row in rows if row["contender"] == "euds")
    for row in rows:
        row["ratio_to_euds"] = round(row["median"] / ours, 3)
    return rows


def checked_error(name: str, corpus: str, found: Sequence[dict[str, Any]], reference: Sequence[float]) -> float:
    """Return the largest distance from the reference, in nats; nothing is timed that is not right."""
    error: float = max(abs(a - b) for outcome in found for a, b in zip(outcome["entropies"], reference, strict=True))
    if error > TOLERANCE_NATS:
        raise SystemExit(f"{name} is off by {error:.2g} nats on {corpus}: nothing is timed that is not right")
    return error


def work(contender: str, corpus: str) -> dict[str, Any]:
    """Score one corpus with one contender in this process."""
    seconds, tokens, entropies = CONTENDERS[contender](texts_of(corpus))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "tokens": tokens, "entropies": entropies, "peak_memory_mib": peak}


def texts_of(corpus: str) -> list[str]:
    """Return the first texts of an asset's training file that have at least two tokens' worth of words."""
    from euds.corpus import list_inputs, read_rows

    texts = (str((row.fields or {})["text"]) for row in read_rows(list_inputs([f"{corpus}/train.jsonl"])))
    long_enough = (text for text in texts if len(text.split()) > 1)
    return [text for text, _ in zip(long_enough, range(CORPORA[corpus]), strict=False)]


def by_euds(texts: Sequence[str]) -> tuple[float, int, list[float]]:
    """`euds.score` with its defaults, files and all."""
    import euds.engine.models  # Imported before the clock starts, as torch and transformers are by the others.
    import euds.engine.run
    from euds.corpus import read_scores

    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.jsonl"
        corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        start = time.perf_counter()
        result = euds.score(corpus, out=Path(folder) / "run", measures=["generative"], lm=MODEL, max_tokens=MAX_TOKENS)
        seconds = time.perf_counter() - start - result.seconds["loading"]
        entropies = read_scores(Path(folder) / "run").column("generative_entropy_nats").to_pylist()
    return seconds, result.n_tokens, entropies


def by_loop(batch_rows: int, *, by_length: bool) -> Callable[[Sequence[str]], tuple[float, int, list[float]]]:
    """A plain transformers loop: pad, run the model with its full logits, log-softmax, mean."""

    def run(texts: Sequence[str]) -> tuple[float, int, list[float]]:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from euds.measures.models import model_folder

        folder = model_folder(MODEL)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.padding_side = "right"
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        start = time.perf_counter()
        entropies = [0.0] * len(texts)
        tokens = 0
        for batch in batches(texts, batch_rows, by_length=by_length):
            encoded = tokenizer(
                [texts[at] for at in batch], padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
            )
            with torch.inference_mode():
                logp = torch.log_softmax(model(**encoded).logits.float(), -1)
                entropy = -(logp.exp() * logp).sum(-1)[:, :-1]
            scored = encoded["attention_mask"][:, 1:]
            means = (entropy * scored).sum(1) / scored.sum(1)
            tokens += int(encoded["attention_mask"].sum())
            for at, mean in zip(batch, means.tolist(), strict=True):
                entropies[at] = mean
        return time.perf_counter() - start, tokens, entropies

    return run


def by_products_alone(texts: Sequence[str]) -> tuple[float, int, list[float]]:
    """The products of every linear layer over all tokens, `LIMIT_TOKENS` at a time, by the better of two libraries.

    No padding, no attention, no activation, no statistics, no tokeniser.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from euds.kernels.products_onednn import linear as by_onednn
    from euds.measures.models import model_folder

    folder = model_folder(MODEL)
    encoded = AutoTokenizer.from_pretrained(folder)(list(texts), truncation=True, max_length=MAX_TOKENS)
    tokens = sum(map(len, encoded["input_ids"]))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    weights = [module.weight for module in model.modules() if isinstance(module, torch.nn.Linear)]

    inputs = {width: torch.randn(LIMIT_TOKENS, width) for width in {weight.shape[1] for weight in weights}}

    def seconds(linear: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> float:
        start = time.perf_counter()
        for weight in weights:
            linear(inputs[weight.shape[1]], weight)
        return time.perf_counter() - start

    with torch.inference_mode():
        best = min(seconds(linear) for linear in (torch.nn.functional.linear, by_onednn) for _ in range(3))
    return best / LIMIT_TOKENS * tokens, tokens, []


def batches(texts: Sequence[str], size: int, *, by_length: bool) -> Iterator[list[int]]:
    """Yield positions in file order, or sorted by number of characters."""
    order = sorted(range(len(texts)), key=lambda at: -len(texts[at])) if by_length else list(range(len(texts)))
    for start in range(0, len(order), size):
        yield order[start : start + size]


CONTENDERS = {
    "batch of 1": by_loop(1, by_length=False),
    f"batches of {BATCH_ROWS}, full logits": by_loop(BATCH_ROWS, by_length=False),
    f"batches of {BATCH_ROWS}, full logits, sorted by length": by_loop(BATCH_ROWS, by_length=True),
    "euds": by_euds,
    LIMIT: by_products_alone,
}


if __name__ == "__main__":
    main()
