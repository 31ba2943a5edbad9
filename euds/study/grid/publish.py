"""Pages of studies' files: what is finished of each, read and written."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from euds.errors import InputError, InvalidArgument
from euds.files import permitted, write_json
from euds.study.grid.config import StudyFile, load_study, planned_cells
from euds.study.grid.page import Repeated, write_page
from euds.study.grid.page_texts import HEADINGS
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
        InputError: a study, or one that is repeated, has no finished cell, or the folder has a README.md that is no
            such page.
        MissingExtra: matplotlib is not installed.
    """
    studies = _page_studies(sources, overrides)
    _check_readme(Path(folder))
    first = _repeated(studies)
    repeated = Repeated([_task_of(study) for study in first], _page_from(folder, first[0].results)) if first else None
    again = next((_page_from(folder, study.repeated_in) for study in studies if study.repeated_in is not None), None)
    for summary in write_page(Path(folder), [_task_of(study) for study in studies], repeated, again):
        write_json(Path(folder) / f"{summary.name}.summary.json", summary.to_json())
    return Path(folder) / "README.md"


def check_page(sources: Sequence[str | Path], overrides: Sequence[str], folder: str | Path) -> None:
    """Refuse what `make_page` would refuse, as far as that shows before anything is trained for it.

    Raises:
        InvalidArgument: a file has an impossible setting, or two studies have one name.
        InputError: a study that is repeated has no finished cell, or the folder has a README.md of somebody's own.
    """
    studies = _page_studies(sources, overrides)
    _check_readme(Path(folder))
    trained_now = {study.cells_path.absolute() for study in studies}
    for study in _repeated(studies):
        if study.cells_path.absolute() not in trained_now:
            _task_of(study)


def _check_readme(folder: Path) -> None:
    """Refuse to write a page over a README.md that is none."""
    path = folder / "README.md"
    with permitted(path):
        if path.exists() and not path.read_bytes().startswith(tuple(f"{line}\n".encode() for line in HEADINGS)):
            raise InputError(f"{path}: is no page of studies, and would be written over; name another folder")


def _repeated(studies: Sequence[StudyFile]) -> list[StudyFile]:
    """Return the study that each repeats; none unless all of them repeat one, as the page is then like any other."""
    found = [_load_repeated(study.name, study.repeats) for study in studies if study.repeats is not None]
    return found if len(found) == len(studies) else []


def _load_repeated(name: str, repeats: str) -> StudyFile:
    try:
        return load_study(repeats)
    except InputError as error:
        raise InputError(f"repeats: of the study {name!r}: {error}") from None


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
    return read_task(results, study.name, study.notes, planned, study.main_schedule, study.timed_cells, study.title)
