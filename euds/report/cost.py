"""The cost line of semantic entropy, as a table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PARTS = ("generation", "embedding", "grouping", "estimation", "scoring")


@dataclass(frozen=True)
class CostLine:
    """One part of an estimate, or a training beside it; None: not counted."""

    what: str
    seconds: float | None
    flops: float | None


def cost_lines(manifest: Mapping[str, Any], study: Mapping[str, Any] | None) -> list[CostLine]:
    """Return what the parts of semantic entropy cost, then the training that they stand beside."""
    cost = manifest.get("cost")
    if cost is None:
        return []
    lines = []
    for estimate in ("clusters", "samples", "label_words"):
        parts = cost.get(estimate, {})
        lines += [
            CostLine(f"{estimate}: {part}{_taken(parts[part])}", parts[part]["seconds"], parts[part]["flops"])
            for part in PARTS
            if part in parts
        ]
    if "training_epoch" in cost:
        epoch = cost["training_epoch"]
        lines.append(CostLine(f"an epoch of training {epoch['model']} on the whole pool", None, epoch["flops"]))
    for method in study["methods"] if study else []:
        if method["rule"] is None:
            lines.append(CostLine("one fine-tuning on the full data, measured", method["train_seconds"]["mean"], None))
    return lines


def _taken(part: Mapping[str, Any]) -> str:
    return " (paid by another run)" if "taken_from" in part else ""
