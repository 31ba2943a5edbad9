"""`euds study`: train the cells of a grid that are not finished yet, and keep the facts beside them."""

import fcntl
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from euds.assets import content_sha256, tokenizer_sha256
from euds.errors import InputError, whole_number
from euds.files import check_writable, json_sha256, letting_go, needs_room, permitted, take_lock
from euds.measures.models import model_folder
from euds.ops.keep import parse_keep
from euds.progress import bar, say
from euds.study.examples import check_classes, classes_of, examples_of
from euds.study.grid.cells import Cell, append_cell, read_cells
from euds.study.grid.checks import check_choices, check_scoring
from euds.study.grid.choices import leaked_positions
from euds.study.grid.config import Planned, StudyFile, as_planned, load_study, planned_cells
from euds.study.grid.execute import ONE_THREAD, Bench, Job, default_workers, train_here, train_jobs
from euds.study.grid.facts import continued, facts_of, processor, scorer_hashes, write_facts
from euds.study.grid.measure import measure
from euds.study.grid.methods import METHODS
from euds.study.grid.pool import StudyPool
from euds.study.grid.splits import Record, Splits, take_splits
from euds.study.grid.task import read_facts
from euds.study.table import keep_name
from euds.study.types import FineTuned
from euds.types import Int64Array


@dataclass(frozen=True)
class StudyProgress:
    """What a call of `run_study` did: cells of the grid, those trained now, and where they and the facts lie."""

    n_cells: int
    n_trained: int
    cells_path: Path
    facts_path: Path


def run_study(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    workers: int | None = None,
    dry_run: bool = False,
) -> StudyProgress:
    """Train every cell of a study that is not finished; the same call again goes on where it was.

    Args:
        source: path of a study's YAML file, or its content.
        overrides: settings as "key=value".
        workers: processes that train side by side; None: one a core, or one with a GPU.
        dry_run: check everything that can be known, say what would be done, and do nothing more.

    Raises:
        InvalidArgument: the file has an impossible setting, or `workers` is below 1.
        InputError: data or a model is missing, rows or the model cannot be scored or trained, scores or finished cells
            come from other settings, or another process is training this study.
        RunStopped: a process was killed, or the disk is full or fails.
    """
    workers = None if workers is None else whole_number("workers", workers, least=1)
    study = load_study(source, overrides)
    for name in {study.train.model, study.score.lm, study.score.embedder}:
        model_folder(name)
    splits = take_splits(study)
    grid = Grid(study, splits)
    grid.refuse_other_scorers()
    planned = list(planned_cells(study))
    missing = [cell for cell in planned if cell.key not in grid.finished]
    say(f"{study.name}: {len(planned):,} cells, {len(planned) - len(missing):,} finished")
    if missing:
        _check_trainable(study, splits, missing[0])
        check_choices(study, splits, missing)
    if dry_run:
        if missing or not study.facts_path.exists():
            check_scoring(study, splits)
        return StudyProgress(len(planned), 0, study.cells_path, study.facts_path)
    # Loads torch.
    from euds.measures.device import precision, warn_of_emulated_bfloat16

    warn_of_emulated_bfloat16("train.precision", study.train.precision, precision().device)
    n_workers = workers or default_workers()
    # Studies may share scores alone, or finished cells alone.
    with _alone(Path(study.out) / "study.lock"), _alone(study.cells_path.with_suffix(".lock")):
        # Another process may have finished some since.
        grid = Grid(study, splits)
        grid.refuse_other_scorers()
        missing = [cell for cell in planned if cell.key not in grid.finished]
        if not missing and study.facts_path.exists():
            return StudyProgress(len(planned), 0, study.cells_path, study.facts_path)
        measured = measure(study, splits, {need for cell in planned for need in METHODS[cell.method].needs})
        facts = facts_of(study, splits, measured, planned, n_workers)
        # Without a finished cell there is nothing to go on with: facts may be of other settings.
        before = read_facts(study.facts_path) if grid.finished and study.facts_path.exists() else None
        write_facts(study.facts_path, facts if before is None else continued(before, facts))
        grid.train(missing, measured.pool, n_workers)
    return StudyProgress(len(planned), len(missing), study.cells_path, study.facts_path)


