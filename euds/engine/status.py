"""How far a scoring run has come, from its directory alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from euds.corpus import open_manifest, read_quarantine, run_folder
from euds.corpus.run_files import COUNTS
from euds.engine.config import stages_of
from euds.engine.records import Record
from euds.engine.work import POOL_FILE, Work, changed_at
from euds.errors import InputError
from euds.types import ScoreResult

STEPS = {
    "score": "",
    "fit": "fitting the pool: tokens are counted, embeddings clustered",
    "finish": "finishing the parts",
    "gather": "gathering the records of the parts",
}
"""The steps of a run in order, and what is said of those after the last row is measured."""

Done = tuple[float, int]
"""When a shard was done, by the clock of its file, and its rows."""


@dataclass(frozen=True)
class RunStatus:
    """The state of a run.

    Attributes:
        run_dir: the run directory.
        state: "finished", "running", or "stopped", which the same command resumes.
        step: "score" until the last row is measured, "fit" while what needs the whole pool is fitted to it, "finish"
            while parts are written, "gather" for the end; None when finished.
        n_rows: rows of the corpus.
        n_measured: rows whose models have run.
        n_finished: rows in finished parts; what needs the whole pool is finished after the last row is measured.
        n_parts: parts of the whole run.
        n_parts_finished: those that are finished.
        counts: rows, scored, quarantined, truncated and tokens of the finished parts.
        quarantine: quarantined rows of the finished parts by reason, most frequent first.
        rows_per_second: of the steps "score" and "finish", since the run or a piece of it last began with it and every
            piece at work had the time for a shard; None before that, and in other steps.
        eta_seconds: until the last row has done the step; None without a rate.
    """

    run_dir: Path
    state: str
    step: str | None
    n_rows: int
    n_measured: int
    n_finished: int
    n_parts: int
    n_parts_finished: int
    counts: Mapping[str, int]
    quarantine: Mapping[str, int]
    rows_per_second: float | None
    eta_seconds: float | None

    def __str__(self) -> str:
        """Several lines for people."""
        lines = [f"{self.run_dir}: {self.state}"]
        if self.step is not None:
            share = self.n_measured / self.n_rows
            lines.append(f"measured {self.n_measured:,} of {self.n_rows:,} rows ({share:.1%})")
            if STEPS[self.step]:
                lines.append(f"step: {STEPS[self.step]}")
            if self.rows_per_second is not None and self.eta_seconds is not None:
                lines[-1] += f", {self.rows_per_second:,.1f} rows/s, {_duration(self.eta_seconds)} left"
        lines.append(
            f"in {self.n_parts_finished:,} of {self.n_parts:,} parts: {self.n_finished:,} of {self.n_rows:,} rows = "
            f"{self.counts['scored']:,} scored + {self.counts['quarantined']:,} quarantined; "
            f"{self.counts['tokens']:,} tokens"
        )
        return "\n".join(lines + reason_lines(self.quarantine))


def run_status(run_dir: str | Path | ScoreResult) -> RunStatus:
    """Return how far a run has come; never waits for it and changes nothing.

    Args:
        run_dir: run directory of `euds.score`, finished or not, or what that returned.

    Raises:
        InputError: `run_dir` is no run directory, or what it holds is damaged.
        InvalidType: it is neither.
        RunStopped: the disk or file server failed.
    """
    folder = run_folder(run_dir)
    manifest = open_manifest(folder)
    if manifest["finished"]:
        return _finished(folder, manifest)
    status: RunStatus | None = None
    with suppress(InputError):
        status = _on_the_way(folder, manifest)
    # A run that has ended meanwhile has taken away what was looked for.
    again = open_manifest(folder)
    if again["finished"]:
        return _finished(folder, again)
    return status or _on_the_way(folder, again)


def quarantine_reasons(run_dir: Path) -> dict[str, int]:
    """Return how many rows a finished run has quarantined for each reason, the most frequent first.

    Raises:
        InputError: the file of them is gone or damaged.
    """
    return dict(Counter(entry["reason"] for entry in read_quarantine(run_dir)).most_common())


def reason_lines(reasons: Mapping[str, int]) -> list[str]:
    """Return a line for people about each reason and its number of rows, in the order given."""
    return [f"  {n:,} x {reason}" for reason, n in reasons.items()]


def _finished(folder: Path, manifest: Mapping[str, Any]) -> RunStatus:
    n_rows = _n_rows(manifest)
    n_parts = -(-n_rows // manifest["config"]["shard_rows"])
    return RunStatus(
        run_dir=folder,
        state="finished",
        step=None,
        n_rows=n_rows,
        n_measured=n_rows,
        n_finished=n_rows,
        n_parts=n_parts,
        n_parts_finished=n_parts,
        counts=manifest["counts"],
        quarantine=quarantine_reasons(folder),
        rows_per_second=None,
        eta_seconds=None,
    )


def _on_the_way(folder: Path, manifest: Mapping[str, Any]) -> RunStatus:
    n_rows = _n_rows(manifest)
    work = Work(folder)
    running = work.running()
    config = manifest["config"]
    size = config["shard_rows"]
    last_stage = stages_of(config["measures"], config["semantic"])[-1]
    counts = dict.fromkeys(COUNTS, 0)
    reasons: Counter[str] = Counter()
    measured: list[Done] = []
    finished: list[Done] = []
    for shard, first in enumerate(range(0, n_rows, size)):
        rows = min(size, n_rows - first)
        _note(measured, rows, work.path(last_stage, shard), work.records.path(shard))
        record = work.records.read(shard)
        if record is not None:
            _add(counts, record)
            reasons.update(entry["reason"] for entry in record.quarantine)
            _note(finished, rows, work.records.path(shard))
    n_measured, n_finished = _rows(measured), counts["rows"]
    step = _step(work, config, left=n_rows - n_measured, unfinished=n_rows - n_finished)
    rate, left = None, 0
    if step == "score":
        rate, left = _rate(measured, work.began(step, running), len(running)), n_rows - n_measured
    elif step == "finish":
        rate, left = _rate(finished, work.began(step), 1), n_rows - n_finished
    return RunStatus(
        run_dir=folder,
        state="running" if running else "stopped",
        step=step,
        n_rows=n_rows,
        n_measured=n_measured,
        n_finished=n_finished,
        n_parts=-(-n_rows // size),
        n_parts_finished=len(finished),
        counts=counts,
        quarantine=dict(reasons.most_common()),
        rows_per_second=rate,
        eta_seconds=None if rate is None else left / rate,
    )


def _step(work: Work, config: Mapping[str, Any], *, left: int, unfinished: int) -> str:
    """Return which of `STEPS` a run is at that has so many rows left to measure and to finish."""
    if left:
        return "score"
    if not unfinished:
        return "gather"
    needs_pool = "information" in config["measures"] or "clusters" in config["semantic"]
    return "fit" if needs_pool and not (work.folder / POOL_FILE).exists() else "finish"


def _n_rows(manifest: Mapping[str, Any]) -> int:
    return sum(entry["rows"] for entry in manifest["inputs"])


def _rate(done: Sequence[Done], began: Sequence[float], n_pieces: int) -> float | None:
    """Return rows per second since the latest beginning since which there are as many shards as pieces at work.

    A whole run is one piece, whose workers begin together. Of fewer shards, a piece that had long been at its own when
    another began would make too much; then what was before counts.

    Args:
        done: when each shard was done, and its rows.
        began: when pieces began.
        n_pieces: at work.
    """
    for start in sorted(began, reverse=True):
        since = [(at, rows) for at, rows in done if at > start]
        if len(since) >= max(1, n_pieces):
            return _rows(since) / (max(since)[0] - start)
    return None


def _note(done: list[Done], rows: int, *paths: Path) -> None:
    """Add the rows of a shard, and when the first of these files that is there was written; nothing if none is."""
    at = next((at for at in map(changed_at, paths) if at is not None), None)
    if at is not None:
        done.append((at, rows))


def _rows(done: Sequence[Done]) -> int:
    return sum(rows for _, rows in done)


def _add(counts: dict[str, int], record: Record) -> None:
    for key in COUNTS:
        counts[key] += record.counts[key]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
