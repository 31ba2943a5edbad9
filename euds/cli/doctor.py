"""`euds doctor` and `euds bench`: what this machine can run, and how fast."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from euds.backends import FAISS_BUILDS
from euds.errors import InputError, nearest

PACKAGES = ("numpy", "numba", "pyarrow", "torch", "transformers", "accelerate", "triton", "ray")

NOT_INSTALLED = "not installed"


def doctor() -> None:
    """Say what is installed, which device will be used and which assets are fetched."""
    typer.echo(f"euds {_version('euds')}, Python {sys.version.split()[0]}")
    for package in PACKAGES:
        typer.echo(f"  {package}: {_version(package)}")
    typer.echo(f"C++ extension: {_extension()}")
    if importlib.util.find_spec("torch"):
        from euds.measures.device import emulates_bfloat16, precision

        settled = precision()
        slow = "; bfloat16 is emulated here and slow" if emulates_bfloat16(settled.device) else ""
        typer.echo(f"device: {settled.device}, models in {settled.dtype}{slow}")
        for line in _token_statistics():
            typer.echo(line)
    typer.echo(f"semantic clusters: {_clusters()}")
    from euds.assets import ASSETS, cache_folder, is_fetched

    fetched = [name for name in ASSETS if is_fetched(name)]
    typer.echo(f"cache: {cache_folder()}, fetched: {', '.join(fetched) or 'nothing yet; run: euds fetch'}")


def bench(
    names: Annotated[list[str] | None, typer.Argument(help="Benchmarks to run, such as scoring; none: all.")] = None,
) -> None:
    """Run benchmarks of the source tree and write their rows under benchmarks/results; failures come last."""
    folder = Path(__file__).parents[2] / "benchmarks"
    known = sorted(path.stem.removeprefix("bench_") for path in folder.glob("bench_*.py"))
    if not known:
        raise InputError("the benchmarks are part of the source tree; run this from an editable install of a clone")
    for name in names or known:
        if name not in known:
            raise InputError(f"no benchmark {name!r}{nearest(name, known)}; known: {', '.join(known)}")
    # A process each, so that none runs on another's caches and threads.
    failed = [
        name
        for name in names or known
        if subprocess.run([sys.executable, str(folder / f"bench_{name}.py")], check=False).returncode
    ]
    if failed:
        print(f"bench: {', '.join(failed)} failed; what went wrong is said above", file=sys.stderr)
        # A defect, not bad input.
        raise typer.Exit(1)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return NOT_INSTALLED


def _extension() -> str:
    if importlib.util.find_spec("euds._core") is None:
        return "missing; run: pip install -e ."
    from euds import _core

    return f"there, token statistics for {', '.join(_core.usable_isas())}"


def _clusters() -> str:
    """Say which build of FAISS fits and searches the clusters, and where."""
    builds = [f"{build} {_version(build)}" for build in FAISS_BUILDS if _version(build) != NOT_INSTALLED]
    if importlib.util.find_spec("faiss") is None:
        return "none; FAISS is not installed; run: pip install faiss-cpu"
    import faiss

    from euds.kernels.cluster_faiss import has_gpu

    if has_gpu():
        where = f"on the first of {faiss.get_num_gpus()} GPU(s)"
    elif hasattr(faiss, "StandardGpuResources"):
        where = "on the CPU; it is built for GPUs, but finds none"
    else:
        where = "on the CPU; it is built without GPUs"
    return f"FAISS {faiss.__version__} ({', '.join(builds) or 'of no known build'}) {where}"


def _token_statistics() -> Iterator[str]:
    """Say which back end the token statistics take on each device, and why not another."""
    import torch

    from euds.ops.token_stats import ORDER, usable_backends

    devices = ["cpu", *(f"cuda:{at}" for at in range(torch.cuda.device_count()))]
    for device in devices:
        usable = usable_backends("token_stats", torch.empty(0, device=device))
        reasons = {name: usable[name].unavailable_because for name in ORDER}
        taken = next(name for name in ORDER if reasons[name] is None)
        refused = [f"not {name}: {reason}" for name, reason in reasons.items() if reason is not None]
        where = device if device == "cpu" else f"{device} ({torch.cuda.get_device_name(device)})"
        yield f"token statistics on {where}: {'; '.join([taken, *refused])}"
    if len(devices) == 1:
        yield f"token statistics on a GPU: none; torch {torch.__version__} finds no CUDA device"
