"""`euds doctor` and `euds bench`: what this machine can run, and how fast."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from euds.backends import FAISS_BUILDS
from euds.cli.as_json import Json, print_json
from euds.errors import InputError, nearest

PACKAGES = ("numpy", "numba", "pyarrow", "torch", "transformers", "accelerate", "triton", "ray")

NOT_INSTALLED = "not installed"


@dataclass(frozen=True)
class Backends:
    """The back end that the token statistics take on a device, why not another, by name, and the name of the GPU."""

    taken: str
    refused: Mapping[str, str]
    card: str | None


@dataclass(frozen=True)
class Findings:
    """What `euds doctor` says.

    Attributes:
        euds, python: versions.
        packages: version by name, None for one that is not installed.
        extension: whether the C++ extension is there, and for which instructions it has token statistics.
        device, dtype: that models will use; None without torch, as what follows of it.
        emulates_bfloat16: whether bfloat16 is slow there.
        token_statistics: by device, "cpu" and each "cuda:N".
        clusters: which build of FAISS fits and searches the semantic clusters, and where.
        cache: folder of the assets.
        fetched: assets that are there.
    """

    euds: str | None
    python: str
    packages: Mapping[str, str | None]
    extension: str
    device: str | None
    dtype: str | None
    emulates_bfloat16: bool | None
    token_statistics: Mapping[str, Backends]
    clusters: str
    cache: str
    fetched: tuple[str, ...]


def doctor(as_json: Json = False) -> None:
    """Say what is installed, which device will be used and which assets are fetched."""
    found = _find()
    if as_json:
        print_json(found)
        return
    typer.echo(f"euds {found.euds or NOT_INSTALLED}, Python {found.python}")
    for package, own in found.packages.items():
        typer.echo(f"  {package}: {own or NOT_INSTALLED}")
    typer.echo(f"C++ extension: {found.extension}")
    if found.device is not None:
        slow = "; bfloat16 is emulated here and slow" if found.emulates_bfloat16 else ""
        typer.echo(f"device: {found.device}, models in {found.dtype}{slow}")
        for line in _token_lines(found.token_statistics):
            typer.echo(line)
    typer.echo(f"semantic clusters: {found.clusters}")
    typer.echo(f"cache: {found.cache}, fetched: {', '.join(found.fetched) or 'nothing yet; run: euds fetch'}")


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


def _find() -> Findings:
    from euds.assets import ASSETS, cache_folder, is_fetched

    device: str | None = None
    dtype: str | None = None
    emulates: bool | None = None
    statistics: dict[str, Backends] = {}
    if importlib.util.find_spec("torch"):
        from euds.measures.device import emulates_bfloat16, precision

        settled = precision()
        device, dtype, emulates = settled.device, settled.dtype, emulates_bfloat16(settled.device)
        statistics = _token_statistics()
    return Findings(
        euds=_version("euds"),
        python=sys.version.split()[0],
        packages={package: _version(package) for package in PACKAGES},
        extension=_extension(),
        device=device,
        dtype=dtype,
        emulates_bfloat16=emulates,
        token_statistics=statistics,
        clusters=_clusters(),
        cache=str(cache_folder()),
        fetched=tuple(name for name in ASSETS if is_fetched(name)),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _extension() -> str:
    if importlib.util.find_spec("euds._core") is None:
        return "missing; run: pip install -e ."
    from euds import _core

    return f"there, its kernels for {', '.join(_core.usable_isas())}"


def _clusters() -> str:
    """Say which build of FAISS fits and searches the clusters, and where."""
    builds = [f"{build} {_version(build)}" for build in FAISS_BUILDS if _version(build) is not None]
    if importlib.util.find_spec("faiss") is None:
        return "none; FAISS is not installed; run: pip install faiss-cpu"
    import faiss

    from euds.kernels.cluster_faiss import n_gpus

    if n_gpus():
        where = f"on the GPU that runs the models; it finds {n_gpus()}"
    elif hasattr(faiss, "StandardGpuResources"):
        where = "on the CPU; it is built for GPUs, but finds none"
    else:
        where = "on the CPU; it is built without GPUs"
    return f"FAISS {faiss.__version__} ({', '.join(builds) or 'of no known build'}) {where}"


def _token_statistics() -> dict[str, Backends]:
    """Return which back end the token statistics take on each device."""
    import torch

    from euds.ops.token_stats import ORDER, usable_backends

    found = {}
    for device in ["cpu", *(f"cuda:{at}" for at in range(torch.cuda.device_count()))]:
        usable = usable_backends("token_stats", torch.empty(0, device=device))
        reasons = {name: usable[name].unavailable_because for name in ORDER}
        taken = next(name for name in ORDER if reasons[name] is None)
        refused = {name: reason for name, reason in reasons.items() if reason is not None}
        found[device] = Backends(taken, refused, None if device == "cpu" else torch.cuda.get_device_name(device))
    return found


def _token_lines(statistics: Mapping[str, Backends]) -> Iterator[str]:
    for device, found in statistics.items():
        where = device if found.card is None else f"{device} ({found.card})"
        refused = [f"not {name}: {reason}" for name, reason in found.refused.items()]
        yield f"token statistics on {where}: {'; '.join([found.taken, *refused])}"
    if len(statistics) == 1:
        yield f"token statistics on a GPU: none; torch {_version('torch')} finds no CUDA device"
