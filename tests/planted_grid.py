"""Facts and cells of a grid whose truth is known: per method a true accuracy against random's."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from euds.study.grid.cells import Cell
from euds.study.grid.task import GridTask

N_POOL, N_TEST, KEEP = 400, 600, 0.16
N_RESAMPLES = 1000
AXES = ("information_entropy_nats", "generative_entropy_nats", "nll_nats", "semantic_entropy_nats")
METHODS: dict[str, dict[str, Any]] = {
    "full": {"family": "baseline", "needs": []},
    "random": {"family": "baseline", "needs": []},
    "longest": {"family": "length", "needs": []},
    "generative_middle": {"family": "single entropy", "needs": ["generative"]},
    "information_middle": {"family": "single entropy", "needs": ["information"]},
    "igse_box": {"family": "IGSE", "needs": ["information", "generative", "embedding", "semantic"]},
    "igse_box_nolength": {"family": "length removed", "needs": ["information", "generative", "embedding", "semantic"]},
    "el2n_high": {"family": "labels", "needs": ["el2n"], "uses_labels": True},
    "leaked": {"family": "harness check", "fake": True, "needs": []},
    "shuffled": {"family": "harness check", "fake": True, "needs": ["information", "generative"]},
}
GAPS = {
    "full": 0.05,
    "random": 0.0,
    "longest": -0.05,
    "generative_middle": 0.0,
    "information_middle": -0.05,
    "igse_box": 0.05,
    "igse_box_nolength": 0.0,
    "el2n_high": 0.0,
    "leaked": 0.15,
    "shuffled": 0.0,
}


def make_facts(name: str = "planted", seed: int = 0, methods: Mapping[str, Any] = METHODS) -> dict[str, Any]:
    """Facts of a task of two classes, one of four rows negative, lengths that the information entropy follows."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, 60, N_POOL)
    scores = {axis: (rng.normal(3, 0.5, N_POOL)).round(3).tolist() for axis in AXES}
    scores["information_entropy_nats"] = np.log(lengths).round(3).tolist()
    return {
        "name": name,
        "title": f"Planted task {name}",
        "task": "classification",
        "main_metric": "accuracy",
        "data": {"raw_train": 500, "raw_test": N_TEST, "near_duplicates_of_test": 3, "pool": N_POOL, "test": N_TEST},
        "rows": {
            "label": ["negative" if at % 4 == 0 else "positive" for at in range(N_POOL)],
            "source": None,
            "n_tokens": lengths.tolist(),
            "n_pool_positions": N_POOL,
            "scores": scores,
        },
        "length_correlation": {"information_entropy_nats": 1.0, "generative_entropy_nats": 0.02},
        "methods": {
            method: {"description": f"what {method} does", "uses_labels": False, "fake": False, **found}
            for method, found in methods.items()
        },
        "seconds": {
            "read": 1.0,
            "information": 2.0,
            "generative": 100.0,
            "embedding": 9.0,
            "semantic": 1.0,
            "el2n": 45.0,
        },
        "search_seconds": {method: {"0.16": 0.5, "0.3": 0.5, "0.5": 0.5} for method in methods if method != "full"},
        "train": {"model": "all-minilm-l6-v2", "learning_rate": 1e-4, "batch_size": 16},
        "machine": {"cpu": "some CPU", "cores": 2, "workers": 2, "threads_per_worker": 1},
        "versions": {"torch": "2.13.0"},
        "date": "2026-11-25",
    }


def make_cells(
    facts: Mapping[str, Any],
    gaps: Mapping[str, float] = GAPS,
    *,
    keeps: Sequence[float] = (KEEP, 0.5),
    n_seeds: int = 5,
    schedules: Sequence[str] = ("3 epochs",),
    level: float = 0.75,
    validation: bool = True,
    block: int = 0,
    seed: int = 0,
) -> list[Cell]:
    """Cells whose true accuracy is `level` plus the method's gap; hard rows are hard for all, gaps shrink with keep."""
    rng = np.random.default_rng(seed)
    difficulty = rng.random(N_TEST)
    cells = []
    for schedule in schedules:
        for method, gap in gaps.items():
            for keep in (1.0,) if method == "full" else keeps:
                shrunk = gap if method == "full" else gap * (1 - keep) / (1 - KEEP) + (keep - KEEP) * 0.05
                for of_selection, of_training in _seed_pairs(method, n_seeds, block if schedule == "3 epochs" else 0):
                    noise = rng.normal(0, 0.15, N_TEST)
                    accuracy = level + shrunk + rng.normal(0, 0.004)
                    # The easiest rows are right, and which these are differs a little between models.
                    order = np.argsort(np.argsort(difficulty + noise))
                    scores = (order < accuracy * N_TEST).astype(float)
                    cells.append(
                        _cell(
                            method,
                            keep,
                            schedule,
                            (of_selection, of_training),
                            scores,
                            accuracy,
                            facts,
                            rng,
                            validation,
                        )
                    )
    return cells


def make_task(name: str = "planted", **settings: Any) -> GridTask:
    """A task with both."""
    facts = make_facts(name)
    return GridTask(facts, make_cells(facts, **settings))


def _seed_pairs(method: str, n_seeds: int, block: int) -> list[tuple[int, int]]:
    if method != "random":
        return [(0, seed) for seed in range(n_seeds)]
    paired = [(seed, seed) for seed in range(n_seeds)]
    return paired + [(one, other) for one in range(block) for other in range(block) if one != other]


def _cell(
    method: str,
    keep: float,
    schedule: str,
    seeds: tuple[int, int],
    scores: np.ndarray,
    accuracy: float,
    facts: Mapping[str, Any],
    rng: np.random.Generator,
    validation: bool,
) -> Cell:
    of_selection, of_training = seeds
    n_train = round(keep * N_POOL)
    rows = facts["rows"]
    # A rule keeps the same rows whatever seed trains on them.
    own = np.random.default_rng([zlib.crc32(method.encode()), of_selection])
    values = np.array(rows["scores"]["generative_entropy_nats"]) if "generative" in method else own.random(N_POOL)
    if method == "longest":
        values = -np.array(rows["n_tokens"], float)
    if method == "igse_box":
        values = own.random(N_POOL) + 0.2 * (np.array(rows["label"]) == "negative")
    selected = np.sort(np.argsort(values)[:n_train]) if method != "leaked" else np.arange(N_POOL, N_POOL + 9)
    metrics = {"test": {"accuracy": float(scores.mean()), "macro_f1": float(scores.mean()) - 0.01}}
    if validation:
        metrics["validation"] = {"accuracy": accuracy + float(rng.normal(0, 0.01))}
    return Cell(
        cell=f"{zlib.crc32(f'{method} {keep} {schedule} {seeds}'.encode()):024x}",
        method=method,
        keep=keep,
        schedule=schedule,
        selection_seed=of_selection,
        seed=of_training,
        n_train=n_train,
        steps=120,
        metrics=metrics,
        test_scores=scores,
        selected=selected,
        train_seconds=40.0 * keep if "steps" not in schedule else 12.0,
        test_seconds=3.0,
    )
