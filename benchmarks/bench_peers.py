"""Scoring on this machine against lm-evaluation-harness and data-juicer, each in an environment of its own.

All score the same short texts with the same model in float32; reading and loading are not counted. The numbers that
they share with euds are compared first. Virtual environments are made in benchmarks/peers/.venvs when they are missing.

    python benchmarks/bench_peers.py        # writes results/peers-cpu*.json and the README table
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from bench_scoring import MAX_TOKENS, MODEL, by_euds, texts_of
from environment import environment, results_path
from table import write_tables

from euds.assets import fetch

FOLDER = Path(__file__).parent / "peers"
CORPUS = "movie-snippets"
TOLERANCE_NATS = 1e-3
COMMON = ("torch", "transformers", "accelerate")
PEERS = {
    "lm-evaluation-harness": ("lm_eval_rolling.py", ("lm-eval==0.4.13",)),
    "data-juicer": ("data_juicer_perplexity.py", ("py-data-juicer==1.6.1", "aiohttp", "ray")),
}
"""Script and packages by peer."""


def main() -> None:
    """Time euds and its peers in turn, check that they agree, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        seconds, tokens, _ = by_euds(texts_of(CORPUS))
        print(json.dumps({"seconds": seconds, "tokens": tokens}))
        return
    folder = fetch(MODEL)
    fetch(CORPUS)
    texts = texts_of(CORPUS)
    pythons = {name: make_environment(name, packages) for name, (_, packages) in PEERS.items()}
    commands = {name: [str(python), str(FOLDER / PEERS[name][0]), str(folder)] for name, python in pythons.items()}
    commands["euds"] = [sys.executable, __file__, "--worker"]
    outcomes: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    for _ in range(arguments.rounds):
        for name, command in commands.items():
            outcomes[name].append(run(command, texts))
            print(f"{name}: {outcomes[name][-1]['seconds']:.1f} s", file=sys.stderr)
    tokens = outcomes["euds"][0]["tokens"]
    errors = compare(folder, texts, outcomes)
    rows = []
    for name, found in outcomes.items():
        rates = sorted(tokens / outcome["seconds"] for outcome in found)
        rows.append(
            {
                "op": "score generative",
                "corpus": CORPUS,
                "contender": name,
                "version": version_of(pythons.get(name), name),
                "rows": len(texts),
                "tokens": tokens,
                "unit": "tokens/s",
                "median": round(statistics.median(rates), 1),
                "low": round(rates[0], 1),
                "high": round(rates[-1], 1),
                "largest_difference_nats": errors.get(name),
            }
        )
    for row in rows:
        row["ratio_to_euds"] = round(row["median"] / rows[-1]["median"], 3)
    facts = {**environment(), "model": f"{MODEL}, float32"}
    results_path("peers").write_text(json.dumps({"environment": facts, "rows": rows}, indent=2) + "\n")
    write_tables()


def make_environment(name: str, packages: tuple[str, ...]) -> Path:
    """Return the Python of a peer's virtual environment, made if it is missing."""
    venv = FOLDER / ".venvs" / name
    python = venv / "bin" / "python"
    if not (venv / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        constraints = Path(__file__).parents[1] / "constraints.txt"
        pip = [str(python), "-m", "pip", "install", "--quiet", "-c", str(constraints)]
        subprocess.run([*pip, *packages, *COMMON], check=True)
        (venv / "installed").touch()
    return python


def run(command: list[str], texts: list[str]) -> dict[str, Any]:
    """Run a contender over texts and return what its last line says."""
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command,
        input=json.dumps(texts),
        env=quiet,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    outcome: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return outcome


def compare(folder: Path, texts: list[str], outcomes: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """Return each peer's largest difference from euds, nats a token; refuse one that is too large."""
    from euds.measures.causal_lm import CausalLM
    from euds.measures.device import precision
    from euds.measures.generative import GenerativeScorer
    from euds.measures.tokens import ModelTokenizer

    ids = [encoded.ids for encoded in ModelTokenizer(folder, MAX_TOKENS).encode([text.strip() for text in texts])]
    (harness,), (juicer,) = outcomes["lm-evaluation-harness"][:1], outcomes["data-juicer"][:1]
    # The harness puts a token in front and scores the first one, too.
    lm = CausalLM.load(folder, precision())
    with_prefix, without = (GenerativeScorer(lm, bos_id) for bos_id in (harness["prefix"], None))
    framed = [with_prefix.score([own]) for own in ids]
    plain = [without.score([own]) for own in ids]
    found = {
        "lm-evaluation-harness": [-total / len(own) for total, own in zip(harness["sums"], ids, strict=True)],
        "data-juicer": juicer["means"],
    }
    own = {"lm-evaluation-harness": framed, "data-juicer": plain}
    errors = {}
    for name, values in found.items():
        ours = np.array([scores.nll[0] for scores in own[name]])
        errors[name] = float(f"{np.abs(ours - np.array(values)).max():.2g}")
        if not errors[name] < TOLERANCE_NATS:
            raise SystemExit(f"{name} differs by {errors[name]} nats a token: nothing is timed that is not right")
    return errors


def version_of(python: Path | None, name: str) -> str:
    """Return the installed version of a contender."""
    package = {"lm-evaluation-harness": "lm-eval", "data-juicer": "py-data-juicer"}.get(name, "euds")
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([str(python or sys.executable), "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
