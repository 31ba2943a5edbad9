"""Token-entropy kernels on this machine: euds against torch, SciPy, other projects, and the machine's limits.

Every contender's result is checked against float64 before its time counts; contenders take turns over several rounds
on rotating random inputs; the limit (reading memory, copying memory, the matrix product alone) takes its turn too.

    python benchmarks/bench_kernels.py                  # the CPU, and the GPU if there is one
    python benchmarks/bench_kernels.py --device cuda    # writes results/kernels-cuda.json and the README table
"""

import argparse
import functools
import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from environment import environment
from kernel_contenders import LINEAR, LOGITS, NLL_ONLY, NotHere
from table import write_tables
from timing import Timing, interleave, peak_memory_mib

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("euds", "torch", "triton", "numpy", "scipy", "trl", "liger-kernel", "cut-cross-entropy", "verl")
VOCABULARIES = (32000, 50257, 128256, 151936, 256000)
N_INPUTS = 3
Row = dict[str, Any]
CHECKED_ROWS = 8
LARGEST_ERROR_NATS = {"float32": 1e-4, "bfloat16": 0.3, "float16": 0.3}
"""Beyond this a contender computes something else and is not timed; bfloat16 logits alone shift entropies by 0.2."""


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


SUITES = {
    "cpu": Suite(256 << 20, (torch.float32, torch.bfloat16), (576, 2048), (49152, 151936), 512, torch.float32, 7),
    "cuda": Suite(
        2 << 30,
        (torch.bfloat16, torch.float16, torch.float32),
        (576, 1024, 2048, 4096),
        VOCABULARIES,
        8192,
        torch.bfloat16,
        15,
    ),
}


def main() -> None:
    """Measure every suite that this machine can run, and write rows and tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=list(SUITES), help="only this device")
    device = parser.parse_args().device
    devices = [device] if device else ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    torch.manual_seed(0)
    for name in devices:
        suite = SUITES[name]
        rows = [row for dtype in suite.dtypes for v in VOCABULARIES for row in logits_case(name, suite, dtype, v)]
        for hidden_size in suite.hidden_sizes:
            for vocabulary in suite.linear_vocabularies:
                rows += linear_case(name, suite, hidden_size, vocabulary)
        path = RESULTS / f"kernels-{name}.json"
        path.write_text(json.dumps({"environment": environment(PACKAGES), "rows": rows}, indent=2) + "\n")
        print(f"wrote {path}")
    write_tables()


def logits_case(device: str, suite: Suite, dtype: torch.dtype, vocabulary: int) -> list[Row]:
    """Time every contender on logits in memory; the limit is reading (CPU) or copying (GPU) as many bytes."""
    n = suite.logits_bytes // (dtype.itemsize * vocabulary)
    inputs = [(3 * torch.randn(n, vocabulary, device=device)).to(dtype) for _ in range(N_INPUTS)]
    targets = torch.randint(0, vocabulary, (n,), device=device)
    expected = reference_entropy(inputs[0][:CHECKED_ROWS].double())
    bind = lambda function: lambda at: function(inputs[at], targets)  # noqa: E731  # One line says it best.
    calls, errors = ready(LOGITS[device], bind, expected, dtype, f"V {vocabulary}")
    limit, call = memory_limit(device, inputs)
    timings = interleave({**calls, limit: call}, rounds=suite.rounds, n_inputs=N_INPUTS, device=device)
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
                "peak_memory_mib": round(peak_memory_mib(calls[name], device=device), 1) if name in calls else None,
                "largest_error_nats": errors.get(name),
            }
        )
    report(rows)
    return rows


def linear_case(device: str, suite: Suite, hidden_size: int, vocabulary: int) -> list[Row]:
    """Time every contender on hidden states and weight; the limit is the library's matrix product alone."""
    n, dtype = suite.linear_rows, suite.linear_dtype
    inputs = [torch.randn(n, hidden_size, device=device).to(dtype) for _ in range(N_INPUTS)]
    weight = (3 / math.sqrt(hidden_size) * torch.randn(vocabulary, hidden_size, device=device)).to(dtype)
    targets = torch.randint(0, vocabulary, (n,), device=device)
    logits = inputs[0][:CHECKED_ROWS].double() @ weight.double().T
    nll = -torch.log_softmax(logits, -1).gather(1, targets[:CHECKED_ROWS, None])[:, 0]
    expected = {False: reference_entropy(logits), True: nll}
    bind = lambda function: lambda at: function(inputs[at], weight, targets)  # noqa: E731  # One line says it best.
    calls, errors = ready(LINEAR[device], bind, expected, dtype, f"H {hidden_size}, V {vocabulary}")
    limit = "matrix product alone"
    product = torch.empty(n, vocabulary, device=device, dtype=dtype)
    multiply = functools.partial(_multiply, inputs, weight, product)
    timings = interleave({**calls, limit: multiply}, rounds=suite.rounds, n_inputs=N_INPUTS, device=device)
    operations = 2 * n * vocabulary * hidden_size
    rows: list[Row] = [
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
            "peak_memory_mib": round(peak_memory_mib(calls[name], device=device), 1) if name in calls else None,
            "largest_error_nats": errors.get(name),
        }
        for name, timing in timings.items()
    ]
    report(rows)
    return rows


def _multiply(inputs: list[torch.Tensor], weight: torch.Tensor, product: torch.Tensor, at: int) -> None:
    torch.mm(inputs[at], weight.T, out=product)


def ready(
    makers: Mapping[str, Callable[[], Any]],
    bind: Callable[[Any], Callable[[int], Any]],
    expected: Any,
    dtype: torch.dtype,
    where: str,
) -> tuple[dict[str, Callable[[int], Any]], dict[str, float]]:
    """Return the contenders that run here and are right, as calls by input number, and their largest errors."""
    calls, errors = {}, {}
    for name, make in makers.items():
        try:
            call = bind(make())
            found = call(0)[:CHECKED_ROWS].double()
        except (NotHere, ImportError, AssertionError, RuntimeError, TypeError) as reason:
            print(
                f"{where}: left out {name}: {str(reason).splitlines()[0] if str(reason) else type(reason).__name__}",
                file=sys.stderr,
            )
            continue
        right = expected[name in NLL_ONLY] if isinstance(expected, dict) else expected
        error = float((found - right).abs().max())
        if not error <= LARGEST_ERROR_NATS[name_of(dtype)]:
            print(f"{where}: not timed, as it is off by {error:.2g} nats: {name}", file=sys.stderr)
            continue
        calls[name], errors[name] = call, float(f"{error:.2g}")
    return calls, errors


def memory_limit(device: str, inputs: list[torch.Tensor]) -> tuple[str, Callable[[int], Any]]:
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


def report(rows: list[dict[str, Any]]) -> None:
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
