"""How far a scoring run has come, from its directory alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from euds.corpus import open_manifest, read_quarantine
from euds.engine.config import stages_of
from euds.engine.records import COUNTS, Record
from euds.engine.work import Work
from euds.errors import InputError

RECENT = 20
"""Shards that the present rate is taken over."""

PAUSE = 10
"""How many times longer than any other a gap between two shards is that was a pause."""


@dataclass(frozen=True)
class RunStatus:
    """The state of a run.

    Attributes:
        run_dir: the run directory.
        state: "finished", "running", or "stopped", which the same command resumes.
        n_rows: rows of the corpus.
        n_measured: rows whose models have run.
        n_finished: rows in finished parts; what needs the whole pool is finished after the last row is measured.
        counts: rows, scored, quarantined, truncated and tokens of the finished parts.
        quarantine: quarantined rows of the finished parts by reason, most frequent first.
        rows_per_second: over the last shards, a pause left out; None with fewer than two of them, or when finished.
        eta_seconds: until the last row is measured; None when it is, or without a rate.
    """

    run_dir: Path
    state: str
    n_rows: int
    n_measured: int
    n_finished: int
    counts: Mapping[str, int]
    quarantine: Mapping[str, int]
    rows_per_second: float | None
    eta_seconds: float | None

    def __str__(self) -> str:
        """Several lines for people."""
        lines = [f"{self.run_dir}: {self.state}"]
        if self.state != "finished":
            share = self.n_measured / self.n_rows
            lines.append(f"measured {self.n_measured:,} of {self.n_rows:,} rows ({share:.1%})")
            if self.rows_per_second is not None and self.eta_seconds is not None:
                lines[-1] += f", {self.rows_per_second:,.1f} rows/s, {_duration(self.eta_seconds)} left"
        lines.append(
            f"in parts: {self.n_finished:,} of {self.n_rows:,} rows = {self.counts['scored']:,} scored + "
            f"{self.counts['quarantined']:,} quarantined; {self.counts['tokens']:,} tokens"
        )
        return "\n".join(lines + reason_lines(self.quarantine))


def run_status(run_dir: str | Path) -> RunStatus:
    """Return how far the run in `run_dir` has come; never waits for it and changes nothing.

    Raises:
        InputError: `run_dir` is no run directory, or what it holds is damaged.
        RunStopped: the disk or file server failed.
    """
    folder = Path(run_dir)
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
    reasons = quarantine_reasons(folder)
    return RunStatus(folder, "finished", n_rows, n_rows, n_rows, manifest["counts"], reasons, None, None)


def _on_the_way(folder: Path, manifest: Mapping[str, Any]) -> RunStatus:
    n_rows = _n_rows(manifest)
    work = Work(folder)
    size = manifest["config"]["shard_rows"]
    n_shards = -(-n_rows // size)
    last_stage = stages_of(manifest["config"]["measures"], manifest["config"]["semantic"])[-1]
    counts = dict.fromkeys(COUNTS, 0)
    reasons: Counter[str] = Counter()
    times: list[float] = []
    n_measured = 0
    for shard in range(n_shards):
        done_at = _measured_at(work, last_stage, shard)
        if done_at is not None:
            times.append(done_at)
            n_measured += min(size, n_rows - shard * size)
        record = work.records.read(shard)
        if record is not None:
            _add(counts, record)
            reasons.update(entry["reason"] for entry in record.quarantine)
    rate = _rate(sorted(times)[-RECENT:], size)
    return RunStatus(
        folder,
        "running" if work.is_running() else "stopped",
        n_rows,
        n_measured,
        counts["rows"],
        counts,
        dict(reasons.most_common()),
        rate,
        None if rate is None or n_measured == n_rows else (n_rows - n_measured) / rate,
    )


def _n_rows(manifest: Mapping[str, Any]) -> int:
    return sum(entry["rows"] for entry in manifest["inputs"])


def _rate(times: Sequence[float], rows: int) -> float | None:
    """Return rows per second from when shards of so many rows were done, ascending; None if that tells nothing."""
    gaps = sorted(after - before for before, after in pairwise(times))
    # One of another order than all others is the night before the run was resumed; parallel workers end in bursts.
    if len(gaps) > 1 and gaps[-1] > PAUSE * gaps[-2]:
        gaps.pop()
    seconds = sum(gaps)
    return rows * len(gaps) / seconds if seconds > 0 else None


def _measured_at(work: Work, stage: str, shard: int) -> float | None:
    """When a shard's last model stage was done, by the file's clock."""
    for path in (work.path(stage, shard), work.records.path(shard)):
        try:
            return path.stat().st_mtime
        except FileNotFoundError:
            continue
    return None


def _add(counts: dict[str, int], record: Record) -> None:
    for key in COUNTS:
        counts[key] += record.counts[key]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
