"""One task of a grid: its facts, and its cells sorted into what the main comparison and the variance block need."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from euds.errors import InputError
from euds.files import read_json
from euds.study.grid.cells import Cell, Key, read_cells
from euds.study.grid.statistics import SeedScores, complete_block
from euds.study.types import METRICS
from euds.types import Float64Array

FULL, RANDOM = "full", "random"
LEAKED, SHUFFLED = "leaked", "shuffled"
HEADLINE_KEEP = 0.16
WIDE_BOX = re.compile(r"box(\d+)_")
"""How rules inside a box of so many times the budget are named."""

UNKNOWN = "unknown"
"""How the name of a processor begins that the system does not name: two of them may differ."""

Place = tuple[str, float, str]
"""Method, keep, schedule."""

FACTS = {
    **dict.fromkeys(("name", "title", "main_metric"), str),
    **dict.fromkeys(("data", "rows", "length_correlation", "methods", "seconds"), dict),
}
"""What a task's facts must hold, and of which kind."""

MAY_BE = {
    **dict.fromkeys(("machine", "train", "scoring_model", "search_seconds", "validated", "versions"), dict),
    "date": str,
    "went_on": list,
}
"""The same of what older versions did not write."""

IN_WORDS = {str: "text", dict: "names and values", list: "a list"}


@dataclass(frozen=True, eq=False)
class Group:
    """The cells of one method at one keep and schedule in the main comparison, one a training seed."""

    method: str
    keep: float
    schedule: str
    cells: tuple[Cell, ...]

    @cached_property
    def scores(self) -> SeedScores:
        """The scores of the test rows by training seed."""
        return {cell.seed: cell.test_scores for cell in self.cells}

    def metric(self, name: str, split: str = "test") -> Float64Array | None:
        """Return (n_seeds,) values of a metric, or None where a cell lacks it."""
        values = [cell.metrics.get(split, {}).get(name) for cell in self.cells]
        return None if None in values else np.array(values, np.float64)


@dataclass(frozen=True, eq=False)
class GridTask:
    """Facts and finished cells of one task, and the cells that were planned, if that is known.

    `main_schedule` is that of the conclusions; None: that of the full data, else the one with most cells. `timed_cells`
    is how many cells, from the first, were trained on the machine of the facts when it was timed; None: those that name
    its processor, and of those that name none all, or none where the study went on elsewhere.

    Raises:
        InputError: there is no cell, a fact is missing, a method is unknown, a cell lacks the main metric, or cells
            differ in the number of test rows.
    """

    facts: Mapping[str, Any]
    cells: Sequence[Cell]
    planned: Sequence[Key] = ()
    main_schedule: str | None = None
    timed_cells: int | None = None

    def __post_init__(self) -> None:
        _check_facts(self.facts)
        name = self.facts["name"]
        if not self.cells:
            raise InputError(f"{name}: no cell is finished yet")
        unknown = {cell.method for cell in self.cells} - self.facts["methods"].keys()
        if unknown:
            raise InputError(f"{name}: the facts do not know the method {min(unknown)!r}")
        lacking = next((cell for cell in self.cells if self.metric not in cell.metrics.get("test", {})), None)
        if lacking is not None:
            raise InputError(f"{name}: cell {lacking.cell} has no {self.metric} of the test rows")
        if len({len(cell.test_scores) for cell in self.cells}) > 1:
            raise InputError(f"{name}: its cells were tested on different numbers of rows")

    @property
    def n_pool(self) -> int:
        """Rows that a method may choose from."""
        return int(self.facts["rows"]["n_pool_positions"])

    @property
    def n_cut(self) -> int:
        """Rows of the pool with as many tokens as the scoring models may read: those that were cut, and a few more."""
        limit = self.facts.get("scoring_model", {}).get("max_tokens")
        return 0 if limit is None else sum(length >= limit for length in self.facts["rows"]["n_tokens"])

    @property
    def n_test(self) -> int:
        """Test rows."""
        return len(self.cells[0].test_scores)

    @property
    def metric(self) -> str:
        """The main metric."""
        return str(self.facts["main_metric"])

    @cached_property
    def timed(self) -> frozenset[str]:
        """The cells whose seconds are of the facts' own machine; those of another compare with none of these."""
        if self.timed_cells is not None:
            return frozenset(cell.cell for cell in self.cells[: self.timed_cells])
        own = str(self.facts.get("machine", {}).get("cpu"))
        # Each says "processor, day".
        moved = not all(_same_machine(own, later.rpartition(", ")[0]) for later in self.facts.get("went_on", []))
        return frozenset(
            cell.cell
            for cell in self.cells
            if (not moved if cell.processor is None else _same_machine(own, cell.processor))
        )

    @cached_property
    def groups(self) -> dict[Place, Group]:
        """The main comparison, methods in the order of the facts."""
        by_place = {place: cells for place, cells in _by_place(self.cells).items() if not is_whole_box(*place[:2])}
        order = {method: at for at, method in enumerate(self.facts["methods"])}
        places = sorted(by_place, key=lambda place: (order[place[0]], place[1], place[2]))
        return {place: Group(*place, _main_cells(by_place[place])) for place in places}

    @cached_property
    def schedules(self) -> tuple[str, ...]:
        """The schedules, the main one first, then those of the full data, then those with most cells."""
        counts = Counter(cell.schedule for cell in self.cells)
        with_full = {schedule for method, _, schedule in self.groups if method == FULL}

        def order(schedule: str) -> tuple[bool, bool, int, str]:
            return schedule != self.main_schedule, schedule not in with_full, -counts[schedule], schedule

        return tuple(sorted(counts, key=order))

    @cached_property
    def keeps(self) -> tuple[float, ...]:
        """The budgets, ascending, without that of the full data."""
        return tuple(sorted({keep for method, keep, _ in self.groups if method != FULL}))

    @property
    def headline_keep(self) -> float | None:
        """The budget of the conclusions: 0.16, or the smallest of the main schedule; None without one."""
        own = {group.keep for group in self.at(self.schedules[0]) if group.method != FULL}
        return HEADLINE_KEEP if HEADLINE_KEEP in own else min(own, default=None)

    def full(self, schedule: str) -> Group | None:
        """Return the cells of the full data."""
        return next((group for group in self.at(schedule) if group.method == FULL), None)

    def at(self, schedule: str, keep: float | None = None) -> list[Group]:
        """Return the methods of a schedule, at one keep or all."""
        return [group for group in self.groups.values() if group.schedule == schedule and keep in (None, group.keep)]

    def blocks(self) -> dict[Place, Float64Array]:
        """Return the main metric, (n_selection_seeds, n_training_seeds), wherever seeds were trained in all pairs."""
        found = {}
        for place, cells in _by_place(self.cells).items():
            values = {(cell.selection_seed, cell.seed): cell.metrics["test"][self.metric] for cell in cells}
            block = complete_block(values)
            if block is not None:
                found[place] = block
        return found


