"""What a study's scoring and choices of rows would refuse, told before anything is written or scored."""

import os
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from euds.engine.score import score
from euds.errors import InputError, InvalidArgument
from euds.files import check_place, has_json_lines, write_json_lines
from euds.ops.keep import parse_keep
from euds.scratch import scratch_folder
from euds.selection.rules import VALIDATED
from euds.selection.select import check_coverage, check_splittable
from euds.study.grid.config import Planned, StudyFile, load_study
from euds.study.grid.measure import POOL, pool_lines
from euds.study.grid.methods import METHODS
from euds.study.grid.splits import Splits


def check_apart(sources: Sequence[str | Path], overrides: Sequence[str]) -> None:
    """Refuse studies of one call of which a later one could not go on beside what an earlier one has kept.

    Raises:
        InvalidArgument: a file has an impossible setting, or two studies that differ share scores or cells.
        InputError: a file is missing or not YAML.
    """
    for one, other in combinations([load_study(source, overrides) for source in sources], 2):
        which = f"the studies {one.name!r} and {other.name!r}"
        alike = _scored(one) == _scored(other)
        if not alike and os.path.realpath(one.out) == os.path.realpath(other.out):
            raise InvalidArgument(f"out: {one.out} is of {which}, whose data or scores differ; give each its own")
        if not (alike and one.train == other.train) and one.cells_path.resolve() == other.cells_path.resolve():
            raise InvalidArgument(
                f"results: {one.cells_path} is of {which}, whose data, scores or training differ; give each its own"
            )


def check_scoring(study: StudyFile, splits: Splits) -> None:
    """Refuse what scoring the pool, or writing its results, would refuse, as far as that shows; nothing is written.

    Raises:
        InvalidArgument: a setting is impossible.
        InputError: a model cannot score, a folder takes no file, or `study.out` has other scores.
    """
    check_place(Path(study.results))
    lines, pool = pool_lines(study, splits), Path(study.out) / POOL
    with scratch_folder() as scratch:
        if not has_json_lines(pool, lines):
            check_place(pool.parent)
            pool = write_json_lines(scratch / pool.name, lines)
        score(pool, out=Path(study.out) / "scores", dry_run=True, **study.score_arguments)


def check_choices(study: StudyFile, splits: Splits, planned: Sequence[Planned]) -> None:
    """Refuse cells whose rows could not be chosen, as far as that shows without scores.

    Raises:
        InvalidArgument: a source has fewer rows than are to be kept, or there are too many to compare all pairs of.
        InputError: the labels are too few for a validation split.
    """
    n_pool, sources = len(splits.pool), [row.get(study.data.source_field or "") for row in splits.pool]
    for name, keep in dict.fromkeys((cell.method, cell.keep) for cell in planned):
        method, budget = METHODS[name], parse_keep(keep, n_pool)
        if method.source is not None and (found := sources.count(method.source)) < budget:
            raise InvalidArgument(f"grid: {name}: the pool has {found} rows of {method.source}, to keep {budget}")
        try:
            # Of a box, only scores tell how many rows without repetitions it has.
            check_coverage(name, n_pool, None)
            if method.family == VALIDATED:
                labels = [str(row[study.settled_task.label_field]) for row in splits.pool]
                # How many rows a split takes depends on the labels alone, not on its seed.
                check_splittable(np.unique(labels, return_inverse=True)[1], 0, n_rows=None)
        except InvalidArgument as error:
            raise InvalidArgument(f"grid: {name}: {error}") from None
        except InputError as error:
            raise InputError(f"grid: {name}: {error}") from None


def _scored(study: StudyFile) -> object:
    """What decides the scores of a study's pool."""
    return study.settled_task, study.data, study.score
