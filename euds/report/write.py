"""Write report.html."""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from euds.corpus import field_names, read_parquet, read_rows, run_folder
from euds.errors import InputError, reason_of, whole_number
from euds.files import file_sha256, has_kinds, permitted, read_json, storage_failure, write_atomic
from euds.report import figures
from euds.report.content import Content, gather, title_of, unit_of
from euds.report.cost import cost_lines
from euds.selection.describe import SHOWN_GROUPS, largest
from euds.selection.kept_file import is_lines
from euds.selection.placing import FORMAT
from euds.study.table import TITLES, keep_name, notes
from euds.types import Int64Array, ScoreResult

STAGE_TITLES = {
    "loading": "load models",
    "read": "read and tokenise",
    "information": "count tokens",
    "generative": "generative entropy",
    "embedding": "sentence embeddings",
    "clustering": "cluster",
    "generation": "sample generations",
    "generation_embedding": "embed generations",
    "grouping": "group generations",
    "estimation": "estimate over groups",
    "label_words": "score label words",
    "finish": "write scores",
}

NO_HTML = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""What no page may hold: left out by browsers, it would make two labels look like one."""

SELECTION_KINDS = {"rule": str, "axes": list, "bounds": list, "n_kept": int, "selected_file": str}
"""What a record of a selection has at least."""

LATER_KEYS = ("auto", "validated", "stability", "keep_auto")


def write(run_dir: str | Path | ScoreResult, examples: int) -> Path:
    """Write the page of a run, and return its path, as `euds.write_report` says."""
    examples = whole_number("examples", examples, least=0)
    folder = run_folder(run_dir)
    content = gather(folder, _kept_ids(folder), examples)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("euds.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = NO_HTML.sub("\N{REPLACEMENT CHARACTER}", environment.get_template("report.html").render(**_view(content)))
    path = folder / "report.html"
    with permitted(path):
        write_atomic(path, lambda handle: handle.write(page.encode()))
    return path


def _kept_ids(folder: Path) -> Int64Array | None:
    path = folder / "selection.json"
    if not path.exists():
        return None
    record = read_json(path)
    again = "run euds select again"
    if not has_kinds(record, SELECTION_KINDS):
        raise InputError(f"{path}: is no record of a selection; {again}")
    # One of an earlier version has none.
    if record.get("format", FORMAT) != FORMAT:
        raise InputError(f"{path}: has format {record['format']!r}, and this euds reads {FORMAT}; {again}")
    file, is_own = _selected_file(folder, record)
    if not file.exists():
        raise InputError(f"{file}: the selected rows are no longer there; {again}")
    try:
        names = _fields_of(file)
        # A selection of an earlier version does not say which.
        column = record.get("row_id_column") or ("euds_row_id" if "euds_row_id" in names else "row_id")
        if column not in names:
            raise InputError(f"{file}: the selected rows have lost their column {column}; {again}")
        ids = _read_ids(file, column)
    except (pa.ArrowInvalid, OSError) as error:
        raise storage_failure(file, error) or InputError(f"{file}: unreadable: {reason_of(error)}; {again}") from error
    if len(ids) != record["n_kept"]:
        raise InputError(f"{file}: {len(ids):,} rows, but {path.name} counts {record['n_kept']:,}; {again}")
    if not is_own:
        raise InputError(f"{file}: belongs to another selection than {path.name}, or was changed since; {again}")
    return ids


def _fields_of(file: Path) -> Sequence[str]:
    return field_names([file]) if is_lines(file) else pq.read_schema(file).names


def _read_ids(file: Path, column: str) -> Int64Array:
    if is_lines(file):
        return np.array([row.fields.get(column) for row in read_rows([file]) if row.fields is not None])
    ids: Int64Array = read_parquet(file, columns=[column]).column(0).to_numpy()
    return ids


def _selected_file(folder: Path, record: Mapping[str, Any]) -> tuple[Path, bool]:
    """Return the file of a selection's rows, and whether it is the very one that was written, as far as one can tell.

    Raises:
        InputError: a file cannot be read.
    """
    recorded = Path(record["selected_file"])
    beside = folder / recorded.name
    # In a run directory that was copied, the recorded file is that of the original, if it is there at all.
    inside = recorded.resolve().is_relative_to(folder.resolve())
    places = [recorded, beside] if inside else [beside, recorded]
    sha256 = record.get("selected_sha256")
    if sha256 is None:
        # A selection of an earlier version: its rows may lie elsewhere, beside those of another of the same name.
        return beside if not recorded.exists() and beside.exists() else recorded, True
    there = [place for place in places if place.exists()]
    for place in there:
        with permitted(place):
            if file_sha256(place) == sha256:
                return place, True
    return (there or [recorded])[0], False


def _view(content: Content) -> dict[str, Any]:
    manifest = content.manifest
    seconds = {
        title: manifest["seconds"][stage] for stage, title in STAGE_TITLES.items() if stage in manifest["seconds"]
    }
    # A selection of an earlier version lacks some of these.
    selection = content.selection and {**dict.fromkeys(LATER_KEYS), **content.selection}
    keep_auto = selection["keep_auto"] if selection else None
    overall = selection["n_kept"] / selection["n_rows"] if selection else 0.0
    columns = [column for column in content.columns if np.isfinite(content.values(column)).any()]
    pairs = [pair for pair in combinations(content.joint_axes, 2) if set(pair) <= set(columns)]
    return {
        "name": content.run_dir.resolve().name,
        "manifest": manifest,
        "manifest_json": json.dumps(manifest, indent=2, ensure_ascii=False),
        "counts": manifest["counts"],
        "seconds": seconds,
        "total_seconds": manifest["seconds"]["total"],
        "selection": selection,
        "overall": overall,
        "study": content.study,
        "n_trained": sum(1 for _ in (content.run_dir / "study" / "cells").glob("*.json")),
        "study_is_older": content.study_is_older,
        "study_notes": notes(content.study["methods"]) if content.study else [],
        "study_figure": figures.study(content.study) if content.study else None,
        "curves_figure": figures.learning_curves(keep_auto) if keep_auto else None,
        "metric_titles": TITLES,
        "histograms": [figures.histogram(content, column) for column in columns],
        "joints": [figures.joint(content, *pair) for pair in pairs],
        "rates": [_rates(kind, found, overall) for kind, found in content.rates.items()],
        "correlation": [(title_of(column), value) for column, value in content.length_correlation.items()],
        "shift": _shift(content),
        "group_figures": _group_figures(content),
        "samples_grouped": content.samples_grouped,
        "sampling": manifest["pool"].get("samples"),
        "cost_lines": cost_lines(manifest, content.study),
        "cost_rule": manifest.get("cost", {}).get("flops_rule"),
        "samples": [("Kept", content.samples_kept), ("Dropped", content.samples_dropped)],
        "keep_name": keep_name,
        "title_of": title_of,
        "unit_of": unit_of,
    }


def _rates(
    kind: str, found: Mapping[str, Mapping[str, float]], overall: float
) -> tuple[str, Mapping[str, Mapping[str, float]], figures.Picture, str]:
    """Return a kind of group, its largest groups, a figure of them, and a note where they are not all."""
    shown = largest(found)
    return kind, shown, figures.rates(kind, shown, overall), _note(len(shown), len(found))


def _shift(content: Content) -> tuple[Mapping[str, Mapping[str, Mapping[str, float]]], str] | None:
    """Return where the largest sources lie on every score, and a note where they are not all."""
    if content.shift is None:
        return None
    shown = {column: largest(sources) for column, sources in content.shift.items()}
    total = max(map(len, content.shift.values()), default=0)
    return shown, _note(min(total, SHOWN_GROUPS), total)


def _note(n_shown: int, n_all: int) -> str:
    return f"The {n_shown} largest of {n_all:,}." if n_shown < n_all else ""


def _group_figures(content: Content) -> list[figures.Picture]:
    if content.meanings is None or not content.meanings.sizes:
        return []
    return [
        figures.group_counts(content.meanings.sizes, "generations in a group", "groups"),
        figures.group_counts(content.meanings.numbers, "groups of a row", "rows"),
    ]
