"""Pages of studies' files: what is finished of each, read and written."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from euds.errors import InvalidArgument
from euds.files import write_json
from euds.study.grid.config import StudyFile, load_study, planned_cells
from euds.study.grid.page import Repeated, write_page
from euds.study.grid.task import GridTask, read_task


def make_page(sources: Sequence[str | Path], overrides: Sequence[str], folder: str | Path) -> Path:
    """Write README.md, its pictures and NAME.summary.json of every study from what is finished; trains nothing.

    Args:
        sources: paths of the studies' YAML files, in the order of the page.
        overrides: settings as "key=value", for each of them.
        folder: for the page.

    Returns:
        The page.

    Raises:
        InvalidArgument: two studies have one name.
        InputError: a study has no finished cell.
        MissingExtra: matplotlib is not installed.
    """
    studies = _page_studies(sources, overrides)
    first = [load_study(study.repeats) for study in studies if study.repeats is not None]
    repeated = None
    if first and len(first) == len(studies):
        repeated = Repeated([_task_of(study) for study in first], _page_from(folder, first[0].results))
    again = next((_page_from(folder, study.repeated_in) for study in studies if study.repeated_in is not None), None)
    for summary in write_page(Path(folder), [_task_of(study) for study in studies], repeated, again):
        write_json(Path(folder) / f"{summary.name}.summary.json", summary.to_json())
    return Path(folder) / "README.md"


def check_page(sources: Sequence[str | Path], overrides: Sequence[str]) -> None:
    """Refuse files that `make_page` would refuse together, before anything is trained for it.

    Raises:
        InvalidArgument: a file has an impossible setting, or two studies have one name.
    """
    _page_studies(sources, overrides)


def _page_studies(sources: Sequence[str | Path], overrides: Sequence[str]) -> list[StudyFile]:
    studies = [load_study(source, overrides) for source in sources]
    twice = [name for name, times in Counter(study.name for study in studies).items() if times > 1]
    if twice:
        raise InvalidArgument(f"name: two of the files are called {twice[0]!r}; give each a name of its own")
    return studies


def _page_from(folder: str | Path, other: str | Path) -> str:
    """Return the address of the page in another folder, as a page in `folder` links it."""
    return os.path.relpath(Path(other) / "README.md", folder)


def _task_of(study: StudyFile) -> GridTask:
    planned = [cell.key for cell in planned_cells(study)]
    # Messages name files in full: relative paths lead from where the command is given.
    results = Path(study.results).absolute()
    return read_task(results, study.name, study.notes, planned, study.main_schedule, study.timed_cells)