def _check_trainable(study: StudyFile, splits: Splits, planned: Planned) -> None:
    """Refuse a model or rows that some cell could not be trained with, before the pool is scored for it.

    Raises:
        InputError: see `euds.study.cell.check_trainable`.
    """
    task, config = study.settled_task, study.train_config(planned.block)
    # A method, or even the pool, may have one class only, as long as heads have a place for another.
    check_classes(
        classes_of([*splits.pool, *splits.validation, *splits.test], task),
        f"data.train, data.test: {study.data.train}, {study.data.test}",
    )
    # Loads torch and transformers.
    from euds.study.cell import check_trainable

    pool, judged = (
        examples_of(rows, task, what)
        for rows, what in ((splits.pool, "pool"), ([*splits.test, *splits.validation], "test"))
    )
    check_trainable(pool, judged, task=task, config=config)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Keep other processes from training the same study; the kernel drops the lock when this one dies.

    Raises:
        InputError: another process is at it, or the lock may not be written or had.
        RunStopped: the disk is full or fails.
    """
    check_writable(lock.parent)
    with needs_room(lock), permitted(lock):
        handle = lock.open("w")
    with handle, letting_go(handle):
        try:
            take_lock(lock, handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{lock.parent}: another process is training this study; let it end, or stop it") from None
        yield


def _rows(planned: Planned, pool: StudyPool, recorded: Mapping[int, Int64Array]) -> Int64Array:
    """Return what a cell is to be trained on.

    Scores differ in their last bits between machines: a rule that is asked anew could have a second choice of rows.

    Args:
        planned: the cell.
        pool: scored here.
        recorded: rows of finished cells of the same method and budget by selection seed.
    """
    seed = planned.selection_seed
    if seed in recorded:
        return recorded[seed]
    budget, choose = parse_keep(planned.keep, len(pool)), METHODS[planned.method].choose
    found = choose(pool, budget, seed)
    other = next(iter(recorded), None)
    # A rule that chooses alike for two seeds looks at neither, and has chosen already.
    if other is not None and np.array_equal(choose(pool, budget, other), found):
        return recorded[other]
    return found


def rerun_cell(source: str | Path, overrides: Sequence[str], name: str) -> tuple[Cell, FineTuned]:
    """Train a finished cell once more, on the rows it recorded; return it and what came out now.

    Args:
        source: path of a study's YAML file.
        overrides: settings as "key=value".
        name: the first digits of the cell, or "random".

    Raises:
        InputError: there is no such cell, or there are several.
    """
    study = load_study(source, overrides)
    grid = Grid(study, take_splits(study))
    planned = {cell.key: cell for cell in planned_cells(study)}
    known = [cell for key, cell in grid.finished.items() if key in planned]
    found = known if name == "random" else [cell for cell in known if cell.cell.startswith(name)]
    if not found:
        raise InputError(f"{study.cells_path}: no finished cell {name!r} of this grid")
    if name != "random" and len(found) > 1:
        raise InputError(f"{study.cells_path}: {len(found)} cells begin with {name!r}; give more digits")
    cell = random.choice(found) if name == "random" else found[0]
    job = grid.job(planned[cell.key], grid.positions_of(cell))
    return cell, train_here(job, grid.bench)


@dataclass
class Grid:
    """A study's cells: which are finished, and how the others are made into jobs."""

    study: StudyFile
    splits: Splits
    finished: dict[tuple[str, float, str, int, int], Cell] = field(init=False)
    bench: Bench = field(init=False)
    _shared: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        """Read the finished cells, and refuse those of other settings, whether the grid still has them or not."""
        study, splits, task = self.study, self.splits, self.study.settled_task
        classes = classes_of(splits.pool, task)
        self.bench = Bench(task, {"test": splits.test, "validation": splits.validation}, classes)
        self._shared = {
            "task": [task.kind, *task.text_fields, task.label_field],
            "splits": json_sha256([list(splits.pool), list(splits.validation), list(splits.test)]),
            "model": content_sha256(model_folder(study.train.model)),
            "threads": ONE_THREAD,
            "versions": {package: version(package) for package in ("torch", "transformers")},
        }
        # Without any, cells are named as by versions whose heads left out the classes that only the pool has.
        if untested := classes - classes_of([*splits.test, *splits.validation], task):
            self._shared["classes"] = sorted(untested)
        cells = read_cells(study.cells_path) if study.cells_path.exists() else []
        if cells and study.facts_path.exists():
            facts = read_facts(study.facts_path)
            self._refuse_other_scores(facts.get("scoring_model", {}))
            self._refuse_other_tokenizer(facts.get("train", {}))
        self.finished = {cell.key: cell for cell in cells}
        for cell in cells:
            # Also one that the grid no longer has: it stays in the file, and goes on the page.
            try:
                planned = as_planned(study, cell)
            except InputError as error:
                raise InputError(f"{study.cells_path}: {error}") from None
            if cell.cell != self._name(planned, self.positions_of(cell)):
                raise InputError(
                    f"{study.cells_path}: cell {cell.cell} ({cell.method}, keep {cell.keep}, {cell.schedule}, seed "
                    f"{cell.seed}) was trained with other data, settings or versions; set `results` to another folder"
                )

    def _refuse_other_scores(self, before: Mapping[str, Any]) -> None:
        """Refuse to go on with cells that other scores chose: their rows are right, but not those of this study."""
        for name, value in self.study.score.model_dump().items():
            # What an older version did not write down is not known to differ.
            if before.get(name, value) != value:
                raise InputError(
                    f"{self.study.cells_path}: its cells were chosen with score.{name}: {before[name]}, now it is "
                    f"{value}; set `results` to another folder"
                )

    def _refuse_other_tokenizer(self, before: Mapping[str, Any]) -> None:
        """Refuse to go on with cells that read their texts otherwise, where that is known: their names do not tell."""
        now = tokenizer_sha256(model_folder(self.study.train.model))
        known = before.get("tokenizer_sha256", now)
        if known != now:
            raise InputError(
                f"{self.study.cells_path}: its cells were trained with another tokenizer of train.model "
                f"({str(known)[:12]}, now {now[:12]}); fetch that model, or set `results` to another folder"
            )

    def refuse_other_scorers(self) -> None:
        """Refuse to go on with cells that were chosen by other models of the same names, where that is known.

        Raises:
            InputError: weights or tokenizers differ, or a scoring model is missing.
        """
        if not self.finished or not self.study.facts_path.exists():
            return
        before = read_facts(self.study.facts_path).get("scoring_model", {})
        for name, value in scorer_hashes(self.study).items():
            if before.get(name, value) != value:
                role, _, part = name.removesuffix("_sha256").partition("_")
                what = f"another {part}" if part else "other weights"
                known = str(before[name])[:12]
                raise InputError(
                    f"{self.study.cells_path}: its cells were chosen with {what} of score.{role} "
                    f"({known}, now {value[:12]}); fetch that model, or set `results` to another folder"
                )

    def train(self, cells: Sequence[Planned], pool: StudyPool, workers: int) -> None:
        """Train cells on what their methods choose of the pool, and append each as soon as it is done."""
        if not cells:
            return
        examples = sum(self._examples(cell) for cell in cells)
        with bar(self.study.name, round(examples)) as progress:
            start, done = time.perf_counter(), 0.0

            def on_done(job: Job, tuned: FineTuned) -> None:
                nonlocal done
                append_cell(self.study.cells_path, self._cell(job, tuned))
                done += self._examples(job.planned)
                metric = next(iter(tuned.judged["test"].metrics.values()))
                planned = job.planned
                say(
                    f"{planned.method} {keep_name(planned.keep)} of {planned.block.schedule}, seed {planned.seed}: "
                    f"{100 * metric:.1f} in {tuned.train_seconds:.0f} s",
                )
                rate = done / (time.perf_counter() - start)
                progress.advance(round(self._examples(planned)), f"{rate:.0f} examples/s")

            train_jobs(self._jobs(cells, pool), self.bench, workers=workers, on_done=on_done)

    def job(self, planned: Planned, positions: Int64Array) -> Job:
        """Return the job that trains a cell on rows of the pool, or of the test rows for the method that leaks."""
        source = self.splits.test if METHODS[planned.method].from_test else self.splits.pool
        train: list[Record] = [source[at] for at in positions.tolist()]
        name = self._name(planned, positions)
        return Job(planned, name, tuple(positions.tolist()), train, self.study.train_config(planned.block))

    def positions_of(self, cell: Cell) -> Int64Array:
        """Return what a finished cell was trained on; the leaking method's rows do not depend on any score."""
        if METHODS[cell.method].from_test:
            return leaked_positions(len(self.splits.test), cell.n_train, cell.selection_seed)
        return cell.selected

    def _jobs(self, cells: Sequence[Planned], pool: StudyPool) -> Iterator[Job]:
        recorded: dict[tuple[str, float], dict[int, Int64Array]] = {}
        for cell in self.finished.values():
            own = recorded.setdefault((cell.method, cell.keep), {})
            own.setdefault(cell.selection_seed, self.positions_of(cell))
        for planned in cells:
            yield self.job(planned, _rows(planned, pool, recorded.get((planned.method, planned.keep), {})))

    def _name(self, planned: Planned, positions: Int64Array) -> str:
        config = self.study.train_config(planned.block).to_json()
        decisive = {**self._shared, "config": config, "rows": positions.tolist(), "seed": planned.seed}
        decisive["from_test"] = METHODS[planned.method].from_test
        return json_sha256(decisive)[:24]

    def _cell(self, job: Job, tuned: FineTuned) -> Cell:
        planned = job.planned
        return Cell(
            cell=job.cell,
            method=planned.method,
            keep=planned.keep,
            schedule=planned.block.schedule,
            selection_seed=planned.selection_seed,
            seed=planned.seed,
            n_train=len(job.train),
            steps=tuned.steps,
            metrics={name: dict(judged.metrics) for name, judged in tuned.judged.items()},
            test_scores=tuned.judged["test"].row_scores,
            # Positions of test rows would be taken for rows of the pool.
            selected=np.array([] if METHODS[planned.method].from_test else job.positions, np.int64),
            train_seconds=round(tuned.train_seconds, 2),
            test_seconds=round(tuned.test_seconds, 2),
            processor=processor(),
        )

    def _examples(self, planned: Planned) -> float:
        """Training examples that a cell reads, and test rows at a third of their cost."""
        n_train = parse_keep(planned.keep, len(self.splits.pool))
        config = self.study.train_config(planned.block)
        n_tests = sum(len(rows) for rows in self.bench.tests.values())
        return config.n_steps(n_train) * config.batch_size + n_tests / 3
