"""What `euds.estimate` returns, and how it tells it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SERIAL_STAGES = ("information",)
"""Stages that one process does for all: counting the tokens of the pool."""


@dataclass(frozen=True)
class Estimate:
    """What scoring a corpus would take, from a random sample of its rows that was scored.

    Attributes:
        n_rows: rows of the corpus, counted.
        n_bytes: size of its files.
        n_sampled: rows that were scored.
        n_tokens: estimated tokens of the scored rows, as `ScoreResult.n_tokens` counts them.
        tokens_low, tokens_high: the 95 % interval of `n_tokens`, by the spread in the sample.
        quarantine: estimated share of the rows, in 0..1, by reason; a row with two reasons counts for the pair.
        loading_seconds: to load the models, once in each worker.
        planning_seconds: to count the rows and cut the corpus before the first is scored.
        seconds: estimated seconds of one worker by stage.
        workers: that share the stages but "information", in which one process counts the pool's tokens; each as fast as
            the one that was measured.
        largest_task: share of the rows, above 0 to 1, in the largest piece of work that goes to one worker: a shard, or
            all of a compressed file.
        device: that was measured.
        peak_bytes: largest memory seen, on a GPU that of the GPU, else that of this process while it scored the sample.
        part_bytes: of the scores, and of generations and meanings where they are sampled.
        work_bytes: of intermediate files, deleted at the end.
        price_per_hour: of a worker, or None.
        semantic: estimated seconds, FLOPs, tokens and pairs of semantic entropy by estimate and part, as a manifest
            tells them under `cost`; empty without that measure.
    """

    n_rows: int
    n_bytes: int
    n_sampled: int
    n_tokens: int
    tokens_low: int
    tokens_high: int
    quarantine: Mapping[str, float]
    loading_seconds: float
    planning_seconds: float
    seconds: Mapping[str, float]
    workers: int
    largest_task: float
    device: str
    peak_bytes: int
    part_bytes: int
    work_bytes: int
    price_per_hour: float | None
    semantic: Mapping[str, Any]

    @property
    def total_seconds(self) -> float:
        """Wall-clock seconds of the run, which no number of workers makes shorter than its largest task."""
        serial = sum(self.seconds.get(name, 0.0) for name in SERIAL_STAGES)
        shared = sum(self.seconds.values()) - serial
        return self.loading_seconds + self.planning_seconds + serial + shared * max(1 / self.workers, self.largest_task)

    @property
    def worker_hours(self) -> float:
        """Hours that all workers together are taken, idle or not; GPU-hours on GPUs."""
        return self.total_seconds * self.workers / 3600

    @property
    def cost(self) -> float | None:
        """At `price_per_hour`."""
        return None if self.price_per_hour is None else self.worker_hours * self.price_per_hour

    @property
    def quarantine_share(self) -> float:
        """Estimated share of rows that cannot be scored, in 0..1."""
        return sum(self.quarantine.values())

    def __str__(self) -> str:
        """Several lines for people."""
        stages = ", ".join(f"{name} {seconds:,.1f}" for name, seconds in self.seconds.items())
        kept = "scores, generations and meanings" if "samples" in self.semantic else "scores"
        lines = [
            f"rows        {self.n_rows:,} in {_size(self.n_bytes)}; {self.n_sampled:,} of them were scored",
            f"tokens      {self.n_tokens:,} (95 % interval {self.tokens_low:,} .. {self.tokens_high:,})",
            f"time        {self.total_seconds:,.1f} s on {self.workers} x {self.device} = "
            f"{self.worker_hours:,.4g} hours of them together",
            f"  of it     loading {self.loading_seconds:,.1f} s, planning {self.planning_seconds:,.1f} s; "
            f"seconds of one worker: {stages}",
            *self._idle_lines(),
            *_semantic_lines(self.semantic),
            f"memory      {_size(self.peak_bytes)} at most in the sample",
            f"disk        {_size(self.part_bytes)} of {kept}, and {_size(self.work_bytes)} while it runs",
            f"quarantine  {self.quarantine_share:.2%} of the rows",
            *(f"  {share:.2%} {reason}" for reason, share in self.quarantine.items()),
        ]
        if self.cost is not None:
            lines.append(f"cost        {self.cost:,.2f} at {self.price_per_hour:,g} an hour")
        return "\n".join(lines)

    def _idle_lines(self) -> Iterator[str]:
        """A line where not all workers can be kept busy."""
        if self.largest_task * self.workers > 1:
            times = f"{1 / self.largest_task:,.3g}"
            gain = "no faster than one" if times == "1" else f"at most {times} times as fast as one"
            yield (
                f"  idle      one worker has {self.largest_task:.0%} of the rows (one shard or compressed file): "
                f"{self.workers} are {gain}"
            )


def _semantic_lines(cost: Mapping[str, Any]) -> Iterator[str]:
    """A line for each part of semantic entropy, and one for the training that it may save."""
    for estimate in ("clusters", "samples", "label_words"):
        for part, found in cost.get(estimate, {}).items():
            seconds = [] if found["seconds"] is None else [f"{found['seconds']:,.1f} s"]
            counted = found.keys() - {"seconds", "flops"}
            counts = [f"{n:,} {name.replace('_', ' ')}" for name, n in found.items() if name in counted]
            told = [*seconds, *_flops(found["flops"]), *counts]
            yield f"{estimate + ', ' + part:24}{', '.join(told) or 'not estimated'}"
    epoch = cost.get("training_epoch", {"flops": None})
    for flops in _flops(epoch["flops"]):
        yield f"beside them {flops} for an epoch of training {epoch['model']} on the corpus"


def _flops(flops: float | None) -> list[str]:
    return [] if flops is None else [f"{flops / 1e12:,.3g} TFLOP"]


def _size(n_bytes: float) -> str:
    """Write a number of bytes with a unit."""
    for unit in ("bytes", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.4g} GB"
