"""Everyone who computes token entropies, behind one signature: euds' back ends, plain torch, SciPy, other projects.

Peers are installed beside euds and loaded from where they are; what is not installed, or cannot run on the device, is
left out with the reason.
"""

import functools
import importlib.util
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

import euds

LogitsFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits (N, V), targets (N,)) -> entropy (N,), nats."""

LinearFunction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(hidden (N, H), weight (V, H), targets (N,)) -> entropy (N,), nats, or NLL (N,) for those in `NLL_ONLY`."""

CHUNK_ROWS = 512
NLL_ONLY = ("cut-cross-entropy, NLL only",)


class NotHere(Exception):
    """A peer that cannot run here, with the reason."""


def eager(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Entropy as people write it: log-softmax of everything."""
    logp = torch.log_softmax(logits.float(), -1)
    return -(logp.exp() * logp).sum(-1)


def chunked(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The same, some rows at a time, so that less memory is taken."""
    rows = max(1, (1 << 20) // logits.shape[1]) if logits.device.type == "cpu" else CHUNK_ROWS
    return torch.cat([eager(part, targets) for part in logits.split(rows)])


@functools.cache
def compiled(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """torch.compile, once for all shapes: compiling anew for each would take longer than all the measuring."""
    compiled_function: Callable[..., torch.Tensor] = torch.compile(function, dynamic=True)
    return compiled_function


def by_euds(backend: str) -> LogitsFunction:
    """One back end of `euds.token_stats`, entropy and target log-probability only."""

    def run(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return euds.token_stats(logits, targets, varentropy=False, backend=backend).entropy

    return run


def by_euds_with_varentropy(backend: str) -> LogitsFunction:
    """One back end of `euds.token_stats`, everything."""

    def run(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return euds.token_stats(logits, targets, backend=backend).entropy

    return run


def scipy_entropy() -> LogitsFunction:
    """SciPy's log-softmax and entropy."""
    import scipy.special
    import scipy.stats

    def run(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(scipy.stats.entropy(scipy.special.softmax(logits.numpy(), axis=1), axis=1))

    return run


def trl_kernel() -> LogitsFunction:
    """TRL's Triton kernel for log-probability and entropy."""
    module = _load_file("trl", "kernels/logprob_entropy.py")

    def run(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        entropy: torch.Tensor = module.selective_log_softmax_and_entropy(logits, targets)[1]
        return entropy

    return run


def linear_by_euds(backend: str) -> LinearFunction:
    """One back end of `euds.linear_token_stats`, entropy and target log-probability only."""

    def run(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return euds.linear_token_stats(hidden, weight, targets, varentropy=False, backend=backend).entropy

    return run


def linear_full(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Full logits, then log-softmax."""
    return eager(torch.nn.functional.linear(hidden, weight), targets)


def linear_chunked(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Full logits of some rows at a time."""
    return torch.cat([linear_full(part, weight, targets) for part in hidden.split(CHUNK_ROWS)])


def liger_linear() -> LinearFunction:
    """Liger's fused projection and scaled cross-entropy with entropy; CuTe on Hopper, else its chunked torch code."""
    _require("liger_kernel")
    from liger_kernel.ops.fused_linear_scaled_cross_entropy import LigerFusedLinearScaledCrossEntropyFunction

    def run(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            _, entropy = LigerFusedLinearScaledCrossEntropyFunction.apply(hidden, weight, targets, 1.0, -100, 1, True)
        return entropy  # type: ignore[no-any-return]  # Untyped.

    return run


def verl_linear() -> LinearFunction:
    """verl's Triton kernel for log-probability and entropy from hidden states."""
    # Before there is a stub of the package, beside which nothing of it can be found.
    _require("verl")
    stub = types.ModuleType("verl.utils.device")
    stub.__dict__.update(
        get_device_capability=torch.cuda.get_device_capability,
        get_device_name=lambda: "cuda",
        is_cuda_available=torch.cuda.is_available(),
        get_torch_device=lambda: torch.cuda,
    )
    for name in ("verl", "verl.utils"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["verl.utils.device"] = stub
    module = _load_file("verl", "utils/kernel/kernels.py")
    none = module.get_entropy_reduction_enum_number("none")

    def run(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        entropy: torch.Tensor = module.efficient_entropy_forward(hidden, weight, targets, none, 1.0, None)[1]
        return entropy

    return run


def cut_cross_entropy_linear() -> LinearFunction:
    """Apple's cut-cross-entropy, which has no entropy: negative log-likelihood only."""
    _require("cut_cross_entropy")
    from cut_cross_entropy import linear_cross_entropy

    def run(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            nll: torch.Tensor = linear_cross_entropy(hidden, weight, targets, reduction="none")
        return nll

    return run


LOGITS: Mapping[str, Mapping[str, Callable[[], LogitsFunction]]] = {
    "cpu": {
        "euds cpp": lambda: by_euds("cpp"),
        "euds cpp, with varentropy": lambda: by_euds_with_varentropy("cpp"),
        "euds torch": lambda: by_euds("torch"),
        "torch eager": lambda: eager,
        "torch.compile": lambda: compiled(eager),
        "chunked log-softmax": lambda: chunked,
        "scipy": scipy_entropy,
    },
    "cuda": {
        "euds triton": lambda: by_euds("triton"),
        "euds triton, with varentropy": lambda: by_euds_with_varentropy("triton"),
        "chunked log-softmax": lambda: chunked,
        "torch.compile": lambda: compiled(eager),
        "TRL": trl_kernel,
    },
}
"""Contenders by device: name -> maker; a maker raises `NotHere` or ImportError where its peer is missing."""

LINEAR: Mapping[str, Mapping[str, Callable[[], LinearFunction]]] = {
    "cpu": {
        "euds cpp": lambda: linear_by_euds("cpp"),
        "euds torch": lambda: linear_by_euds("torch"),
        "full logits, log-softmax": lambda: linear_full,
        "torch.compile of full logits": lambda: compiled(linear_full),
    },
    "cuda": {
        "euds triton": lambda: linear_by_euds("triton"),
        "euds triton, fused kernel": lambda: linear_by_euds("triton_fused"),
        "euds triton, tiles": lambda: linear_by_euds("triton_tiles"),
        "chunked log-softmax": lambda: linear_chunked,
        "torch.compile of chunks": lambda: compiled(linear_chunked),
        "Liger": liger_linear,
        "verl": verl_linear,
        NLL_ONLY[0]: cut_cross_entropy_linear,
    },
}


@functools.cache
def _require(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise NotHere(f"{package} is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


@functools.cache
def _load_file(package: str, file: str) -> Any:
    """Load one file of an installed package without importing the package, which may want much more."""
    path = _require(package) / file
    spec = importlib.util.spec_from_file_location(f"peer_{package}", path)
    if spec is None or spec.loader is None:
        raise NotHere(f"{package} has no {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
