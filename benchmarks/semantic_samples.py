"""Semantic entropy of real rows by three routes: clusters, generations grouped by embeddings, and by a judge.

Takes movie snippets, the demo's models and a judge made here (`semantic_judge.py`; no MNLI model: see there), and
writes results/semantic-samples-cpu*.json with rank agreements, costs and groups that a reader can judge. It resumes.

    python benchmarks/semantic_samples.py            # about 10 minutes on 2 cores; files under runs/semantic-samples
"""

import argparse
import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import scipy.stats
from environment import environment, results_path
from semantic_judge import train_judge
from table import write_tables

import euds
from euds.corpus import list_inputs, read_scores
from euds.files import read_json, write_json

PACKAGES = ("euds", "torch", "transformers", "numba", "faiss-cpu")
SETTINGS = euds.SampleSettings(
    n_generations=10,
    max_new_tokens=10,
    template="Review: {text}\nIn one word, the film is",
    estimators=("discrete", "rao_blackwell", "nearest_neighbor", "kernel_language"),
)
THRESHOLDS = (0.5, 0.7)
SHOWN_ROWS = 8
QUOTE_CHARS = 60


def main() -> None:
    """Do what is not yet done, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=Path("runs/semantic-samples"))
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    corpus = take_rows(folder, arguments.rows)
    judge = folder / "judge"
    if not (folder / "judge.json").exists():
        write_json(folder / "judge.json", train_judge(judge))
    runs = score_all(folder, corpus, judge)
    columns = columns_of(runs)
    sampled = read_json(runs["judge"] / "manifest.json")["pool"]["samples"]
    write_json(
        results_path("semantic-samples"),
        {
            "environment": environment(PACKAGES),
            "rows": arguments.rows,
            "settings": {name: value for name, value in sampled.items() if name != "grouping"},
            "judge_on_newly_drawn_pairs": read_json(folder / "judge.json"),
            "spread": {name: spread(values) for name, values in columns.items()},
            "agreement": [agreement(*pair) for pair in combinations(columns.items(), 2)],
            "n_groups": {name: counts_of(run) for name, run in runs.items()},
            "cost": {name: read_json(run / "manifest.json")["cost"] for name, run in runs.items()},
            "examples": examples(runs, corpus),
        },
    )
    write_tables()


def take_rows(folder: Path, n: int) -> Path:
    """Write a seeded sample of the snippets."""
    (file,) = list_inputs(["movie-snippets/train.jsonl"])
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    chosen = np.sort(np.random.default_rng(0).permutation(len(lines))[:n])
    path = folder / "corpus.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines[int(at)] + "\n" for at in chosen), encoding="utf-8")
    return path


def score_all(folder: Path, corpus: Path, judge: Path) -> dict[str, Path]:
    """Sample once, group three times; return the run directories by name."""
    runs: dict[str, Path] = {}
    common = {"measures": ["semantic"], "lm": "smollm2-135m", "embedder": "all-minilm-l6-v2", "shard_rows": 24}
    first = folder / f"similarity-{THRESHOLDS[0]}"
    for threshold in THRESHOLDS:
        out = folder / f"similarity-{threshold}"
        settings = replace(SETTINGS, min_similarity=threshold, generations_from=None if out == first else str(first))
        semantic = ["clusters", "samples"] if out == first else ["samples"]
        euds.score(corpus, out=out, semantic=semantic, samples=settings, **common)  # type: ignore[arg-type]
        runs[f"similarity {threshold}"] = out
    runs["judge"] = folder / "judged"
    settings = replace(SETTINGS, grouping="entailment", nli=str(judge), generations_from=str(first))
    euds.score(corpus, out=runs["judge"], semantic="samples", samples=settings, **common)  # type: ignore[arg-type]
    return runs


def columns_of(runs: dict[str, Path]) -> dict[str, np.ndarray]:
    """Return the scores that are compared, by name."""
    scores = {name: read_scores(run) for name, run in runs.items()}
    found = {"clusters": scores["similarity 0.5"].column("semantic_entropy_nats").to_numpy()}
    for name, table in scores.items():
        for estimator in ("discrete", "rao_blackwell"):
            found[f"samples, {name}, {estimator}"] = table.column(f"semantic_samples_{estimator}_nats").to_numpy()
    for estimator in ("nearest_neighbor", "kernel_language"):
        found[f"samples, {estimator}"] = scores["judge"].column(f"semantic_samples_{estimator}_nats").to_numpy()
    return found


def agreement(left: tuple[str, np.ndarray], right: tuple[str, np.ndarray]) -> dict[str, Any]:
    """Return the rank correlations of two scores."""
    return {
        "scores": [left[0], right[0]],
        "spearman": round(float(scipy.stats.spearmanr(left[1], right[1]).statistic), 3),
        "kendall": round(float(scipy.stats.kendalltau(left[1], right[1]).statistic), 3),
    }


def spread(values: np.ndarray) -> dict[str, float]:
    """Return quantiles, and how many different values there are."""
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95)).round(3).tolist()
    return {"q05": low, "q50": middle, "q95": high, "different_values": len(np.unique(values))}


def counts_of(run: Path) -> dict[str, int]:
    """Return how many rows have how many groups."""
    numbers, counts = np.unique(read_scores(run).column("semantic_n_groups").to_numpy(), return_counts=True)
    return {str(number): int(count) for number, count in zip(numbers, counts, strict=True)}


def examples(runs: dict[str, Path], corpus: Path) -> list[dict[str, Any]]:
    """Return some rows with their generations and the groups of each run; texts as short quotes."""
    texts = [json.loads(line)["text"] for line in corpus.read_text(encoding="utf-8").splitlines()]
    generations = pq.read_table(runs["similarity 0.5"] / "generations").to_pylist()
    groups = {name: pq.read_table(run / "meanings").column("group").to_pylist() for name, run in runs.items()}
    shown = np.linspace(0, len(texts) - 1, SHOWN_ROWS).round().astype(int).tolist()
    return [
        {
            "row": at,
            "quote": texts[at][:QUOTE_CHARS],
            "generations": generations[at]["text"],
            "mean_logprob": [round(value, 2) for value in generations[at]["mean_logprob"]],
            "groups": {name: found[at] for name, found in groups.items()},
        }
        for at in shown
    ]


if __name__ == "__main__":
    main()
