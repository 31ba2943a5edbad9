"""What is missing of a grid, in sentences, so that no reader takes a part for the whole."""

from collections.abc import Iterator, Sequence

from euds.study.grid.entries import Entry
from euds.study.grid.statistics import MIN_SEEDS
from euds.study.grid.task import FULL, LEAKED, RANDOM, SHUFFLED, GridTask, Place, is_whole_box
from euds.study.grid.wording import names
from euds.study.table import keep_name

FEW_SEEDS = 5


def list_gaps(task: GridTask, entries: Sequence[Entry]) -> list[str]:
    """Return what a finished grid would have and this one has not."""
    return [
        *_references(task),
        *_planned(task),
        *_methods(task, entries),
        *_seeds(entries),
        *_seconds(entries),
        *_blocks(task),
    ]


def _references(task: GridTask) -> Iterator[str]:
    for schedule in task.schedules:
        if task.full(schedule) is None:
            yield f"Nothing was trained on the full data for {schedule}: no comparison with it there."
        without = [keep_name(keep) for keep in _keeps(task, schedule) if (RANDOM, keep, schedule) not in task.groups]
        if without:
            yield f"No random selection at {', '.join(without)} for {schedule}: no comparison with it there."
    trained = {method for method, _, _ in task.groups}
    for method in (LEAKED, SHUFFLED):
        if method not in trained:
            yield f"The harness check `{method}` was not run."


def _planned(task: GridTask) -> Iterator[str]:
    """One sentence for all methods that have as many of as many planned models at a keep and schedule."""
    finished = {cell.key for cell in task.cells}
    places: dict[Place, list[bool]] = {}
    for method, keep, schedule, *seeds in task.planned:
        places.setdefault((method, keep, schedule), []).append((method, keep, schedule, *seeds) in finished)
    alike: dict[tuple[float, str, int, int], list[str]] = {}
    for (method, keep, schedule), found in places.items():
        if not all(found):
            alike.setdefault((keep, schedule, sum(found), len(found)), []).append(method)
    for (keep, schedule, done, wanted), methods in alike.items():
        yield f"Planned at {keep_name(keep)} for {schedule}, {done} of {wanted} models finished: {names(methods)}."


def _methods(task: GridTask, entries: Sequence[Entry]) -> Iterator[str]:
    planned = {(method, keep, schedule) for method, keep, schedule, *_ in task.planned}
    for schedule in task.schedules:
        for keep in _keeps(task, schedule):
            there = {entry.method for entry in entries if (entry.keep, entry.schedule) == (keep, schedule)}
            absent = [
                method
                for method, facts in task.facts["methods"].items()
                if method not in there
                and (method, keep, schedule) not in planned
                and method != FULL
                and not facts.get("fake")
                and not is_whole_box(method, keep)
            ]
            if absent:
                start = "Neither planned nor trained" if planned else "Not trained"
                yield f"{start} at {keep_name(keep)} for {schedule}: {names(absent)}."
    without = dict.fromkeys(f"`{entry.method}`" for entry in entries if entry.validation is None and not entry.fake)
    if without and not any(entry.validation is not None for entry in entries):
        yield "There are no validation results: no rule is singled out."
    elif without:
        yield f"Without validation results, and so never singled out: {', '.join(without)}."


def _seeds(entries: Sequence[Entry]) -> Iterator[str]:
    counts = [len(entry.seeds) for entry in entries if not entry.fake]
    if len(set(counts)) > 1:
        yield f"Methods have {min(counts)} to {max(counts)} seeds; each pair is compared over those that both have."
    few = [entry for entry in entries if not entry.fake and len(entry.seeds) < FEW_SEEDS]
    if few:
        yield f"{len(few)} of {len(counts)} results rest on fewer than {FEW_SEEDS} seeds."
    alone = [entry for entry in entries if not entry.fake and len(entry.seeds) < MIN_SEEDS]
    if alone:
        yield f"{len(alone)} results rest on fewer than {MIN_SEEDS} seeds: they are compared with nothing."


def _seconds(entries: Sequence[Entry]) -> Iterator[str]:
    unknown: dict[str, list[str]] = {}
    for entry in entries:
        if entry.seconds.selection is None and not entry.fake:
            methods = unknown.setdefault(keep_name(entry.keep), [])
            methods += [f"`{entry.method}`"] if f"`{entry.method}`" not in methods else []
    for keep, methods in unknown.items():
        yield f"Scoring or search was not timed at {keep}, and so no total there, for {', '.join(methods)}."
    elsewhere: dict[str, list[str]] = {}
    for entry in entries:
        if entry.seconds.training is None and not entry.fake:
            elsewhere.setdefault(f"{keep_name(entry.keep)} for {entry.schedule}", []).append(entry.method)
    for place, methods in elsewhere.items():
        yield f"Trained elsewhere or later than was timed at {place}, and so without seconds: {names(methods)}."
    if not any(entry.break_even for entry in entries):
        yield (
            "After how many trainings scores have paid for themselves is not known: at no schedule of fixed epochs "
            "were few rows and all of them timed alike."
        )


def _blocks(task: GridTask) -> Iterator[str]:
    if not task.blocks():
        yield "There is no variance block: selection seed and training seed cannot be told apart."


def _keeps(task: GridTask, schedule: str) -> list[float]:
    return sorted({group.keep for group in task.at(schedule) if group.method != FULL})
