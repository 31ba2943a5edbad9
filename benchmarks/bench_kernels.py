"""Token-entropy kernels on this machine: euds against torch, SciPy, other projects, and the machine's limits.

Every contender's result is checked against float64 before its time counts; contenders take turns over several rounds
on rotating random inputs; the limit (reading memory, copying memory, the matrix product alone) takes its turn too.

    python benchmarks/bench_kernels.py                  # the CPU, and the GPU if there is one
    python benchmarks/bench_kernels.py --device cuda    # writes results/kernels-cuda_GPU.json and the README table
"""

import argparse
import contextlib
import functools
import gc
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from environment import environment, results_path
from kernel_contenders import LINEAR, LOGITS, NLL_ONLY
from table import write_tables
from timing import Call, Timing, interleave, peak_memory_mib

from euds.files import atomic_path
from euds.kernels.projection_tiles import tiles

PACKAGES = ("euds", "torch", "triton", "numpy", "scipy", "trl", "liger-kernel", "cut-cross-entropy", "verl")
VOCABULARIES = (32000, 50257, 128256, 151936, 256000)
N_INPUTS = 3
Row = dict[str, Any]
CHECKED_ROWS = 32
LARGEST_ERROR_NATS = {"float32": 1e-4, "bfloat16": 0.3, "float16": 0.3}
"""Beyond this a contender computes something else and is not timed; bfloat16 logits alone shift entropies by 0.2."""
EXACT = {
    "token_stats": ("euds triton", "euds triton, with varentropy"),
    "linear_token_stats": ("euds triton, fused kernel",),
}
"""Contenders that are held to the error of float32 whatever the dtype of their inputs."""
WHOLE_TILES = 64
"""The vocabulary of the product alone is rounded up to these: with an odd one the library takes a kernel seven times as
slow, which would be no limit."""


@dataclass(frozen=True)
class Suite:
    """What is measured on a device."""

    logits_bytes: int
    dtypes: tuple[torch.dtype, ...]
    hidden_sizes: tuple[int, ...]
    linear_vocabularies: tuple[int, ...]
    linear_rows: int
    linear_dtype: torch.dtype
    rounds: int
    most_seconds: float = math.inf
    """Of a contender, after which it gets no further round."""


SUITES = {
    "cpu": Suite(256 << 20, (torch.float32, torch.bfloat16), (576, 2048), (49152, 151936), 1024, torch.float32, 7),
    "cuda": Suite(
        4 << 30,
        (torch.bfloat16, torch.float16, torch.float32),
        (576, 1024, 2048, 4096),
        VOCABULARIES,
        8192,
        torch.bfloat16,
        15,
        1.0,
    ),
}


@dataclass(frozen=True)
class Case:
    """Inputs of one size: logits in memory, or hidden states of a width and an output projection."""

    dtype: torch.dtype
    vocabulary: int
    hidden_size: int | None = None

    def __str__(self) -> str:
        """Name it in messages and in the results."""
        width = "logits" if self.hidden_size is None else f"H {self.hidden_size}"
        return f"{name_of(self.dtype)} {width}, V {self.vocabulary}"

    @property
    def comes_first(self) -> bool:
        """Whether it must not be lost where time is short."""
        common = self.vocabulary in (50257, 151936) and self.hidden_size in (None, 576, 2048)
        return common and self.dtype == torch.bfloat16


@dataclass(frozen=True)
class LeftOut:
    """What was not timed, and why."""

    found: list[dict[str, str]] = field(default_factory=list)

    def add(self, where: object, contender: str, reason: Exception | str) -> None:
        """Note and print a contender of a case that is left out."""
        first_line = (str(reason).splitlines() or [""])[0]
        text = first_line if isinstance(reason, str) else f"{type(reason).__name__}: {first_line}"
        print(f"{where}: left out {contender}: {text}", file=sys.stderr)
        self.found.append(self.entry(where, contender, text))

    @staticmethod
    def entry(where: object, contender: str, reason: str) -> dict[str, str]:
        """Return what the results say of a contender that was not timed."""
        return {"case": str(where), "contender": contender, "reason": reason}


