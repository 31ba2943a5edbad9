"""What semantic entropy cost: seconds and floating-point operations, beside an epoch of the training it might save."""

from collections.abc import Mapping
from typing import Any

from euds.engine.generations_config import SampleSettings
from euds.engine.prepare import Plan
from euds.measures.parameters import parameters_met

RULE = (
    "a forward pass is 2 x parameters x tokens, a training step 3 times that; parameters are those that every token "
    "meets: no embedding table, unless it is the output projection, too, and nothing that works once a text, such as a "
    "pooler; padding and attention over the context are left out; a pair of embeddings is 2 x their width; null: not "
    "counted, or too few to count"
)


def semantic_cost(plan: Plan, spent: Mapping[str, Mapping[str, Any]], seconds: Mapping[str, float]) -> dict[str, Any]:
    """Return seconds and FLOPs by estimate and part.

    Args:
        plan: the run.
        spent: tokens, pairs and seconds by part, summed over the shards' records; of generations that were taken over,
            what the other run has paid.
        seconds: by stage, as the manifest has them.
    """
    sizes = {
        role: parameters_met(folder, causal=role == "lm", encoder_alone=role == "embedder")
        for role, folder in plan.folders.items()
    }
    cost: dict[str, Any] = {"flops_rule": RULE, "parameters": sizes}
    if plan.config.clusters:
        tokens = spent["clusters"]["tokens"]
        # Records of an earlier version do not tell.
        embedded = tokens - spent["clusters"].get("cached_tokens", 0)
        # What an epoch of fine-tuning a model of the encoder's size on the whole pool takes.
        cost["training_epoch"] = {
            "model": plan.config.embedder,
            "flops": _times(3, _forward(sizes["embedder"], tokens)),
        }
        cost["clusters"] = {
            "embedding": _part(seconds.get("embedding"), _forward(sizes["embedder"], embedded), tokens=embedded),
            "grouping": _part(seconds.get("clustering"), None),
        }
    if plan.config.samples is not None:
        cost["samples"] = _generations(spent, sizes, plan.config.samples)
    if plan.config.label_words is not None:
        counts = dict(spent["label_words"])
        flops = _forward(sizes["lm"], sum(counts.values()))
        cost["label_words"] = {"scoring": _part(seconds.get("label_words"), flops, **counts)}
    return cost


def _generations(
    found: Mapping[str, Mapping[str, Any]], sizes: Mapping[str, int | None], settings: SampleSettings
) -> dict[str, Any]:
    parts = {"generation": _generation(found, sizes["lm"], settings)}
    group = found["grouping"]
    if "embedding" in found:
        tokens = found["embedding"]["tokens"]
        flops = _forward(sizes["embedder"], tokens)
        parts["embedding"] = _part(found["embedding"]["seconds"], flops, tokens=tokens)
    counts = {name: value for name, value in group.items() if name not in ("seconds", "flops")}
    flops = _forward(sizes["nli"], group["tokens"]) if settings.grouping == "entailment" else group.get("flops")
    parts["grouping"] = _part(group["seconds"], flops, **counts)
    parts["estimation"] = _part(found["estimation"]["seconds"], None)
    return parts


def _generation(
    found: Mapping[str, Mapping[str, Any]], parameters: int | None, settings: SampleSettings
) -> dict[str, Any]:
    if settings.generations_from is not None:
        return {**found["generation"], "taken_from": settings.generations_from}
    counts = {name: value for name, value in found["generation"].items() if name != "seconds"}
    # The last token of a generation is drawn, but never read.
    read = counts["prompt_tokens"] + counts["new_tokens"] - counts["generations"]
    return _part(found["generation"]["seconds"], _forward(parameters, read), **counts)


def _part(seconds: float | None, flops: int | None, **counts: int) -> dict[str, Any]:
    return {"seconds": None if seconds is None else round(seconds, 3), "flops": flops, **counts}


def _forward(parameters: int | None, tokens: int) -> int | None:
    return _times(2 * tokens, parameters)


def _times(factor: int, value: int | None) -> int | None:
    return None if value is None else factor * value
