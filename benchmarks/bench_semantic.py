"""Semantic entropy at corpus scale on this machine: estimators, grouping, clusters, and how many pairs a model judges.

Every contender's result is checked before its time counts; contenders take turns over several rounds on random inputs,
which rotate where they are small. A row-by-row contender runs on fewer rows; all rates are per row.

    python benchmarks/bench_semantic.py                         # writes results/semantic-cpu*.json and the README table
    python benchmarks/bench_semantic.py --only clusters --rows 200000    # that part and size alone, the other rows stay
"""

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import semantic_contenders as contenders
import torch
from bench_kernels import Row, rates
from environment import environment, kept_rows, results_path
from kernel_contenders import NotHere
from table import write_tables
from timing import Call, Timing, interleave, peak_memory_mib

import euds
from euds.ops.cluster import default_n_clusters, entropy_to_centroids, fit_centroids, sample_rows, trained_rows
from euds.ops.entailment import entailment_groups
from euds.ops.grouping import embedding_groups
from euds.ops.semantic import kernel_language_entropy, nearest_neighbor_entropy
from euds.types import Float32Array, Int64Array

PACKAGES = ("euds", "numba", "numpy", "scipy", "faiss-cpu", "scikit-learn", "lm-polygraph", "uqlm")
GENERATIONS = 10
WIDTH = 384
MIN_SIMILARITY = 0.7
NEIGHBORS, TEMPERATURE = 16, 0.05
LOOP_ROWS = 4_000
"""Rows that a row-by-row contender works on; its rate does not depend on their number."""

CHECKED_ROWS = 500
ROUNDS = 5
Function = Callable[..., Any]
Result = TypeVar("Result")