def main() -> None:
    """Measure every suite that this machine can run, and write rows and tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=list(SUITES), help="only this device")
    parser.add_argument("--seconds", type=float, default=math.inf, help="cases that would start later are left out")
    arguments = parser.parse_args()
    stop = time.monotonic() + arguments.seconds
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    torch.manual_seed(0)
    failed: list[Case] = []
    try:
        for name in [arguments.device] if arguments.device else devices:
            failed += measure(name, stop)
    finally:
        write_tables()
    if failed:
        raise SystemExit(f"failed: {'; '.join(map(str, failed))}")


def measure(device: str, stop: float) -> list[Case]:
    """Time the cases of a device, and write the results after each: whatever ends the run, they are there.

    Args:
        device: of `SUITES`.
        stop: time of `time.monotonic` after which no case is started.

    Returns:
        Cases that failed altogether.
    """
    suite = SUITES[device]
    cases = [Case(dtype, vocabulary) for dtype in suite.dtypes for vocabulary in VOCABULARIES]
    cases += [Case(suite.linear_dtype, v, width) for width in suite.hidden_sizes for v in suite.linear_vocabularies]
    path = results_path("kernels", device)
    facts = environment(PACKAGES)
    left_out, found = LeftOut(), dict[Case, list[Row]]()
    failed = []
    ordered = sorted(cases, key=lambda case: not case.comes_first)
    for at, case in enumerate(ordered, 1):
        if time.monotonic() >= stop:
            break
        time_case = logits_case if case.hidden_size is None else linear_case
        try:
            found[case] = time_case(device, suite, case, left_out)
            report(found[case])
        except Exception as error:
            failed.append(case)
            left_out.add(case, "everyone", error)
        free_memory()
        rows = [row for case in cases for row in found.get(case, [])]
        if rows:
            later = [LeftOut.entry(other, "everyone", "no time was left") for other in ordered[at:]]
            content = {"environment": facts, "rows": rows, "left_out": left_out.found + later}
            with atomic_path(path) as partial:
                partial.write_text(json.dumps(content, indent=2) + "\n")
    print(f"{path}: {len(found)} of {len(cases)} cases")
    return failed


def free_memory() -> None:
    """Give back what a case or a failed contender has taken."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def logits_case(device: str, suite: Suite, case: Case, left_out: LeftOut) -> list[Row]:
    """Time every contender on logits in memory; the limit is reading (CPU) or copying (GPU) as many bytes."""
    dtype, vocabulary = case.dtype, case.vocabulary
    n = suite.logits_bytes // (dtype.itemsize * vocabulary)
    inputs = [(3 * torch.randn(n, vocabulary, device=device)).to(dtype) for _ in range(N_INPUTS)]
    targets = torch.randint(0, vocabulary, (n,), device=device)
    checked = checked_rows(n, device)
    expected = reference_entropy(inputs[0][checked].double())
    bind = lambda function: lambda at: function(inputs[at], targets)  # noqa: E731  # One line says it best.
    calls, errors = ready("token_stats", LOGITS[device], bind, checked, expected, case, left_out)
    limit, call = memory_limit(device, inputs)
    timings = times({**calls, limit: call}, device, suite, case, left_out)
    n_bytes = n * vocabulary * dtype.itemsize
    # A copy moves every byte twice, reading once moves it once.
    limit_seconds = timings[limit].p50 / (2 if device == "cuda" else 1)
    rows: list[Row] = []
    for name, timing in timings.items():
        moved = 2 * n_bytes if name == "memory copy" else n_bytes
        seconds = limit_seconds if name == limit else timing.p50
        rows.append(
            {
                "op": "token_stats",
                "device": device,
                "contender": name,
                "dtype": name_of(dtype),
                "rows": n,
                "vocabulary": vocabulary,
                **rates(timing, n * vocabulary / 1e9, "Glogits/s"),
                "bytes": moved,
                "bytes_formula": "rows * vocabulary * itemsize, each read once; twice that for the copy",
                "gb_per_s": round(moved / timing.p50 / 1e9, 2),
                "limit": limit,
                "ratio_to_limit": round(limit_seconds / seconds, 4),
                "peak_memory_mib": memory_of(calls.get(name), device, case, name, left_out),
                "largest_error_nats": errors.get(name),
            }
        )
    return rows


