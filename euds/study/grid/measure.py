"""Measure the pool of a study, once: entropies, embeddings, and the two scores that look at labels."""

import time
import warnings
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from euds.assets import content_sha256, tokenizer_sha256
from euds.corpus import read_manifest, read_scores, scored_inputs
from euds.engine.score import score
from euds.errors import InputError
from euds.files import (
    has_json_lines,
    json_line,
    json_lines_sha256,
    json_sha256,
    read_json,
    write_array,
    write_json,
    write_json_lines,
)
from euds.measures.models import model_folder
from euds.pipeline.methods import fully_scored
from euds.selection.features import embed_texts
from euds.selection.trainee import Trainee
from euds.study.grid.config import StudyFile
from euds.study.grid.pool import StudyPool
from euds.study.grid.splits import Splits, whole_text
from euds.study.types import CLASSIFICATION
from euds.types import Float32Array, Float64Array, Int64Array

POOL = Path("data") / "pool.jsonl"
"""Where a study's folder has the rows that are scored."""

FOLDS = 5
EL2N_SEEDS = 3


@dataclass(frozen=True, eq=False)
class Measured:
    """A pool with all that its methods look at, the seconds of every stage by name, and the threads that took them."""

    pool: StudyPool
    seconds: Mapping[str, float]
    threads: int


def measure(study: StudyFile, splits: Splits, needs: Set[str]) -> Measured:
    """Score the pool into `study.out`/scores and add what selection needs beyond; the same call again is instant.

    Args:
        study: its file.
        splits: its rows.
        needs: stages that its methods pay for; models are trained for EL2N only if it is among them.

    Raises:
        InputError: a model is missing, `study.out` has another pool, or a row has no score (a study compares methods on
            rows that have all of them).
    """
    out = Path(study.out)
    task = study.settled_task
    score(
        write_json_lines(out / POOL, pool_lines(study, splits)),
        out=out / "scores",
        **study.score_arguments,
    )
    manifest = read_manifest(out / "scores")
    scores = fully_scored(read_scores(out / "scores"))
    if scores.num_rows < len(splits.pool):
        missing = len(splits.pool) - scores.num_rows
        raise InputError(f"{out / 'scores'}: {missing} rows have no score; quarantine.jsonl there says why; drop them")
    seconds = dict(manifest["seconds"])
    embeddings = _embeddings(out, [whole_text(row, task.text_fields) for row in splits.pool], manifest)
    labels, surprisal, el2n = None, None, None
    if task.kind == CLASSIFICATION:
        names = sorted({str(row[task.label_field]) for row in splits.pool})
        labels = np.array([names.index(str(row[task.label_field])) for row in splits.pool])
        if "label_surprisal" in needs:
            start = time.perf_counter()
            surprisal = label_surprisal(embeddings, labels, seed=study.data.seed)
            seconds["label_surprisal"] = time.perf_counter() - start
        if "el2n" in needs:
            el2n, seconds["el2n"] = _el2n(study, splits, labels)
    pool = StudyPool(
        scores=scores,
        embeddings=embeddings,
        # Questions about one passage are no repetitions of each other.
        texts=[str(row[task.text_fields[0]]) for row in splits.pool],
        trainee=_trainee(embeddings, labels, study.score.embedder),
        label_surprisal=surprisal,
        el2n=el2n,
        n_test=len(splits.test),
    )
    # On a GPU no thread of the CPU is what is paid for.
    threads = manifest["device"]["torch_threads"] if manifest["device"]["name"] == "cpu" else 1
    return Measured(pool, {name: round(value, 3) for name, value in seconds.items()}, threads)


def pool_lines(study: StudyFile, splits: Splits) -> list[str]:
    """Return the pool as lines of JSON, as it is scored.

    Raises:
        InputError: `study.out` has the scores of another pool, or a pool that is of no scores.
    """
    lines, scored = [json_line(row) for row in splits.pool], scored_inputs(Path(study.out) / "scores")
    path = Path(study.out) / POOL
    if not scored and path.exists() and not has_json_lines(path, lines):
        raise InputError(f"{path}: holds other rows and is of no run; choose another out, or move the file away")
    if scored and json_lines_sha256(lines) not in scored.values():
        # Written over, the rows that the scores belong to would be gone.
        raise InputError(
            f"out: {study.out} has the scores of other rows than {study.data.train} gives now; choose another out, "
            "undo the change of the data, or delete the folder to start over"
        )
    return lines