def main() -> None:
    """Measure what was asked for, and write rows and tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(PARTS), help="only this part")
    parser.add_argument("--rows", type=int, help="samples (clusters: embeddings) in place of the part's own number")
    arguments = parser.parse_args()
    path = results_path("semantic")
    facts = environment(PACKAGES)
    rows = kept_rows(path, facts) if arguments.only else []
    for part in [arguments.only] if arguments.only else PARTS:
        measure, n = PARTS[part]
        found = [{"part": part, **row} for row in measure(arguments.rows or n)]
        sizes = {row["rows"] for row in found}
        rows = [row for row in rows if row["part"] != part or row["rows"] not in sizes] + found
    rows.sort(key=lambda row: list(PARTS).index(row["part"]))
    path.write_text(json.dumps({"environment": facts, "rows": rows}, indent=2) + "\n")
    write_tables()


def estimators(n: int) -> list[Row]:
    """Estimators over given groups: 10 generations in up to 5 groups."""
    rng = np.random.default_rng(0)
    offsets = np.arange(0, n * GENERATIONS + 1, GENERATIONS)
    inputs = [(rng.integers(0, 5, n * GENERATIONS), offsets, -rng.exponential(1.0, n * GENERATIONS)) for _ in range(2)]
    return [
        *compare("discrete", n, inputs, _by_euds("discrete"), {
            "uqlm, row by row": lambda: contenders.uqlm_entropy(discrete=True),
            "lm-polygraph, row by row": contenders.polygraph_discrete,
            "Python loop": lambda: contenders.loop_discrete,
        }),
        *compare("rao_blackwell", n, inputs, _by_euds("rao_blackwell"), {
            "uqlm, row by row": lambda: contenders.uqlm_entropy(discrete=False),
        }),
        *compare("miller_madow", n, inputs, _by_euds("miller_madow"), {}),
        *compare("chao_shen", n, inputs, _by_euds("chao_shen"), {}),
    ]  # fmt: skip


def similarities(n: int) -> list[Row]:
    """Entropies straight from embeddings."""
    inputs = [planted(n, seed) for seed in range(2)]
    unit_diagonal: Function = lambda rows, offsets: kernel_language_entropy(  # noqa: E731  # One line says it best.
        rows, offsets, kernel_scale="unit_diagonal"
    )
    return [
        *compare("nearest_neighbor_entropy", n, inputs, nearest_neighbor_entropy, {
            "NumPy, row by row": lambda: contenders.loop_neighbor_entropy,
        }),
        *compare("kernel_language_entropy, trace", n, inputs, kernel_language_entropy, {}),
        *compare("kernel_language_entropy, unit diagonal", n, inputs, unit_diagonal, {
            "lm-polygraph, row by row": contenders.polygraph_kernel_entropy,
        }),
    ]  # fmt: skip


def grouping(n: int) -> list[Row]:
    """Groups by cosine similarity; one input, which is far larger than any cache."""
    inputs = [(*planted(n, 0), MIN_SIMILARITY)]

    def by_euds(linkage: str) -> Function:
        return lambda rows, offsets, least: embedding_groups(rows, offsets, min_similarity=least, linkage=linkage)

    words = [torch.from_numpy(rows).view(torch.int32) for rows, _, _ in inputs]
    # Integers, so that the maximum waits for memory only.
    reading: dict[str, Call] = {"reading every embedding once": lambda at: words[at].max()}
    return [
        *rows_of("memory limit", reading, dict.fromkeys(reading, n), {}, len(inputs)),
        *compare("first_representative", n, inputs, by_euds("first_representative"), {
            "Python loop": lambda: contenders.loop_representatives,
        }),
        *compare("connected_components", n, inputs, by_euds("connected_components"), {
            "SciPy, row by row": lambda: contenders.scipy_components,
        }),
    ]  # fmt: skip


def clusters(n: int) -> list[Row]:
    """Clustering entropy, clustering and search together, by one call each after a small one: a call takes long."""
    k = default_n_clusters(n)
    rng = np.random.default_rng(0)
    centres = rng.integers(0, k, n)
    embeddings = rng.standard_normal((k, WIDTH), np.float32)[centres]
    embeddings += 0.5 * rng.standard_normal((n, WIDTH), np.float32)
    functions: dict[str, contenders.ClusterFunction] = {
        "euds": _cluster,
        "MiniBatchKMeans, NumPy": contenders.mini_batch_cluster_entropy,
    }
    rows = []
    for name, function in functions.items():
        function(embeddings[:5000], 20, NEIGHBORS, TEMPERATURE)
        (entropy, nearest), timing, memory = once(functools.partial(function, embeddings, k, NEIGHBORS, TEMPERATURE))
        assert np.isfinite(entropy).all()
        # A cluster stands for the planted centre that most of its members have.
        purity = np.bincount(nearest * k + centres, minlength=k * k).reshape(k, k).max(1).sum() / n
        rows.append(row_of("cluster_entropy", name, n, timing, memory) | {"clusters": k, "purity": round(purity, 4)})
    return with_ratios(rows)


def pairs(n: int) -> list[Row]:
    """Directed pairs that an entailment model has to judge; the judge here costs nothing, so the time is the plan's."""
    rng = np.random.default_rng(0)
    meanings = rng.integers(0, 4, (n, GENERATIONS)).ravel()
    wordings = rng.integers(0, 6, n * GENERATIONS)
    samples = np.repeat(np.arange(n), GENERATIONS)
    texts = [f"{m} {w} {s}" for m, w, s in zip(meanings.tolist(), wordings.tolist(), samples.tolist(), strict=True)]
    offsets = np.arange(0, n * GENERATIONS + 1, GENERATIONS)

    def judge(premises: Any, hypotheses: Any) -> npt.NDArray[np.bool_]:
        return np.array([left[0] == right[0] for left, right in zip(premises, hypotheses, strict=True)], np.bool_)

    found = entailment_groups(texts, offsets, judge)
    planted_groups, _ = np.unique(samples * 10 + meanings, return_inverse=True)
    assert len(np.unique(samples * 10 + found.groups)) == len(planted_groups)
    calls: dict[str, Call] = {"euds": lambda at: entailment_groups(texts, offsets, judge)}
    (row,) = rows_of("entailment_groups", calls, {"euds": n}, {})
    counted = {"evaluated_pairs": found.n_evaluated, "all_pairs": found.n_all_pairs, "model_calls": found.n_rounds}
    return [{**row, **counted}]


PARTS: Mapping[str, tuple[Callable[[int], list[Row]], int]] = {
    "estimators": (estimators, 1_000_000),
    "similarities": (similarities, 50_000),
    "grouping": (grouping, 1_000_000),
    "clusters": (clusters, 1_000_000),
    "pairs": (pairs, 20_000),
}
"""What is measured: name -> function of the number of samples, and that number."""


