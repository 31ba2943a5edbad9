"""What a study's page needs besides its cells: the pool's scores and labels, the methods, seconds, models, machine."""

import json
import os
import platform
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from euds.assets import content_sha256, tokenizer_sha256
from euds.files import write_atomic
from euds.measures.models import model_folder
from euds.measures.parameters import parameter_count, parameters_met
from euds.ops.keep import parse_keep
from euds.selection.axes import AXES
from euds.selection.describe import spearman
from euds.selection.rules import VALIDATED
from euds.study.grid.choices import IGSE_AXES
from euds.study.grid.config import Planned, StudyFile
from euds.study.grid.execute import ONE_THREAD
from euds.study.grid.measure import Measured
from euds.study.grid.methods import METHODS
from euds.study.grid.pool import StudyPool
from euds.study.grid.splits import Splits
from euds.study.grid.task import UNKNOWN
from euds.study.types import CLASSIFICATION, LEARNING_RATE, METRICS
from euds.types import Float64Array

SHOWN_AXES = ("information", "surprisal", "generative", "nll", "varentropy", "semantic")
DIGITS = 6
PLACE = ("machine", "date")
"""The facts that say where and when the seconds were measured."""


def facts_of(
    study: StudyFile, splits: Splits, measured: Measured, planned: Sequence[Planned], workers: int
) -> dict[str, Any]:
    """Return the facts of a study as plain JSON types; texts are no part of them.

    Args:
        study: its file.
        splits: its rows.
        measured: its pool.
        planned: its cells.
        workers: processes that train side by side.
    """
    pool = measured.pool
    scores = _scores(pool)
    rows = _rows(study, splits, pool, scores)
    return {
        "name": study.name,
        "title": study.title,
        "task": study.task,
        "main_metric": METRICS[study.task][0],
        "data": _data(study, splits),
        "rows": rows,
        "length_correlation": {name: spearman(values, pool.n_tokens) for name, values in scores.items()},
        "methods": _methods(classes=study.task == CLASSIFICATION, sources=rows["source"] or ()),
        "seconds": dict(measured.seconds),
        **_searches(pool, planned),
        "train": {
            **study.train.model_dump(),
            "learning_rate": study.train.learning_rate or LEARNING_RATE[study.task],
            **_parameters("parameters", study.train.model),
            **_parameters_met(study.train.model),
            "tokenizer_sha256": tokenizer_sha256(model_folder(study.train.model)),
        },
        "scoring_model": {
            "lm": study.score.lm,
            **_parameters("lm_parameters", study.score.lm),
            "embedder": study.score.embedder,
            **_parameters("embedder_parameters", study.score.embedder),
            "max_tokens": study.score.max_tokens,
            **scorer_hashes(study),
        },
        "machine": {
            "cpu": processor(),
            "cores": os.cpu_count(),
            "workers": workers,
            "threads_per_worker": ONE_THREAD,
            "scoring_threads": measured.threads,
        },
        "versions": {name: version(name) for name in ("euds", "torch", "transformers", "faiss-cpu", "scikit-learn")},
        "date": datetime.now(UTC).date().isoformat(),
    }


def scorer_hashes(study: StudyFile) -> dict[str, str]:
    """Return hashes of each scoring model's weights and configuration, and of its tokenizer, as the facts name them."""
    folders = {role: model_folder(name) for role, name in (("lm", study.score.lm), ("embedder", study.score.embedder))}
    weights = {f"{role}_sha256": content_sha256(folder) for role, folder in folders.items()}
    return weights | {f"{role}_tokenizer_sha256": tokenizer_sha256(folder) for role, folder in folders.items()}


def continued(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a study that goes on, with the seconds, scores, machine and date of its beginning.

    Trainings are timed when they are done, most of them then: seconds of another machine, or of a busy day, could not
    be set against them; nor could its scores and what `validated` found, which differ in their last bits, be set beside
    rows that the first ones chose. What was not known then is taken from now, but for machine and date; `went_on` has
    the later machines with the day of each.
    """
    searches = {name: dict(found) for name, found in now["search_seconds"].items()}
    for name, found in before.get("search_seconds", {}).items():
        searches[name] = {**searches.get(name, {}), **found}
    first, today = (f"{facts.get('machine', {}).get('cpu')}, {facts.get('date')}" for facts in (before, now))
    later = dict.fromkeys([*before.get("went_on", []), today])
    # The machine of now is not that of the seconds: of one that was not written down nothing is said.
    place = {name: before[name] for name in PLACE if name in before}
    return {
        **{name: value for name, value in now.items() if name not in PLACE or name in place},
        "seconds": {**now["seconds"], **before["seconds"]},
        "search_seconds": searches,
        "validated": {**now["validated"], **before.get("validated", {})},
        "rows": {**now["rows"], "scores": {**now["rows"]["scores"], **before["rows"].get("scores", {})}},
        "length_correlation": {**now["length_correlation"], **before["length_correlation"]},
        **place,
        "went_on": [day for day in later if day != first],
    }


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Write facts as JSON with a line for each of them: thousands of scores need no lines of their own."""
    lines = (
        f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}" for name, value in facts.items()
    )
    content = "{\n" + ",\n".join(lines) + "\n}\n"
    write_atomic(path, lambda handle: handle.write(content.encode()))


