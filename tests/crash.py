"""Interrupt scoring runs for real, resume them, and compare every byte with a run that was left in peace.

    python tests/crash.py --runs 50 --seed 0
    python tests/crash.py --runs 15 --semantic clusters,samples

Half of the runs are resumed by the very same command; the others, whatever they began as, by one process. The exit code
is 1 on any difference, stray file, row that is lost, or run that does not end as it should. The seed settles what
happens to which run after how much of its work; how the operating system then schedules, it cannot.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tiny
from test_score_resume import digests

from euds.engine.config import stages_of

N_TEXTS = 600
SHARD_ROWS = 16
MOST_DELAY_SECONDS = 0.3
PAGE = 4096
MISSES = 10
"""Times that a run may end before it is hit."""

RESUMES = "the same command resumes"
AGAIN = "make room, and give the same command again"
SHORT = ("--n-generations", "3", "--max-new-tokens", "4")
TWO = ("--workers", "2")
RAY = ("--ray", "--workers", "2")


Strike = Callable[[psutil.Process, np.random.Generator], bool]


@dataclass(frozen=True)
class Kind:
    """A way of interrupting a run.

    Attributes:
        share: how many of 50 runs.
        options: of the command line.
        strike: does it to a process that is under way, and tells whether it could; None: the disk does it.
        exit_code: how the run then ends.
        says: what its standard error must hold.
    """

    share: int
    options: tuple[str, ...]
    strike: Strike | None
    exit_code: int
    says: str


def _kill(process: psutil.Process, _: np.random.Generator) -> bool:
    process.kill()
    return True


def _terminate(process: psutil.Process, _: np.random.Generator) -> bool:
    process.terminate()
    return True


def _interrupt(process: psutil.Process, _: np.random.Generator) -> bool:
    # A terminal sends it to all processes of the foreground.
    os.killpg(process.pid, signal.SIGINT)
    return True


def _kill_one(mark: str) -> Strike:
    """Kill one of the process' descendants, any level down, whose command line holds `mark`."""

    def strike(process: psutil.Process, rng: np.random.Generator) -> bool:
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            found = [child for child in process.children(recursive=True) if mark in _command_line(child)]
            if found:
                with suppress(psutil.NoSuchProcess):
                    found[int(rng.integers(len(found)))].kill()
                    return True
            time.sleep(0.01)
        return False

    return strike


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


KINDS: Mapping[str, Kind] = {
    "SIGKILL of the only process": Kind(9, (), _kill, -signal.SIGKILL, ""),
    "SIGKILL of one of two workers": Kind(6, TWO, _kill_one("spawn_main"), os.EX_TEMPFAIL, RESUMES),
    "SIGKILL of the workers' parent": Kind(6, TWO, _kill, -signal.SIGKILL, ""),
    "SIGKILL of a Ray actor": Kind(5, RAY, _kill_one("ray::MapWorker"), 0, ""),
    "SIGKILL of Ray's driver": Kind(3, RAY, _kill, -signal.SIGKILL, ""),
    "SIGTERM, one process": Kind(4, (), _terminate, 128 + signal.SIGTERM, f"terminated; {RESUMES}"),
    "SIGTERM, two workers": Kind(3, TWO, _terminate, 128 + signal.SIGTERM, f"terminated; {RESUMES}"),
    "Ctrl-C, one process": Kind(4, (), _interrupt, 128 + signal.SIGINT, f"interrupted; {RESUMES}"),
    "Ctrl-C, two workers": Kind(3, TWO, _interrupt, 128 + signal.SIGINT, f"interrupted; {RESUMES}"),
    "Ctrl-C, Ray": Kind(1, RAY, _interrupt, 128 + signal.SIGINT, f"interrupted; {RESUMES}"),
    "full disk, one process": Kind(3, (), None, os.EX_TEMPFAIL, AGAIN),
    "full disk, two workers": Kind(2, TWO, None, os.EX_TEMPFAIL, AGAIN),
    "full disk, Ray": Kind(1, RAY, None, os.EX_TEMPFAIL, AGAIN),
}


