"""Take generations over from another run directory: only if it would sample the very same ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from euds.corpus import generations_path, open_manifest, read_manifest
from euds.engine.config import changes
from euds.engine.generations_config import GENERATION_KEYS, SampleSettings
from euds.errors import InputError
from euds.measures.prompts import template_of

CONFIG_KEYS = ("text_fields", "max_tokens", "shard_rows", "seed")


def check_generations(run_dir: Path, settings: SampleSettings | None, fingerprint: Mapping[str, Any]) -> None:
    """Refuse to take over generations that this run would not sample itself.

    Raises:
        InputError: the other directory is no finished run with all its generations, or it has sampled others; the
            message lists every difference.
    """
    if settings is None or settings.generations_from is None:
        return
    other = Path(settings.generations_from)
    if other.resolve() == run_dir.resolve():
        raise InputError(f"{other}: generations_from names the run directory itself; choose another --out")
    before = open_manifest(other)["fingerprint"]
    if (before.get("config") or {}).get("samples") is None:
        raise InputError(f"{other}: that run has sampled no generations")
    found = changes(_identity(before), _identity(fingerprint))
    if found:
        raise InputError(f"{other}: its generations were sampled otherwise than this run would:\n" + "\n".join(found))
    read_manifest(other)
    n_rows = sum(entry["rows"] for entry in fingerprint["inputs"])
    for shard in range(-(-n_rows // fingerprint["config"]["shard_rows"])):
        path = generations_path(other, shard)
        if not path.exists():
            raise InputError(f"{path}: is gone; generations_from needs all generations, so score without it")


def _identity(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """What generations depend on; where the files lie does not matter."""
    config = fingerprint["config"]
    # Runs from before there was a choice of samplers name none.
    samples = {"sampler": "transformers", **config["samples"]}
    if "{labels}" not in template_of(samples["template"], config["text_fields"]):
        samples["labels"] = []
    # How logits are rounded concerns generative entropy, not what is drawn; without that measure it is not told.
    precision = {key: value for key, value in fingerprint["precision"].items() if key != "logits"}
    return {
        "inputs": [{"sha256": entry["sha256"], "rows": entry["rows"]} for entry in fingerprint["inputs"]],
        "lm": {key: value for key, value in fingerprint["models"]["lm"].items() if key != "name"},
        "precision": precision,
        "config": {key: config[key] for key in CONFIG_KEYS},
        "samples": {key: samples[key] for key in GENERATION_KEYS},
    }
