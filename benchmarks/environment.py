"""What numbers were measured on, as every results file records it, and which file the rows of a machine go into."""

import json
import platform
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def environment(packages: tuple[str, ...] = ("torch", "transformers")) -> dict[str, Any]:
    """Return date, processor, cores, memory, GPU if there is one, and versions of the given packages."""
    import psutil
    import torch

    import euds

    facts: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": _cpu_name(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
        facts["cuda"] = torch.version.cuda
    for package in packages:
        try:
            # euds need not be installed to be imported.
            facts[package] = euds.__version__ if package == "euds" else version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def results_path(benchmark: str, device: str = "cpu") -> Path:
    """Return the file of a benchmark's rows on this machine; those of other machines stand beside them.

    Args:
        benchmark: of `table.TABLES`.
        device: "cpu" or "cuda".
    """
    return RESULTS / f"{benchmark}-{_machine(device)}.json"


def kept_rows(path: Path, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of an earlier run, beside which some are measured anew; they get its header.

    Args:
        path: file of the rows, which may be missing.
        facts: of this machine, as `environment` returns them, and what else the header holds.

    Raises:
        SystemExit: the rows were measured on another machine, or with other versions.
    """
    if not path.exists():
        return []
    content = json.loads(path.read_text(encoding="utf-8"))
    before = content["environment"]
    differing = [name for name in before | facts if name != "date" and before.get(name) != facts.get(name)]
    if differing:
        raise SystemExit(f"{path} has other {', '.join(differing)}: measure all anew, not a part")
    rows: list[dict[str, Any]] = content["rows"]
    return rows


def _machine(device: str) -> str:
    """Return which GPU, "cuda_h200", or whether the processor has AVX-512."""
    if device == "cuda":
        import torch

        name = torch.cuda.get_device_name().removeprefix("NVIDIA ")
        return f"cuda_{re.sub(r'[^a-z0-9]+', '_', name.lower())}"
    from euds.kernels import token_stats_cpp

    return "cpu_avx512" if token_stats_cpp.ISA == "avx512" else device


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")
