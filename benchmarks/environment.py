"""What numbers were measured on: machine, device and versions, as every results file records them."""

import platform
import re
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


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


def gpu_file_name() -> str:
    """Return how the results of this GPU are named: "cuda_h200"."""
    import torch

    name = torch.cuda.get_device_name().removeprefix("NVIDIA ")
    return f"cuda_{re.sub(r'[^a-z0-9]+', '_', name.lower())}"


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")
