"""`euds.select`: choose rows of a scored run, write them and the record of the choice."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from euds.corpus import check_fields, corpus_files, read_manifest, read_scores, run_folder, take_rows
from euds.errors import InvalidArgument, check_seed, instance_of, whole_number
from euds.ops.keep import Keep, parse_keep
from euds.selection.choose import check_choice, check_group, choose, groups_by, rows_of_rule
from euds.selection.coverage import MAX_FACILITY_ROWS
from euds.selection.curves import KeepChoice, check_margin, find_keep, fractions_of
from euds.selection.features import RunTexts
from euds.selection.fields import corpus_columns, fields_of
from euds.selection.placing import place_selection
from euds.selection.rows import REPEATED, RowWriter, output_path, score_names, with_scores
from euds.selection.rules import COVERAGE_RULES, REGIONLESS_RULES, VALIDATED, named, warn_of_one_row
from euds.selection.trainee import Trainee, split_by_label
from euds.types import Int64Array, ScoreResult, Selection

AUTO = "auto"
DEFAULT_MARGIN = 0.005
OF_EVERY_RUN = ("row_id", "label", "source", "n_tokens")
"""Columns of the scores of every run."""

DEFAULT_STABILITY = 100
"""Pools resampled for the stability of the region: half a second for three axes, whatever the number of rows."""


def select(
    run_dir: str | Path | ScoreResult,
    *,
    keep: Keep,
    rule: str = "auto",
    axes: Sequence[str] | None = None,
    seed: int = 0,
    group_by: str | None = None,
    adjust: str | None = None,
    bins: int | None = None,
    stability: int | None = None,
    margin: float | None = None,
    out: str | Path | None = None,
    columns: Sequence[str] | None = None,
    texts: RunTexts | None = None,
    scores: pa.Table | None = None,
    dry_run: bool = False,
) -> Selection:
    """Choose rows of a scored run; nothing is scored again. Source of the rules: docs/method.md, "Intervals".

    Rules on one axis: "low", "middle", "high" (ranks), "densest" (shortest interval of values). On several: "igse" (the
    smallest box over information, generative and semantic entropy), "box" (over one to three axes of choice),
    "intersection" (the same central quantile on every axis), "typical" (smallest |nll - generative entropy|). Without:
    "random", "longest", "shortest" (tokens). On embeddings by the run's own encoder instead of scores, so that the rows
    kept cover the pool: "facility" (facility location, at most 20,000 rows) and "k_center".

    "auto" takes what the study of this project found best over its tasks without labels:
    * of one text field "facility", if the run has an encoder and at most 20,000 rows, else "random";
    * of two "middle" of generative entropy, if that is scored and does not follow the length, else "random".
    "validated" uses labels: it takes the interval or box on whose rows a cheap probe does best on a validation split.
    `keep="auto"` uses labels too.

    Args:
        run_dir: finished run directory of `euds.score`, or what that returned.
        keep: fraction in (0, 1] (float) or number (int) of the rows that have the scores which the rule looks at, or
            all scores of the run if it looks at none, so that rules compare: 1.0 keeps all of them, 1 one row. "auto":
            the smallest fraction on which the probe loses at most `margin`, by learning curves; everything if none.
        rule: see above.
        axes: "information", "surprisal", "generative", "generative_max", "nll", "varentropy", "semantic",
            "label_words", "samples_NAME" by an estimator of `euds.SampleSettings` ("samples_discrete"), or columns.
        seed: of ties, trimming and `random`; the same seed keeps the same rows.
        group_by: "label" or "source": the same rule inside each group, budgets in proportion to its rows.
        adjust: "log_length": replace each axis by its residual on ln(n_tokens) first; bounds are then of residuals.
        bins: equal-mass bins per axis, of rules that search a box ("igse", "box", "validated"); None: 64. "validated"
            searches its boxes on at most 32.
        stability: pools to resample for the spread of the bounds and the overlap of the regions, if the rule has one;
            None: 100, and 0 with `group_by`, where every group takes as many.
        margin: loss of accuracy against the full pool that counts as none, for `keep="auto"` alone; None: 0.005.
        out: file of the kept rows, .parquet, .jsonl or .jsonl.gz by its suffix; `run_dir`/selected.parquet if None. A
            run directory that may only be read takes another one.
        columns: fields of the corpus to copy; a single one may stand alone, as of `axes`; None: all.
        texts: embeddings and features of the run's rows, where a rule or `keep="auto"` needs them; read if None.
        scores: the run's rows to choose among, in any order, with all columns of `read_scores`; all if None.
        dry_run: choose, and write nothing: the record then lacks what concerns a file of rows.

    Returns:
        The kept row ids and the record that `run_dir`/selection.json holds until the next selection; beside another
        `out` it stays as `out`.selection.json, and in Parquet under the key "euds.selection" of its metadata, without
        seconds. The file has the fields of the corpus under their own names and the scores; a score whose name a copied
        field has is prefixed with "euds_", again if that name is used, too. The scores' id, label and source are left
        out where they repeat the copied field of that name, and prefixed where the corpus has another one of that name,
        copied or not. Fields of which no type holds all values are text: ids, labels and sources as they were scored,
        other strings, numbers and truth values as they are, the rest as JSON; the record tells which.

    Raises:
        InvalidArgument: an argument is impossible.
        InputError: the run is missing or unfinished, its corpus has changed, a score, group or field is not there, or
            labelled rows are too few for "validated" or `keep="auto"`.
        InvalidType: names, or a path, are of another type.
    """
    # An iterator would be used up by the first look.
    axes = named("axes", axes)
    settings: dict[str, Any] = {"axes": axes, "group_by": group_by, "adjust": adjust, "bins": bins}
    check_choice(keep=1.0 if keep == AUTO else keep, rule=rule, **settings)
    if keep != AUTO:
        warn_of_one_row(keep)
    seed = check_seed("seed", seed)
    if keep == AUTO:
        margin = check_automatic(rule, DEFAULT_MARGIN if margin is None else margin)
    elif margin is not None:
        raise InvalidArgument("margin: is of keep 'auto'; leave it out")
    stability = _stability_of(rule, stability, group_by)
    columns = named("columns", columns)
    folder = run_folder(run_dir)
    manifest = read_manifest(folder)
    files = corpus_files(manifest)
    path = output_path(folder, out, files, dry_run=dry_run)
    if columns is not None:
        check_fields(files, columns)
    scores = read_scores(folder) if scores is None else _in_order(scores, manifest["counts"]["rows"])
    if group_by is not None:
        check_group(scores, group_by, manifest["config"][f"{group_by}_field"])
    texts = RunTexts(manifest, files, scores) if texts is None else texts
    uses_labels = keep == AUTO or rule == VALIDATED
    if uses_labels or texts.covers(rule):
        _check_pool(scores, keep, rule, axes, group_by)
    if uses_labels:
        check_splittable(texts.labels, seed, n_rows=scores.num_rows if keep == AUTO else None)
    if texts.covers(rule):
        settings |= {"embedded": texts.embedded}
    settings |= {"pairs": texts.pairs}
    trainee = texts.trainee if uses_labels else None
    found = None
    if trainee is not None and margin is not None:
        found = find_keep_of(rule, trainee, scores, settings, margin=margin, seed=seed)
        keep = found.keep or 1.0
    selection = choose(scores, keep=keep, rule=rule, seed=seed, stability=stability, trainee=trainee, **settings)
    record = {**selection.record, "keep_auto": None if found is None else found.to_record()}
    record |= {"uses_labels": uses_labels or group_by == "label", "config_sha256": manifest["config_sha256"]}
    record["n_left_out"] = manifest["counts"]["rows"] - selection.n_rows
    if dry_run:
        return replace(selection, record=record)
    kept = scores.filter(pc.is_in(scores.column("row_id"), value_set=pa.array(selection.row_ids)))
    rows = take_rows(files, selection.row_ids.tolist(), columns=columns)
    names = list(dict.fromkeys(name for row in rows for name in row)) if columns is None else columns
    fields, as_text = corpus_columns(rows, fields_of(names, files), _carried(manifest["config"], kept))
    called = score_names(kept.column_names, manifest["config"], fields, files)

    def fill(writer: RowWriter) -> dict[str, Any]:
        writer.write(with_scores(fields, kept, called))
        return {**record, "fields_as_text": as_text}

    return replace(selection, record=place_selection(folder, path, fields, fill))


def _in_order(scores: pa.Table, n_rows: int) -> pa.Table:
    """Check rows to choose among, of a run of `n_rows`, and return them in the order of the corpus.

    Raises:
        InvalidArgument: a column of every run is not there, or a row is of no such run, or there twice.
        InvalidType: they are no table of pyarrow.
    """
    instance_of("scores", scores, pa.Table, "a pyarrow.Table, as euds.read_scores gives it")
    missing = next((name for name in OF_EVERY_RUN if name not in scores.column_names), None)
    if missing is not None:
        raise InvalidArgument(f"scores: have no column {missing}; give rows of euds.read_scores with all their columns")
    scores = scores.sort_by("row_id")
    ids = scores.column("row_id")
    row_ids = ids.to_numpy()
    if ids.null_count or not np.issubdtype(row_ids.dtype, np.integer):
        raise InvalidArgument("scores: a row_id is no integer; give rows of euds.read_scores")
    if len(row_ids) and not 0 <= row_ids[0] <= row_ids[-1] < n_rows:
        raise InvalidArgument(
            f"scores: have row ids {row_ids[0]} to {row_ids[-1]}, and the run has rows 0 to {n_rows - 1}"
        )
    twice = row_ids[1:][row_ids[1:] == row_ids[:-1]]
    if len(twice):
        raise InvalidArgument(f"scores: have row {twice[0]} twice; give each row once")
    return scores


def _stability_of(rule: str, stability: int | None, group_by: str | None) -> int:
    """Return the pools to resample."""
    if stability is None:
        return DEFAULT_STABILITY if group_by is None else 0
    stability = whole_number("stability", stability, least=0)
    if stability and rule in REGIONLESS_RULES:
        raise InvalidArgument(f"stability: rule {rule!r} finds no region that could be stable; leave it out")
    return stability


def check_automatic(rule: str, margin: float) -> float:
    """Refuse `keep="auto"` where it is impossible, and return the margin as Python's float.

    Raises:
        InvalidArgument: the rule searches by labels itself, or the margin is out of its range.
    """
    if rule == VALIDATED:
        raise InvalidArgument("keep: 'auto' needs a rule that does not search by labels itself; name another rule")
    return check_margin(margin)


def check_splittable(labels: Int64Array, seed: int, *, n_rows: int | None) -> None:
    """Refuse labels that no validation split could be made of, before anything is embedded.

    Args:
        labels: (n,) class codes, -1 where a row has none.
        seed: of the split.
        n_rows: rows of the pool, where learning curves are to be drawn for `keep="auto"`.

    Raises:
        InputError: there are too few rows, or too few of too few classes.
    """
    if n_rows is not None:
        fractions_of(n_rows)
    split_by_label(labels, seed)


def _check_pool(scores: pa.Table, keep: Keep, rule: str, axes: Sequence[str] | None, group_by: str | None) -> None:
    """Refuse what no rows of the run could satisfy, before their texts are embedded.

    Raises:
        InvalidArgument: `keep` is more than there are, or there are too many for the rule.
        InputError: the run lacks a score or group that is asked for.
    """
    if rule not in COVERAGE_RULES:
        rows_of_rule(scores, rule, axes)
    if keep != AUTO:
        parse_keep(keep, scores.num_rows)
    sizes = [scores.num_rows] if group_by is None else [len(rows) for _, rows in groups_by(scores, group_by)]
    check_coverage(rule, max(sizes), group_by)


def check_coverage(rule: str, n_rows: int, group_by: str | None) -> None:
    """Refuse a pool, or a largest group, that facility location cannot compare all pairs of.

    Raises:
        InvalidArgument: there are too many rows.
    """
    if rule == "facility" and n_rows > MAX_FACILITY_ROWS:
        whose = "the run" if group_by is None else f"the largest {group_by}"
        other = "" if group_by else ", or --group-by smaller parts"
        raise InvalidArgument(
            f"rule: 'facility' compares all pairs of at most {MAX_FACILITY_ROWS:,} rows, and {whose} has {n_rows:,}; "
            f"take 'k_center'{other}"
        )


def find_keep_of(
    rule: str, trainee: Trainee, scores: pa.Table, settings: Mapping[str, Any], *, margin: float, seed: int
) -> KeepChoice:
    """Find how much of a scores table a rule may drop; `settings` are those of `choose`: axes, group_by, ..."""
    pool = rows_of_rule(scores, rule, settings["axes"], settings.get("embedded"), settings.get("pairs", False))
    first = choose(scores, keep=1, rule=rule, seed=seed, **settings)
    # Where "auto" takes random rows, they are drawn anew for every split as those of "random" are.
    settled = rule if first.record["auto"] is None else first.record["auto"]["rule"]

    def choose_rows(name: str, fraction: float, at: int) -> Int64Array:
        if name == settled:
            return choose(scores, keep=fraction, rule=rule, seed=at, **settings).row_ids
        # Random beside it looks at no score, but draws from the same rows.
        return choose(pool, keep=fraction, rule=name, seed=at, group_by=settings["group_by"]).row_ids

    return find_keep(trainee, choose_rows, settled, n_rows=first.n_rows, margin=margin, seed=seed)


def _carried(config: Mapping[str, Any], kept: pa.Table) -> dict[str, pa.ChunkedArray]:
    """Return the ids, labels and sources of the scores by the field that they were read from."""
    fields = {name: config[f"{name}_field"] for name in REPEATED}
    return {field: kept.column(name) for name, field in fields.items() if field is not None}
