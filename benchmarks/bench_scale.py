"""How scoring grows with the corpus: seconds, memory, repeating, several processes, Ray.

Every run is the command line in a process of its own, its start included.

    python benchmarks/bench_scale.py                 # all, up to a million rows; writes results/scale-cpu*.json anew
    python benchmarks/bench_scale.py --parts information --rows 10000000    # only that; the other rows stay
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from environment import environment, kept_rows, results_path
from scale_corpus import write_corpus
from table import write_tables

TESTS = Path(__file__).parents[1] / "tests"
WAYS: dict[str, tuple[str, ...]] = {
    "one process": (),
    "two processes": ("--workers", "2"),
    "Ray, two actors": ("--ray", "--workers", "2"),
}
LM_TOKENS = 16
"""Tokens read of each text by the tiny language model, which is no measure of a real one's speed."""

SIZES = (10_000, 100_000, 1_000_000)
KERNEL_ROWS = 100_000


def main() -> None:
    """Time the parts asked for and write their rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="only these parts")
    parser.add_argument("--rows", type=int, nargs="+", help="only corpora of so many rows")
    parser.add_argument("--ways", nargs="+", choices=WAYS, help="only these ways")
    parser.add_argument("--folder", type=Path, help="where corpora are kept and runs go; else a temporary folder")
    arguments = parser.parse_args()
    path = results_path("scale")
    facts = {**environment(("euds", "pyarrow", "numba", "ray")), "model": "Zipf text of 50,000 words, 55 a row"}
    rows = kept_rows(path, facts) if arguments.parts or arguments.rows or arguments.ways else []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for part in arguments.parts or PARTS:
            for row in PARTS[part](folder, arguments.rows or SIZES, arguments.ways or list(WAYS)):
                print(json.dumps(row), file=sys.stderr)
                rows = _with(rows, row)
                # Written after each: whatever ends the run, they are there.
                path.write_text(json.dumps({"environment": facts, "rows": rows}, indent=2) + "\n")
    write_tables()
    print(f"wrote {path}")


def information(folder: Path, sizes: Sequence[int], ways: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Information entropy of words, no model."""
    yield from _scale(folder, "information", sizes, ways, ("--measures", "information"))


def tiny_lm(folder: Path, sizes: Sequence[int], ways: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Information and generative entropy by a random model of two layers."""
    sys.path.insert(0, str(TESTS))
    from tiny import build_lm

    lm = folder / "lm"
    if not lm.exists():
        lm.mkdir()
        build_lm(lm)
    options = ("--measures", "information,generative", "--lm", str(lm), "--max-tokens", str(LM_TOKENS))
    yield from _scale(folder, "tiny LM", sizes, ways, options)


def kernels(folder: Path, sizes: Sequence[int], ways: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Entropy and word splitting alone, on one core, of 100,000 texts."""
    import numpy as np
    import torch

    import euds
    from euds.corpus import list_inputs, read_rows
    from euds.engine.read import CHUNK_ROWS
    from euds.measures.words import WordTokenizer

    torch.set_num_threads(1)
    corpus = _corpus(folder, KERNEL_ROWS)
    texts = [str((row.fields or {})["text"]) for row in read_rows(list_inputs([corpus]))]
    start = time.perf_counter()
    tokenizer = WordTokenizer()
    # Some at a time, as a run does.
    encoded = [tokenizer.encode_ragged(texts[at : at + CHUNK_ROWS]) for at in range(0, len(texts), CHUNK_ROWS)]
    splitting = time.perf_counter() - start
    ids = np.concatenate([some.ids for some in encoded]).astype(np.int64)
    offsets = np.cumsum([0, *np.concatenate([np.diff(some.offsets) for some in encoded])])
    euds.information_entropy(ids, offsets)
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        euds.information_entropy(ids, offsets)
        rounds.append(time.perf_counter() - start)
    for name, seconds in (("splitting into words", splitting), ("information entropy", sorted(rounds)[2])):
        yield {
            "measure": "kernel",
            "way": name,
            "rows": KERNEL_ROWS,
            "tokens": len(ids),
            "seconds": round(seconds, 3),
            "tokens_per_second": round(len(ids) / seconds),
        }


PARTS: dict[str, Callable[[Path, Sequence[int], Sequence[str]], Iterator[dict[str, Any]]]] = {
    "information": information,
    "tiny-lm": tiny_lm,
    "kernels": kernels,
}


def _scale(
    folder: Path, measure: str, sizes: Sequence[int], ways: Sequence[str], options: Sequence[str]
) -> Iterator[dict[str, Any]]:
    for n_rows in sizes:
        corpus = _corpus(folder, n_rows)
        for way in ways:
            run_dir = folder / "run"
            shutil.rmtree(run_dir, ignore_errors=True)
            command = [*(sys.executable, "-m", "euds", "score", str(corpus), "--out", str(run_dir)), *options]
            seconds, cpu, peak = _timed([*command, *WAYS[way]])
            again, _, _ = _timed([*command, *WAYS[way]])
            manifest = json.loads((run_dir / "manifest.json").read_text())
            assert manifest["counts"]["rows"] == manifest["counts"]["scored"] == n_rows
            yield {
                "measure": measure,
                "way": way,
                "rows": n_rows,
                "tokens": manifest["counts"]["tokens"],
                "seconds": round(seconds, 2),
                "cpu_seconds": round(cpu, 2),
                "rows_per_second": round(n_rows / seconds),
                "tokens_per_second": round(manifest["counts"]["tokens"] / seconds),
                "peak_memory_mib": round(peak / 2**20),
                "again_seconds": round(again, 2),
            }
            shutil.rmtree(run_dir)


def _corpus(folder: Path, n_rows: int) -> Path:
    path = folder / f"corpus-{n_rows}.jsonl"
    return path if path.exists() else write_corpus(path, n_rows)


def _timed(command: Sequence[str]) -> tuple[float, float, int]:
    """Run a command; returns seconds, those of its processors, and bytes resident at most in its largest process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} has failed")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def _with(rows: Sequence[dict[str, Any]], row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return rows with another in the place of the one that it measures anew."""
    others = [old for old in rows if any(old[key] != row[key] for key in ("measure", "way", "rows"))]
    order = ["information", "tiny LM", "kernel"]
    return sorted([*others, row], key=lambda row: (order.index(row["measure"]), row["way"], row["rows"]))


if __name__ == "__main__":
    main()