def linear_case(device: str, suite: Suite, case: Case, left_out: LeftOut) -> list[Row]:
    """Time every contender on hidden states and weight; the limit is the library's matrix product alone.

    On a CPU it is made as a whole and in the tiles of euds, which need not go to memory: the faster one counts.
    """
    n, dtype, hidden_size, vocabulary = suite.linear_rows, case.dtype, case.hidden_size, case.vocabulary
    assert hidden_size is not None
    inputs = [torch.randn(n, hidden_size, device=device).to(dtype) for _ in range(N_INPUTS)]
    weight = (3 / math.sqrt(hidden_size) * torch.randn(vocabulary, hidden_size, device=device)).to(dtype)
    targets = torch.randint(0, vocabulary, (n,), device=device)
    checked = checked_rows(n, device)
    logits = inputs[0][checked].double() @ weight.double().T
    nll = -torch.log_softmax(logits, -1).gather(1, targets[checked, None])[:, 0]
    expected = {False: reference_entropy(logits), True: nll}
    bind = lambda function: lambda at: function(inputs[at], weight, targets)  # noqa: E731  # One line says it best.
    calls, errors = ready("linear_token_stats", LINEAR[device], bind, checked, expected, case, left_out)
    more = -vocabulary % WHOLE_TILES
    whole = torch.nn.functional.pad(weight, (0, 0, 0, more)) if more else weight
    product = torch.empty(n, len(whole), device=device, dtype=dtype)
    limits: dict[str, Call] = {"matrix product alone": functools.partial(_multiply, inputs, whole, product)}
    if device == "cpu":
        limits["matrix product alone, in tiles"] = functools.partial(_multiply_tiles, inputs, weight)
    timings = times({**calls, **limits}, device, suite, case, left_out)
    limit = min(limits, key=lambda name: timings[name].p50)
    operations = 2 * n * vocabulary * hidden_size
    return [
        {
            "op": "linear_token_stats",
            "device": device,
            "contender": name,
            "dtype": name_of(dtype),
            "rows": n,
            "hidden": hidden_size,
            "vocabulary": vocabulary,
            **rates(timing, n, "rows/s"),
            "operations": operations,
            "operations_formula": "2 * rows * vocabulary * hidden",
            "tflop_per_s": round(operations / timing.p50 / 1e12, 4),
            "limit": limit,
            "ratio_to_limit": round(timings[limit].p50 / timing.p50, 4),
            "peak_memory_mib": memory_of(calls.get(name), device, case, name, left_out),
            "largest_error_nats": errors.get(name),
        }
        for name, timing in timings.items()
    ]


def _multiply(inputs: list[torch.Tensor], weight: torch.Tensor, product: torch.Tensor, at: int) -> None:
    torch.mm(inputs[at], weight.T, out=product)


def _multiply_tiles(inputs: list[torch.Tensor], weight: torch.Tensor, at: int) -> None:
    # Needs the extension, which a GPU machine need not have.
    from euds.kernels.linear_token_stats_cpp import TILE_COLUMNS, TILE_ROWS

    for _ in tiles(inputs[at], weight, TILE_ROWS, TILE_COLUMNS):
        pass


def checked_rows(n: int, device: str) -> torch.Tensor:
    """Return the numbers of the rows to compare with float64, from the first to the last."""
    return torch.linspace(0, n - 1, min(n, CHECKED_ROWS), dtype=torch.float64, device=device).long()