def label_surprisal(embeddings: Float32Array, labels: Int64Array, *, seed: int) -> Float64Array:
    """Return -ln p(label | embedding) by logistic regression, out of fold, (n,) nats >= 0.

    Five folds, or fewer if no class has five rows. A class that the probe of a fold has not seen has the smallest
    probability of float64. Source: docs/method.md, "Label surprisal" (Ethayarajh et al. 2022).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    n_folds = min(FOLDS, int(np.bincount(labels).max()))
    if n_folds < 2:
        raise InputError("label surprisal: no label of the pool stands twice; is data.label_field the right one?")
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    probability = np.zeros(len(labels))
    with warnings.catch_warnings():
        # A class of fewer rows than folds is absent from some of them, as it must be.
        warnings.filterwarnings("ignore", "The least populated class")
        parts = list(folds.split(embeddings, labels))
    for fit, held_out in parts:
        if len(np.unique(labels[fit])) == 1:
            # A probe that has met one class only has no doubt.
            probability[held_out] = labels[held_out] == labels[fit][0]
            continue
        probe = LogisticRegression(C=10.0, max_iter=1000).fit(embeddings[fit], labels[fit])
        said = probe.predict_proba(embeddings[held_out])
        known = {int(name): at for at, name in enumerate(probe.classes_)}
        for line, at in enumerate(held_out):
            place = known.get(int(labels[at]))
            probability[at] = 0.0 if place is None else said[line, place]
    surprisal: Float64Array = -np.log(np.maximum(probability, np.finfo(np.float64).tiny))
    return surprisal


def _trainee(embeddings: Float32Array, labels: Int64Array | None, embedder: str) -> Trainee | None:
    if labels is None:
        return None
    return Trainee(np.arange(len(labels)), embeddings, labels, f"embeddings by {embedder}")


def _embeddings(out: Path, texts: Sequence[str], manifest: Mapping[str, Any]) -> Float32Array:
    """Return unit-norm embeddings, kept beside the scores; their cost is that of the stage `embedding` of scoring."""
    facts = manifest["models"]["embedder"]
    # Where a model lies decides nothing.
    decisive = {key: value for key, value in facts.items() if key != "folder"}
    path = out / f"embeddings-{json_sha256([list(texts), decisive])[:16]}.npy"
    if path.exists():
        kept: Float32Array = np.load(path, allow_pickle=False)
        return kept
    found = embed_texts(texts, facts, manifest["config"])
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    unit: Float32Array = (found / np.maximum(norms, np.finfo(np.float32).tiny)).astype(np.float32)
    write_array(path, unit)
    return unit


def _el2n(study: StudyFile, splits: Splits, labels: Int64Array) -> tuple[Float64Array, float]:
    """Return the mean over seeds of |p - onehot(label)| after one epoch on the pool, and what that took.

    Source: Paul et al. 2021, "Deep Learning on a Data Diet", EL2N; three seeds instead of ten.
    """
    config = study.train.config(epochs=1.0, steps=None)
    folder, label = model_folder(study.train.model), study.settled_task.label_field
    decisive = [list(splits.pool), label, config.to_json(), content_sha256(folder), tokenizer_sha256(folder)]
    key = json_sha256([*decisive, EL2N_SEEDS])[:16]
    path = Path(study.out) / f"el2n-{key}.json"
    if not path.exists():
        # Loads torch and transformers; a study that is only read never gets here.
        from euds.study.cell import class_probabilities

        start = time.perf_counter()
        task = study.settled_task
        onehot = np.eye(int(labels.max()) + 1)[labels]
        norms = []
        for seed in range(EL2N_SEEDS):
            title = f"EL2N, seed {seed}"
            said = class_probabilities(splits.pool, task=task, config=config, seed=1000 + seed, title=title)
            norms.append(np.linalg.norm(said - onehot, axis=1))
        write_json(path, {"seconds": time.perf_counter() - start, "el2n": np.mean(norms, axis=0).tolist()})
    kept = read_json(path)
    return np.array(kept["el2n"]), float(kept["seconds"])