def main() -> None:
    """Interrupt the runs, print a table of what happened, and exit with 1 if anything is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--semantic", default="clusters", help="estimates of semantic entropy: clusters, samples")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="only kinds whose name holds one of these")
    arguments = parser.parse_args()
    # Started by a shell in the background, this process ignores it, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    kinds = {name: kind for name, kind in KINDS.items() if any(word in name for word in arguments.only or [""])}
    order = list(chain.from_iterable([name] * kind.share for name, kind in kinds.items()))
    np.random.default_rng(arguments.seed).shuffle(order)
    folder = Path(tempfile.mkdtemp(prefix="euds-crash-"))
    trial = Trial(folder, arguments.semantic, mounts=may_mount(folder))
    print(f"seed {arguments.seed}, {trial.n_rows} rows in {trial.n_shards} shards, in {folder}", flush=True)
    if not trial.mounts:
        print("mounting is not allowed here: a limit on the size of files stands for the full disk")
    trial.run_in_peace()
    hit: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    wrong: list[str] = []
    for number, name in enumerate(islice(cycle(order), arguments.runs), start=1):
        start = time.perf_counter()
        faults, how, misses = trial.interrupt(kinds[name], np.random.default_rng([arguments.seed, number]), number)
        hit[name] += 1
        missed[name] += misses
        wrong += [f"run {number}, {name}, {how}: {fault}" for fault in faults]
        outcome = "; ".join(faults) or "the same bytes"
        seconds = time.perf_counter() - start
        print(f"{number:3}/{arguments.runs} {name}, {how}: {outcome} ({seconds:.0f} s)", flush=True)
    print(f"\n| {'interrupted by':32} | runs | ended before it |\n|---|---|---|")
    for name in kinds:
        print(f"| {name:32} | {hit[name]:4} | {missed[name]:4} |")
    print(f"\n{sum(hit.values())} runs interrupted and resumed, {len(wrong)} faults", *wrong, sep="\n")
    sys.exit(1 if wrong else 0)


class Trial:
    """A corpus with bad rows, tiny random models, and a run of them that nothing has interrupted."""

    def __init__(self, folder: Path, semantic: str, *, mounts: bool) -> None:
        self.folder = folder
        self.semantic = semantic
        # Every stage leaves a file for every shard, and in the end there are the parts.
        self.steps = len(stages_of(("generative", "semantic"), semantic.split(","))) + 1
        self.mounts = mounts
        self.corpus = folder / "corpus.jsonl"
        lines = [json.dumps({"text": text}) for text in tiny.make_texts(N_TEXTS, 11)]
        lines[5:5] = ['{"text": null}', '"no object"', '{"text": "never closed', '{"text": "\\u0000"}']
        lines[300:300] = ['{"text": " "}', '{"other": "field"}']
        self.corpus.write_text("\n".join(lines) + "\n")
        self.n_rows = len(lines)
        self.n_shards = -(-self.n_rows // SHARD_ROWS)
        for name, build in (("lm", tiny.build_lm), ("encoder", tiny.build_encoder)):
            (folder / name).mkdir()
            build(folder / name)
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self.whole: dict[str, str] = {}
        self.most_bytes = self.largest_file = 0
        self.was_hit = False

    def command(self, run_dir: Path, options: Sequence[str] = ()) -> list[str]:
        """Return the command of a run."""
        return [
            *(sys.executable, "-m", "euds", "score", str(self.corpus), "--out", str(run_dir), "--n-clusters", "4"),
            *("--lm", str(self.folder / "lm"), "--embedder", str(self.folder / "encoder")),
            *("--semantic", self.semantic, *(SHORT if "samples" in self.semantic else ())),
            *("--shard-rows", str(SHARD_ROWS), *options),
        ]

    def run_in_peace(self) -> None:
        """Make the run that all others are compared with, and learn how much room it takes."""
        run_dir = self.folder / "whole"
        process = subprocess.Popen(self.command(run_dir), env=self.environment, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            sizes = [PAGE * -(-size // PAGE) for size in _sizes(run_dir)]
            self.most_bytes = max(self.most_bytes, sum(sizes))
            self.largest_file = max(self.largest_file, *sizes, 0)
            time.sleep(0.01)
        if process.returncode != 0:
            raise SystemExit("the run that nothing interrupts has failed")
        self.whole = digests(run_dir)

    def interrupt(self, kind: Kind, rng: np.random.Generator, number: int) -> tuple[list[str], str, int]:
        """Interrupt a run, resume it, compare; again if it had ended before it was hit.

        Returns:
            What is wrong, after how much work it was interrupted, and how many runs had ended before.
        """
        for misses in range(MISSES):
            run_dir = self.folder / f"run-{number}-{misses}"
            with ExitStack() as stack:
                if kind.strike is None:
                    limit = int(rng.integers(16, self.most_bytes // PAGE)) * PAGE
                    make_room, set_limit = stack.enter_context(self._disk(run_dir, limit))
                    how = f"with {limit // 1024} KiB"
                    process = self._start(run_dir, kind, set_limit)
                else:
                    goal = int(rng.integers(self.steps * self.n_shards))
                    how = f"{goal} files done"
                    process = self._start(run_dir, kind)
                    self._strike(kind.strike, process, run_dir, goal, rng)
                _, said = process.communicate()
                if process.returncode == 0 and (kind.exit_code != 0 or not self.was_hit):
                    continue
                if kind.strike is None:
                    make_room()
                faults = self._how_it_ended(kind, process.returncode, said)
                options = kind.options if rng.random() < 0.5 else ()
                again = subprocess.run(
                    self.command(run_dir, options), env=self.environment, capture_output=True, text=True, check=False
                )
                if again.returncode != 0:
                    faults.append(f"resuming ended with {again.returncode}: {_last_line(again.stderr)}")
                else:
                    faults += self.differences(run_dir)
                return faults, how, misses
        return [f"{MISSES} runs have ended before they were hit"], "", MISSES

    def _start(self, run_dir: Path, kind: Kind, set_limit: Callable[[], None] | None = None) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command(run_dir, kind.options),
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=set_limit,
        )

    def _strike(
        self, strike: Strike, process: "subprocess.Popen[str]", run_dir: Path, goal: int, rng: np.random.Generator
    ) -> None:
        delay = rng.random() * MOST_DELAY_SECONDS
        while process.poll() is None and self.done(run_dir) < goal:
            time.sleep(0.005)
        time.sleep(delay)
        self.was_hit = process.poll() is None and strike(psutil.Process(process.pid), rng)

    def done(self, run_dir: Path) -> int:
        """Return how many stages and parts are finished; -1 before the run has begun."""
        work = run_dir / "work"
        if not (work / "lock").exists():
            return -1
        parts = {path.stem.removeprefix("part-") for path in work.glob("records/part-*.json")}
        files = {path.stem for path in work.glob("*.arrow")}
        return self.steps * len(parts) + sum(name.rpartition("-")[2] not in parts for name in files)

    def _how_it_ended(self, kind: Kind, exit_code: int, said: str) -> list[str]:
        faults = []
        if exit_code != kind.exit_code:
            faults.append(f"exit code {exit_code}, not {kind.exit_code}: {_last_line(said)}")
        elif kind.says not in said or (kind.says and "Traceback" in said):
            faults.append(f"said {_last_line(said)!r}")
        if kind.strike is None and str(self.folder) not in said:
            faults.append(f"named no path: {_last_line(said)!r}")
        return faults

    def differences(self, run_dir: Path) -> list[str]:
        """Return in what a finished run is not the one that nothing interrupted."""
        found = digests(run_dir)
        faults = [
            f"{name}: {'missing' if name not in found else 'stray' if name not in self.whole else 'other bytes'}"
            for name in sorted(found.keys() | self.whole.keys())
            if found.get(name) != self.whole.get(name)
        ]
        if (run_dir / "work").exists():
            faults.append("work/ is still there")
        counts: dict[str, Any] = json.loads((run_dir / "manifest.json").read_text())["counts"]
        quarantined = len((run_dir / "quarantine.jsonl").read_text().splitlines())
        if not self.n_rows == counts["rows"] == counts["scored"] + quarantined or quarantined != counts["quarantined"]:
            faults.append(f"{self.n_rows} rows in, counted {counts}, {quarantined} lines in quarantine.jsonl")
        return faults

    @contextmanager
    def _disk(self, run_dir: Path, limit: int) -> Iterator[tuple[Callable[[], object], Callable[[], None] | None]]:
        """Give `run_dir` a disk of `limit` bytes; yield what makes it larger, and what to call in the process."""
        if not self.mounts:
            limit = limit * self.largest_file // self.most_bytes
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            yield (lambda: None), (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard)))
            return
        run_dir.mkdir()
        _mount(run_dir, f"size={limit}")
        try:
            yield (lambda: _mount(run_dir, "remount,size=1g")), None
        finally:
            subprocess.run(["umount", run_dir], check=True)


def may_mount(folder: Path) -> bool:
    """Tell whether this process may mount a file system."""
    probe = folder / "probe"
    probe.mkdir()
    try:
        _mount(probe, "size=1m")
    except (OSError, subprocess.CalledProcessError):
        return False
    subprocess.run(["umount", probe], check=True)
    return True


def _mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, capture_output=True)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def _sizes(folder: Path) -> Iterator[int]:
    # It goes on where a folder vanishes, which rglob does not.
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                yield (Path(parent) / name).stat().st_size


if __name__ == "__main__":
    main()