def ready(
    op: str,
    makers: Mapping[str, Callable[[], Any]],
    bind: Callable[[Any], Call],
    checked: torch.Tensor,
    expected: Any,
    case: Case,
    left_out: LeftOut,
) -> tuple[dict[str, Call], dict[str, float]]:
    """Return the contenders that run here and are right, as calls by input number, and their largest errors."""
    calls, errors = {}, {}
    for name, make in makers.items():
        allowed = LARGEST_ERROR_NATS["float32" if name in EXACT[op] else name_of(case.dtype)]
        right = expected[name in NLL_ONLY] if isinstance(expected, dict) else expected
        try:
            call = bind(make())
            # What torch compiles, it would compile anew for this.
            with contextlib.nullcontext() if "torch.compile" in name else poisoned():
                error = float((call(0)[checked].double() - right).abs().max())
        # A peer, or the compiler beneath it, may raise anything.
        except Exception as reason:
            left_out.add(case, name, reason)
        else:
            if error <= allowed:
                calls[name], errors[name] = call, float(f"{error:.2g}")
            else:
                left_out.add(case, name, f"it is off by {error:.2g} nats, {allowed:g} are allowed")
        if name not in calls:
            free_memory()
    return calls, errors


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """Fill the memory that torch hands out with NaN, so that a value never written is seen."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def times(calls: Mapping[str, Call], device: str, suite: Suite, case: Case, left_out: LeftOut) -> dict[str, Timing]:
    """Time the contenders of a case in turn, without those that fail meanwhile."""
    return interleave(
        calls,
        rounds=suite.rounds,
        n_inputs=N_INPUTS,
        device=device,
        most_seconds=suite.most_seconds,
        on_failure=functools.partial(left_out.add, case),
    )


def memory_of(call: Call | None, device: str, case: Case, name: str, left_out: LeftOut) -> float | None:
    """Return the MiB that a call takes; None for the limit, and if it fails now."""
    if call is None:
        return None
    try:
        return round(peak_memory_mib(call, device=device), 1)
    except Exception as reason:
        left_out.add(case, f"{name}, peak memory", reason)
        return None


def memory_limit(device: str, inputs: Sequence[torch.Tensor]) -> tuple[str, Call]:
    """Return the name and the call of what bounds a pass over logits in memory."""
    if device == "cpu":
        # Integers, so that the pass has no conversions and no chain of roundings: it waits for memory only.
        words = [logits.flatten()[: logits.numel() // 2 * 2].view(torch.int32) for logits in inputs]
        return "memory read", lambda at: words[at].max()
    target = torch.empty_like(inputs[0])
    return "memory copy", lambda at: target.copy_(inputs[at])


def reference_entropy(logits: torch.Tensor) -> torch.Tensor:
    """Entropy of a few rows in float64, by definition."""
    logp = torch.log_softmax(logits, -1)
    return -(logp.exp() * logp).sum(-1)


def rates(timing: Timing, amount: float, unit: str) -> dict[str, Any]:
    """Return quantiles of the rate; the slowest round gives the lowest."""
    return {
        "unit": unit,
        "p20": float(f"{amount / timing.p80:.4g}"),
        "p50": float(f"{amount / timing.p50:.4g}"),
        "p80": float(f"{amount / timing.p20:.4g}"),
        "milliseconds": round(1000 * timing.p50, 4),
    }


def name_of(dtype: torch.dtype) -> str:
    """Return a dtype's short name."""
    return str(dtype).removeprefix("torch.")


def report(rows: Sequence[Row]) -> None:
    """Print a line a contender."""
    for row in rows:
        shape = " ".join(f"{key[0].upper()} {row[key]}" for key in ("vocabulary", "hidden") if key in row)
        print(
            f"{row['op']} {row['dtype']} {shape}, {row['contender']}: {row['p50']} {row['unit']}, "
            f"{row['ratio_to_limit']:.1%} of {row['limit']}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
