"""Gather what a report shows from the files of a run directory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from euds.corpus import corpus_files, read_manifest, read_scores, take_rows
from euds.errors import InputError
from euds.files import has_kinds, read_json
from euds.ops.keep import tie_hash
from euds.progress import say
from euds.report.meanings import Group, Meanings, gather_meanings
from euds.selection.axes import ENTROPIES, score_columns, values_of
from euds.selection.describe import length_correlation, source_shift
from euds.study.types import rows_sha256
from euds.texts import joined
from euds.types import Float64Array, Int64Array

EXAMPLE_CHARS = 400
TITLES = {
    "information_entropy_nats": "information entropy",
    "surprisal_nats": "unigram surprisal",
    "generative_entropy_nats": "generative entropy",
    "generative_entropy_max_nats": "largest token entropy",
    "nll_nats": "negative log-likelihood",
    "varentropy_nats2": "varentropy",
    "semantic_entropy_nats": "semantic entropy",
    "semantic_samples_discrete_nats": "semantic entropy of generations, discrete",
    "semantic_samples_rao_blackwell_nats": "semantic entropy of generations, weighed",
    "semantic_samples_miller_madow_nats": "semantic entropy of generations, Miller-Madow",
    "semantic_samples_chao_shen_nats": "semantic entropy of generations, Chao-Shen",
    "semantic_samples_nearest_neighbor_nats": "nearest-neighbour entropy of generations",
    "semantic_samples_kernel_language_nats": "kernel language entropy of generations",
    "semantic_label_words_nats": "semantic entropy of the label words",
    "n_tokens": "length",
    "typicality_nats": "typicality",
}
UNITS = {"varentropy_nats2": "nats²", "n_tokens": "tokens"}


@dataclass(frozen=True)
class Sample:
    """A text with its scores, as the report prints it."""

    row_id: int
    text: str
    label: str | None
    source: str | None
    scores: Sequence[tuple[str, float]]


@dataclass(frozen=True, eq=False)
class Content:
    """Everything a report shows; selection and study are None before their steps have run.

    `study_is_older`: the run's selection has changed since the study; False where a study does not say of which it is.
    """

    run_dir: Path
    manifest: Mapping[str, Any]
    scores: pa.Table
    selection: Mapping[str, Any] | None
    study: Mapping[str, Any] | None
    study_is_older: bool
    kept: Int64Array
    samples_kept: Sequence[Sample]
    samples_dropped: Sequence[Sample]
    length_correlation: Mapping[str, float | None]
    rates: Mapping[str, Mapping[str, Mapping[str, float]]]
    shift: Mapping[str, Any] | None
    meanings: Meanings | None
    samples_grouped: Sequence[tuple[Sample, Sequence[Group]]]

    def values(self, column: str) -> Float64Array:
        """Return a score of all rows, NaN where there is none."""
        return values_of(self.scores, column)

    @property
    def columns(self) -> tuple[str, ...]:
        """The score columns of the run."""
        return score_columns(self.scores)

    @property
    def joint_axes(self) -> tuple[str, ...]:
        """The axes whose pairs are shown: the selection's, or the entropies of the run."""
        chosen = tuple(self.selection["axes"]) if self.selection else ()
        return chosen if len(chosen) > 1 else tuple(column for column in ENTROPIES if column in self.columns)

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """The selection's region per axis, in the axis' unit; empty if it has none or was made on residuals."""
        if self.selection is None or self.selection["adjust"]:
            return {}
        return {side["axis"]: (side["low"], side["high"]) for side in self.selection["bounds"]}