def compare(
    op: str, n: int, inputs: list[Any], own: Function, others: Mapping[str, Callable[[], Function]]
) -> list[Row]:
    """Check and time euds on all rows and the others on `LOOP_ROWS` of them; an input is (values, offsets, ...)."""
    short = [_first_rows(given, min(n, LOOP_ROWS)) for given in inputs]
    checked = _first_rows(inputs[0], CHECKED_ROWS)
    expected = np.asarray(own(*checked))
    calls: dict[str, Call] = {"euds": lambda at: own(*inputs[at])}
    sizes, errors = {"euds": n}, {}
    for name, make in others.items():
        try:
            function = make()
        except NotHere as reason:
            print(f"{op}: left out {name}: {reason}", file=sys.stderr)
            continue
        errors[name] = float(np.abs(np.asarray(function(*checked)) - expected).max())
        if errors[name] > 1e-5:
            raise SystemExit(f"{op}: {name} and euds differ by {errors[name]}")
        calls[name] = functools.partial(_call, function, short)
        sizes[name] = min(n, LOOP_ROWS)
    return rows_of(op, calls, sizes, errors, len(inputs))


def rows_of(
    op: str, calls: Mapping[str, Call], sizes: Mapping[str, int], errors: Mapping[str, float], n_inputs: int = 1
) -> list[Row]:
    """Time the calls in turn, print a line each, and return a row each."""
    timings = interleave(calls, rounds=ROUNDS, n_inputs=n_inputs, device="cpu")
    return with_ratios(
        [
            row_of(op, name, sizes[name], timing, peak_memory_mib(calls[name], device="cpu"), errors.get(name))
            for name, timing in timings.items()
        ]
    )


def row_of(op: str, name: str, n: int, timing: Timing, memory_mib: float, difference: float | None = None) -> Row:
    """Return one result row, and print its line."""
    seconds = float(f"{1e6 * timing.p50 / n:.3g}")
    print(f"{op}, {name}: {seconds} s a million rows", file=sys.stderr)
    return {
        "op": op,
        "device": "cpu",
        "contender": name,
        "rows": n,
        **rates(timing, n / 1e3, "krows/s"),
        "seconds_per_million_rows": seconds,
        "peak_memory_mib": round(memory_mib, 1),
        "largest_difference": difference,
    }


def with_ratios(rows: list[Row]) -> list[Row]:
    """Return the rows with the rate of each over that of euds; None where euds does not take part."""
    own = next((row["p50"] for row in rows if row["contender"] == "euds"), None)
    return [{**row, "ratio_to_euds": own and float(f"{row['p50'] / own:.4g}")} for row in rows]


def once(call: Callable[[], Result]) -> tuple[Result, Timing, float]:
    """Return the result of one call, its time and the memory it takes."""
    results: list[Result] = []
    start = time.perf_counter()
    memory = peak_memory_mib(lambda at: results.append(call()), device="cpu")
    seconds = time.perf_counter() - start
    return results[0], Timing(seconds, seconds, seconds), memory


def planted(n: int, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Embeddings of n samples whose generations lie around up to 5 meanings, and offsets."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n * GENERATIONS, WIDTH), np.float32)
    rows *= 0.3
    meanings = rng.standard_normal((997, WIDTH), np.float32)
    of_sample = rng.integers(0, len(meanings), (n, 5))
    chosen = np.take_along_axis(of_sample, rng.integers(0, 5, (n, GENERATIONS)), 1).ravel()
    for start in range(0, len(rows), 65_536):
        rows[start : start + 65_536] += meanings[chosen[start : start + 65_536]]
    return rows, np.arange(0, n * GENERATIONS + 1, GENERATIONS)


def _by_euds(estimator: str) -> Function:
    weighed = estimator == "rao_blackwell"
    return lambda groups, offsets, logprobs: euds.semantic_entropy(
        groups, logprobs=logprobs if weighed else None, offsets=offsets, estimator=estimator
    )


def _call(function: Function, inputs: list[Any], at: int) -> Any:
    return function(*inputs[at])


def _cluster(embeddings: Float32Array, n_clusters: int, m: int, temperature: float) -> tuple[Float32Array, Int64Array]:
    """`euds.cluster_entropy` by its parts, so that the nearest centroids are seen too."""
    trained = embeddings[sample_rows(len(embeddings), trained_rows(n_clusters), 0)]
    centroids = fit_centroids(trained, n_clusters=n_clusters)
    return entropy_to_centroids(embeddings, centroids, n_neighbors=m, similarity_temperature=temperature)


def _first_rows(given: Any, n: int) -> Any:
    values, offsets, *rest = given
    stop = offsets[n]
    return (values[:stop], offsets[: n + 1], *(part[:stop] if isinstance(part, np.ndarray) else part for part in rest))


if __name__ == "__main__":
    main()