def _scores(pool: StudyPool) -> dict[str, Float64Array]:
    """Every score of the pool that a page may draw."""
    scores = {AXES[axis]: pool.values(axis) for axis in SHOWN_AXES if AXES[axis] in pool.scores.column_names}
    of_labels = {"label_surprisal_nats": pool.label_surprisal, "el2n": pool.el2n}
    return scores | {name: values for name, values in of_labels.items() if values is not None}


def _data(study: StudyFile, splits: Splits) -> dict[str, Any]:
    data: dict[str, Any] = {**splits.counts, "train_file": study.data.train, "test_file": study.data.test}
    if study.data.classes is not None:
        data["classes"] = ", ".join(study.data.classes)
    if study.data.passage_words is not None:
        data["passage_words"] = study.data.passage_words
    return data


def _rows(study: StudyFile, splits: Splits, pool: StudyPool, scores: Mapping[str, Float64Array]) -> dict[str, Any]:
    task, source = study.settled_task, study.data.source_field
    classes = task.kind == CLASSIFICATION
    return {
        "n_pool_positions": len(pool),
        "label": [str(row[task.label_field]) for row in splits.pool] if classes else None,
        "source": [str(row.get(source)) for row in splits.pool] if source else None,
        "n_tokens": [round(float(value)) for value in pool.n_tokens],
        "scores": {name: [_rounded(value) for value in values] for name, values in scores.items()},
    }


def _methods(*, classes: bool, sources: Collection[str]) -> dict[str, Any]:
    """Describe the methods that a task with or without classes, and with these sources, can have."""
    return {
        name: {
            "family": method.family,
            "description": method.description,
            "uses_labels": method.uses_labels,
            "needs": list(method.needs),
            "fake": method.fake,
        }
        for name, method in METHODS.items()
        if (classes or not method.needs_classes) and (method.source is None or method.source in sources)
    }


def _searches(pool: StudyPool, planned: Sequence[Planned]) -> dict[str, Any]:
    """Time the search of every method at every budget of the grid, and tell what `validated` found and tried."""
    seconds: dict[str, dict[str, float]] = {}
    records = {}
    for name, keep in dict.fromkeys((cell.method, cell.keep) for cell in planned):
        if METHODS[name].fake:
            continue
        budget = parse_keep(keep, len(pool))
        # Without what an earlier method has found of the pool, which would come for nothing.
        own = replace(pool)
        start = time.perf_counter()
        if name == VALIDATED:
            records[f"{keep:g}"] = own.choose(budget, VALIDATED, IGSE_AXES, seed=0).record["validated"]
        else:
            METHODS[name].choose(own, budget, 0)
        seconds.setdefault(name, {})[f"{keep:g}"] = round(time.perf_counter() - start, 4)
    return {"search_seconds": seconds, "validated": records}


def _parameters(name: str, model: str) -> dict[str, int]:
    """Count the weights of a model by its safetensors files; nothing where it has none."""
    total = parameter_count(model_folder(model))
    return {} if total is None else {name: total}


def _parameters_met(model: str) -> dict[str, int]:
    """Count the weights of an encoder that every token meets, which its seconds of training go with."""
    met = parameters_met(model_folder(model), causal=False)
    return {} if met is None else {"parameters_met": met}


def _rounded(value: float) -> float:
    """Round to six significant digits: enough to see, and half the file."""
    return float(f"{value:.{DIGITS}g}")


@cache
def processor() -> str:
    """Return the name of this machine's processor, and GPU where it trains on one, as facts and cells record it."""
    import torch

    name = _cpu(Path("/proc/cpuinfo"))
    return f"{name} + {torch.cuda.get_device_name()}" if torch.cuda.is_available() else name


def _cpu(cpuinfo: Path) -> str:
    """Return the processor's name by Linux and what tells those of one name apart; without one its kind, as unknown.

    A name such as "Intel(R) Xeon(R) Processor", as virtual machines have it, stands for several that round differently.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    # Of the first core.
    first = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    if "model name" not in first:
        return f"{UNKNOWN} ({platform.processor() or platform.machine()})"
    kind = [f"{key.removeprefix('cpu ')} {first[key]}" for key in ("cpu family", "model", "stepping") if key in first]
    return f"{first['model name']} ({', '.join(kind)})" if kind else first["model name"]