def gather(run_dir: Path, kept_ids: Int64Array | None, examples: int) -> Content:
    """Read a run directory.

    Args:
        run_dir: finished run.
        kept_ids: ids of the selected rows, or None without a selection.
        examples: texts to show of kept and of dropped rows each; none where the corpus has moved or changed.

    Raises:
        InputError: the run is not finished, or a file of it cannot be read.
    """
    manifest = read_manifest(run_dir)
    scores = read_scores(run_dir)
    ids = scores.column("row_id").to_numpy()
    is_kept = np.isin(ids, [] if kept_ids is None else kept_ids)
    usable = np.all([np.isfinite(values_of(scores, column)) for column in score_columns(scores)], axis=0)
    chosen, dropped = np.flatnonzero(is_kept), np.flatnonzero(usable & ~is_kept)
    pool = scores.filter(pa.array(usable | is_kept))
    selection = _optional(run_dir / "selection.json")
    study = _optional(run_dir / "study" / "table.json")
    if study is not None and not has_kinds(study, {"metrics": list, "methods": list}):
        raise InputError(
            f"{run_dir / 'study' / 'table.json'}: is no table of a study; delete it, or run the recipe again"
        )
    # The selection's own, of all rows that its rule could choose from.
    rates = {kind: selection and selection.get(f"keep_rate_by_{kind}") for kind in ("label", "source")}
    wanted = [_some(part, ids, examples if kept_ids is not None else 0) for part in (chosen, dropped)]
    meanings = gather_meanings(run_dir, manifest)
    grouped = np.array([], np.int64) if meanings is None else _some(meanings.grouped, ids, examples)
    texts = _texts(manifest, [int(ids[at]) for part in (*wanted, grouped) for at in part])
    if not texts:
        wanted, grouped = [part[:0] for part in wanted], grouped[:0]
    samples = [[_sample(scores, int(at), texts[int(ids[at])]) for at in part] for part in wanted]
    return Content(
        run_dir=run_dir,
        manifest=manifest,
        scores=scores,
        selection=selection,
        study=study,
        study_is_older=_is_older(study, kept_ids),
        kept=chosen,
        samples_kept=samples[0],
        samples_dropped=samples[1],
        length_correlation=length_correlation(pool),
        rates={kind: found for kind, found in rates.items() if found is not None},
        shift=source_shift(pool),
        meanings=meanings,
        samples_grouped=[
            (_sample(scores, int(at), texts[int(ids[at])]), groups)
            for at, groups in zip(grouped, meanings.groups_of(grouped) if meanings else [], strict=True)
        ],
    )


def title_of(column: str) -> str:
    """Return a column's name for readers."""
    return TITLES.get(column, column)


def unit_of(column: str) -> str:
    """Return a column's unit."""
    return UNITS.get(column, "nats")


def _optional(path: Path) -> Any:
    return read_json(path) if path.exists() else None


def _is_older(study: Mapping[str, Any] | None, kept_ids: Int64Array | None) -> bool:
    """Whether a study is of another selection than the run's; one of an earlier version does not say."""
    if study is None or "selection_sha256" not in study:
        return False
    return bool(study["selection_sha256"] != rows_sha256(kept_ids))


def _some(places: Int64Array, ids: Int64Array, count: int) -> Int64Array:
    """A sample that is the same in every report of the run."""
    order = np.argsort(tie_hash(ids[places], 0), kind="stable")
    return np.sort(places[order[:count]])


def _texts(manifest: Mapping[str, Any], row_ids: Sequence[int]) -> dict[int, str]:
    """Return the texts of rows; none, which is said, where the corpus is not what was scored."""
    wanted = set(row_ids)
    if not wanted:
        return {}
    fields = manifest["config"]["text_fields"]
    ids = sorted(wanted)
    try:
        files = corpus_files(dict(manifest))
    except InputError as error:
        say(f"warning: the report shows no texts: {error}")
        return {}
    rows = take_rows(files, ids, columns=fields)
    return {at: joined(str(row[field]) for field in fields) for at, row in zip(ids, rows, strict=True)}


def _sample(scores: pa.Table, at: int, text: str) -> Sample:
    shown = text if len(text) <= EXAMPLE_CHARS else text[:EXAMPLE_CHARS].rstrip() + " …"
    values = {column: scores.column(column)[at].as_py() for column in score_columns(scores)}
    return Sample(
        row_id=scores.column("row_id")[at].as_py(),
        text=shown,
        label=scores.column("label")[at].as_py(),
        source=scores.column("source")[at].as_py(),
        scores=[(title_of(column), values[column]) for column in ENTROPIES if values.get(column) is not None],
    )
