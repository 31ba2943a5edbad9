"""Take generations over from another run directory: only if it would sample the very same ones."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from euds.corpus import generations_path, open_manifest, read_manifest
from euds.engine.config import changes
from euds.engine.generations_config import GENERATION_KEYS, SampleSettings
from euds.engine.work import SOURCE_COST_FILE, Work
from euds.errors import InputError
from euds.files import has_kinds, read_json, write_json
from euds.measures.prompts import template_of

CONFIG_KEYS = ("text_fields", "max_tokens", "shard_rows", "seed")


def check_generations(
    run_dir: Path, settings: SampleSettings | None, fingerprint: Mapping[str, Any], shards: Iterable[int]
) -> None:
    """Refuse to take over generations that this run would not sample itself.

    Args:
        run_dir: of this run.
        settings: of this run.
        fingerprint: of this run.
        shards: those that are still to be taken over; without any, the other run is not needed.

    Raises:
        InputError: the other directory is no finished run with all its generations, or it has sampled others; the
            message lists every difference.
    """
    if settings is None or settings.generations_from is None:
        return
    shards = list(shards)
    if not shards:
        return
    other = Path(settings.generations_from)
    if other.resolve() == run_dir.resolve():
        raise InputError(f"{other}: generations_from names the run directory itself; choose another --out")
    before = open_manifest(other)["fingerprint"]
    if (before.get("config") or {}).get("samples") is None:
        raise InputError(f"{other}: that run has sampled no generations")
    try:
        theirs = _identity(before)
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{other / 'manifest.json'}: is no run's manifest; score without generations_from") from None
    found = changes(theirs, _identity(fingerprint))
    if found:
        raise InputError(f"{other}: its generations were sampled otherwise than this run would:\n" + "\n".join(found))
    read_manifest(other)
    for shard in shards:
        path = generations_path(other, shard)
        if not path.exists():
            raise InputError(f"{path}: is gone; generations_from needs all generations, so score without it")


def not_taken_over(work: Work, n_shards: int) -> Iterator[int]:
    """Yield the shards whose generations are still to be taken over, as far as the names of files show."""
    for shard in range(n_shards):
        if not (work.path("generation", shard).exists() or work.records.path(shard).exists()):
            yield shard


def keep_source_cost(work: Work, settings: SampleSettings) -> dict[str, Any]:
    """Keep what the generations have cost the run that they are taken over from, which may be gone later; return it.

    Raises:
        InputError: that run is gone, or has not finished.
    """
    assert settings.generations_from is not None
    cost: dict[str, Any] = read_manifest(Path(settings.generations_from))["cost"]["samples"]["generation"]
    write_json(work.folder / SOURCE_COST_FILE, cost)
    return cost


def source_cost(work: Work, settings: SampleSettings) -> dict[str, Any]:
    """Return what `keep_source_cost` has kept; looked up again where that is damaged, or of an earlier version.

    Raises:
        InputError: it must be looked up, and the other run is gone or has not finished.
    """
    try:
        found = read_json(work.folder / SOURCE_COST_FILE)
    except InputError:
        found = None
    return found if has_kinds(found, {"generations": int}) else keep_source_cost(work, settings)


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