def is_whole_box(method: str, keep: float) -> bool:
    """Whether a rule's wider box holds the whole pool at a budget: there it is the rule inside it, by another name."""
    found = WIDE_BOX.match(method)
    return found is not None and int(found[1]) * keep >= 1


def is_fixed_steps(schedule: str) -> bool:
    """Whether cells of a schedule train for as many steps on few rows as on many."""
    return schedule.endswith("steps")


def read_task(
    folder: Path,
    name: str,
    notes: Sequence[str] = (),
    planned: Sequence[Key] = (),
    main_schedule: str | None = None,
    timed_cells: int | None = None,
    title: str | None = None,
) -> GridTask:
    """Read NAME.facts.json and NAME.cells.jsonl of a folder.

    Args:
        folder: of both.
        name: of the task.
        notes: what its page has to say beside them.
        planned: the cells of a finished grid.
        main_schedule, timed_cells: see `GridTask`.
        title: of its page; None: that of the facts.

    Raises:
        InputError: a file is missing or damaged, or the two do not fit.
    """
    path = folder / f"{name}.facts.json"
    facts = read_facts(path)
    if facts["name"] != name:
        raise InputError(f"{path}: holds the facts of the study {facts['name']!r}; take the file from a copy")
    cells = read_cells(folder / f"{name}.cells.jsonl")
    of_page = {"title": facts["title"] if title is None else title, "notes": list(notes)}
    return GridTask({**facts, **of_page}, cells, planned, main_schedule, timed_cells)


def read_facts(path: Path) -> dict[str, Any]:
    """Read what is known of a task beside its cells.

    Raises:
        InputError: the file is missing or damaged.
    """
    facts = read_json(path)
    if not isinstance(facts, dict):
        raise InputError(f"{path}: must hold the facts of a study; take the file from a copy")
    try:
        _check_facts(facts)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return facts


def _check_facts(facts: Mapping[str, Any]) -> None:
    """Refuse facts that a damaged file holds."""
    missing = [name for name in FACTS if name not in facts]
    if missing:
        raise InputError(f"facts of the task: no field {missing[0]!r}; take the file from a copy")
    for name, kind in {**FACTS, **MAY_BE}.items():
        if name in facts and not isinstance(facts[name], kind):
            raise InputError(f"facts of the task: {name!r} must hold {IN_WORDS[kind]}; take the file from a copy")
    for name, found in facts["methods"].items():
        if not isinstance(found, dict) or "family" not in found:
            raise InputError(
                f"facts of the task: method {name!r} must hold names and values, a family; take the file from a copy"
            )
    main = [metrics[0] for metrics in METRICS.values()]
    if facts["main_metric"] not in main:
        raise InputError(
            f"facts of the task: 'main_metric' must be one of {', '.join(main)}; take the file from a copy"
        )
    rows = facts["rows"]
    if type(rows.get("n_pool_positions")) is not int or not isinstance(rows.get("n_tokens"), list):
        raise InputError("facts of the task: 'rows' lacks n_pool_positions or n_tokens; take the file from a copy")
    inner = {"rows: 'scores'": rows.get("scores", {}), **facts.get("search_seconds", {})}
    for name, found in inner.items():
        if not isinstance(found, dict):
            raise InputError(f"facts of the task: {name} must hold names and values; take the file from a copy")


def _same_machine(processor: str, other: str) -> bool:
    return processor == other and not processor.startswith(UNKNOWN)


def _by_place(cells: Sequence[Cell]) -> dict[Place, list[Cell]]:
    found: dict[Place, list[Cell]] = defaultdict(list)
    for cell in cells:
        found[cell.method, cell.keep, cell.schedule].append(cell)
    return dict(found)


def _main_cells(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Return one cell a training seed: the paired ones of a random method, else those of the first selection seed.

    A random method has as many paired cells as any selection seed of its variance block; another has few.
    """
    paired = [cell for cell in cells if cell.selection_seed == cell.seed]
    first = min(cell.selection_seed for cell in cells)
    fixed = [cell for cell in cells if cell.selection_seed == first]
    return tuple(sorted(paired if len(paired) >= len(fixed) else fixed, key=lambda cell: cell.seed))
