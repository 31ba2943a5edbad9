"""Choose the implementation of an op: a named back end is obeyed or refused, only "auto" falls back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from euds.errors import BackendUnavailable, InvalidArgument, nearest

FAISS_BUILDS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12", "faiss-gpu-cuvs", "faiss-cuda")
"""Distributions of the module `faiss`; all but the first are built for GPUs, too."""


@dataclass(frozen=True)
class Backend:
    """One way to run an op: where its function lives and why it cannot run here, if it cannot."""

    module: str
    unavailable_because: str | None = None


def choose(op: str, name: str, backends: Mapping[str, Backend], order: Sequence[str]) -> str:
    """Return the name of the back end to use for `op`.

    Args:
        op: the public function's name, for messages.
        name: "auto" or a key of `backends`.
        backends: every implementation, with the reason where it cannot run.
        order: the names that "auto" tries, best first.

    Raises:
        InvalidArgument: `name` is unknown.
        BackendUnavailable: the named back end cannot run here, or none can; the message gives the reasons.
    """
    if name == "auto":
        usable = [candidate for candidate in order if backends[candidate].unavailable_because is None]
        if not usable:
            reasons = "; ".join(f"{key}: {value.unavailable_because}" for key, value in backends.items())
            raise BackendUnavailable(f"{op}: no back end can run here ({reasons})")
        return usable[0]
    if not isinstance(name, str) or name not in backends:
        known = ["auto", *backends]
        meant = nearest(name, known) if isinstance(name, str) else ""
        raise InvalidArgument(f"{op}: unknown backend {name!r}{meant}; known: {', '.join(known)}")
    reason = backends[name].unavailable_because
    if reason is not None:
        raise BackendUnavailable(f"{op}: backend {name!r} cannot run here: {reason}")
    return name
