"""The record of a scoring run: configuration, hashes, versions, device, counts, seconds."""

import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from euds.engine.cost import semantic_cost
from euds.engine.prepare import FORMAT, Plan
from euds.engine.work import Work
from euds.files import json_sha256, read_json, write_atomic, write_json
from euds.types import ScoreResult

PACKAGES = ("euds", "torch", "transformers", "tokenizers", "faiss-cpu", "numba", "numpy", "pyarrow", "triton")
STAGE_FILES = {"read": "tokens", "generative": "generative", "embedding": "embeddings", "finish": "finished"}


def write_started(plan: Plan) -> None:
    """Write a manifest without an end, so that a resumed run knows its configuration; keep one that is there."""
    if not plan.manifest_path.exists():
        write_json(plan.manifest_path, {**_head(plan), "started": _now(), "finished": None})


def write_finished(plan: Plan, work: Work, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Gather counts and seconds, write quarantine.jsonl and the final manifest, and return the manifest.

    Args:
        plan: the run.
        work: its intermediate files, all complete.
        facts: what the stages found out: "models", "pool", "device", "seconds" of work done outside the shards.
    """
    counts = _account_for_rows(plan, work)
    seconds = dict(facts["seconds"])
    for stage, name in STAGE_FILES.items():
        if work.done(name, 0):
            seconds[stage] = seconds.get(stage, 0.0) + work.seconds(name, plan.n_shards)
    seconds = {stage: round(value, 3) for stage, value in seconds.items()}
    total = sum(seconds.values())
    cost = {"cost": semantic_cost(plan, work, seconds)} if plan.config.semantic else {}
    manifest = {
        **_head(plan),
        "started": read_json(plan.manifest_path)["started"],
        "finished": _now(),
        "versions": _versions(),
        "device": facts["device"],
        "models": facts["models"],
        "pool": facts["pool"],
        "counts": counts,
        "seconds": {**seconds, "total": round(total, 3)},
        "tokens_per_second": round(counts["tokens"] / total, 1) if total > 0 else 0.0,
        **cost,
    }
    write_json(plan.manifest_path, manifest)
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
        "format": FORMAT,
        "euds_version": version("euds"),
        "config": plan.config.to_json(),
        "config_sha256": json_sha256(plan.fingerprint),
        "fingerprint": plan.fingerprint,
        "inputs": plan.fingerprint["inputs"],
    }


def _account_for_rows(plan: Plan, work: Work) -> dict[str, int]:
    """Write quarantine.jsonl, one line a quarantined row, and count; rows = scored + quarantined."""
    counts = dict.fromkeys(("rows", "scored", "quarantined", "truncated", "tokens"), 0)
    lines: list[str] = []
    for shard in range(plan.n_shards):
        table = work.read("finished", shard)
        bad = table.filter(pc.is_valid(table.column("reason"))).select(["row_id", "file", "row", "reason"])
        good = table.filter(pc.is_null(table.column("reason")))
        lines += [json.dumps(entry, ensure_ascii=False) for entry in bad.to_pylist()]
        counts["rows"] += table.num_rows
        counts["scored"] += good.num_rows
        counts["quarantined"] += bad.num_rows
        counts["truncated"] += pc.sum(good.column("truncated")).as_py() or 0
        counts["tokens"] += pc.sum(good.column("n_tokens")).as_py() or 0
    text = "".join(f"{line}\n" for line in lines)
    write_atomic(plan.run_dir / "quarantine.jsonl", lambda handle: handle.write(text.encode()))
    return counts


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
