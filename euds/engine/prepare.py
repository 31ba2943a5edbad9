"""Settle everything about a scoring run before any model is loaded: files, rows, models, what is done already."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from euds.assets import content_sha256, tokenizer_sha256
from euds.corpus import (
    Identity,
    check_fields,
    check_inputs,
    field_names,
    identities,
    list_inputs,
    open_manifest,
    unpacked_bytes,
)
from euds.corpus.location import in_full, is_url
from euds.corpus.run_files import MANIFEST_FORMAT, QUARANTINE_FILE
from euds.engine.cache_settings import CacheSettings
from euds.engine.config import DEFAULT_MAX_TOKENS, ScoreConfig, refuse_change
from euds.engine.forget import is_run, made_by_run
from euds.engine.shards import default_shard_rows
from euds.engine.work import RESULT_FOLDERS, SHARDS_FILE, Work
from euds.errors import InputError
from euds.files import has_kinds, permitted
from euds.measures.models import context_length, model_folder

NAMES = ("inputs", "lm", "embedder", "tokenizer")
"""Settings that name what the fingerprint has by its hash: by another name, the same content gives the same scores."""

UNORDERED = ("measures", "semantic")
"""Settings whose order enters no score."""


@dataclass(frozen=True)
class Plan:
    """A scoring run with every name resolved.

    Attributes:
        run_dir: where it writes.
        config: its settings, with automatic field names settled.
        files: input files in reading order.
        inputs: their identities.
        n_rows: rows in all files, bad ones included.
        folders: model folder by role: "lm", "embedder", "tokenizer", "nli".
        fingerprint: all that the scores depend on, as JSON types; two runs with equal ones may share a directory.
        cache: where scores are looked up before a model is run; None: nowhere.
    """

    run_dir: Path
    config: ScoreConfig
    files: tuple[Path, ...]
    inputs: tuple[Identity, ...]
    n_rows: int
    folders: dict[str, Path]
    fingerprint: dict[str, Any]
    cache: CacheSettings | None = None

    @property
    def n_shards(self) -> int:
        """Number of part files."""
        assert self.config.shard_rows is not None
        return -(-self.n_rows // self.config.shard_rows)

    @property
    def columns(self) -> tuple[str, ...]:
        """The corpus fields that scoring reads."""
        return (*self.config.text_fields, *self.carried)

    @property
    def carried(self) -> tuple[str, ...]:
        """Those of them that are only carried along: a row is scored whatever it has there."""
        config = self.config
        named = (config.id_field, config.label_field, config.source_field)
        return tuple(name for name in named if name is not None and name not in config.text_fields)

    @property
    def reads_tokens(self) -> bool:
        """Whether `n_tokens` counts the tokens of information and generative entropy, or else the encoder's."""
        # Without the clusters, nothing else counts them.
        return bool({"information", "generative"} & set(self.config.measures)) or not self.config.clusters

    @property
    def needs_pool(self) -> bool:
        """Whether a score needs to know the whole pool, so that no part can be written before all is measured."""
        return "information" in self.config.measures or self.config.clusters

    @property
    def runs_models(self) -> bool:
        """Whether any model runs, not only a model's tokenizer."""
        return bool(self.folders.keys() - {"tokenizer"})

    @property
    def device(self) -> str:
        """The device of the settings; that of a run without models is the CPU unless another was named."""
        return "cpu" if self.config.device == "auto" and not self.runs_models else self.config.device

    @property
    def takes_gpu(self) -> bool:
        """Whether the run takes a GPU where there is one."""
        return self.config.device != "cpu" and bool(self.folders.keys() & {"lm", "embedder"})

    @property
    def draws_by_vllm(self) -> bool:
        """Whether generations are drawn by vLLM, not by transformers or in another run."""
        settings = self.config.samples
        return settings is not None and settings.sampler == "vllm" and settings.generations_from is None

    @property
    def context(self) -> int | None:
        """Tokens that the LM reads; None without an LM, or where its configuration does not say."""
        return context_length(self.folders["lm"]) if "lm" in self.folders else None

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that a model's tokenizer gives: the setting, or 1,024, or the LM's context if shorter.

        Raises:
            InputError: neither the setting nor the LM's configuration says how many the LM reads.
        """
        if "lm" in self.folders and self.context is None and self.config.max_tokens is None:
            raise InputError(f"{self.folders['lm']}/config.json: states no context length; give --max-tokens")
        wanted = self.config.max_tokens or DEFAULT_MAX_TOKENS
        return wanted if self.context is None else min(wanted, self.context)

    @property
    def manifest_path(self) -> Path:
        """The run's manifest."""
        return self.run_dir / "manifest.json"

    def part_path(self, shard: int) -> Path:
        """The scores of a shard."""
        return self.run_dir / "scores" / f"part-{shard:05d}.parquet"

    def describe(self, *, anew: bool = False) -> str:
        """Return what the run would do, for people; `anew`: after deleting what is there."""
        parts_done = sum(self.part_path(shard).exists() for shard in range(self.n_shards))
        there = "what is there is deleted first" if anew else f"{parts_done} of {self.n_shards} part(s) are there"
        models = [f"  {role}: {folder}" for role, folder in self.folders.items()]
        return "\n".join(
            [
                f"{self.n_rows:,} rows in {len(self.files)} file(s), {self.n_shards} part(s)",
                f"measures: {', '.join(self.config.measures)}",
                *models,
                f"into {self.run_dir}: {there}",
            ]
        )


def prepare(
    config: ScoreConfig, run_dir: Path, *, anew: bool = False, check: Callable[[Plan], None] | None = None
) -> Plan:
    """Resolve and check a scoring run; what can be known without reading the whole corpus comes before that.

    Args:
        config: its settings.
        run_dir: where it writes.
        anew: whether what another run has left there is, or would be, deleted first.
        check: called on the plan before inputs, rows and fingerprint are known, to refuse what is wrong about the rest.

    Raises:
        InputError: a file, field or model is not there, the corpus is empty, or `run_dir` holds another run or cannot
            be looked into or made.
    """
    draft = draft_of(config, run_dir)
    if check is not None:
        check(draft)
    config, files, folders = draft.config, draft.files, draft.folders
    precision = _precision(config) if draft.runs_models else None
    inputs = identities(files, () if anew else _known_inputs(run_dir))
    n_rows = sum(entry["rows"] for entry in inputs)
    if n_rows == 0:
        raise InputError(f"{', '.join(map(str, files))}: the corpus has no rows")
    sizes = [entry["bytes"] for entry in inputs]
    device = None if precision is None else precision["device"]
    config = replace(config, shard_rows=shard_rows_of(config, n_rows, files, sizes, device))
    models = {
        role: {
            "name": model_names(config)[role],
            "sha256": content_sha256(folder),
            "tokenizer_sha256": tokenizer_sha256(folder),
        }
        for role, folder in folders.items()
    }
    fingerprint = {
        "format": MANIFEST_FORMAT,
        "config": config.to_json(),
        "precision": precision,
        "models": models,
        # Without the time of change: a copied corpus is the same corpus.
        "inputs": [{key: entry[key] for key in ("path", "bytes", "sha256", "rows")} for entry in inputs],
    }
    plan = Plan(run_dir, config, files, tuple(inputs), n_rows, folders, fingerprint)
    if not anew:
        refuse_other_run(plan)
    return plan


def shard_rows_of(
    config: ScoreConfig, n_rows: int, files: Sequence[Path], sizes: Sequence[int], device: str | None
) -> int:
    """Return the rows of a shard, by the settings or by default.

    Args:
        config: settings of the run.
        n_rows: of its corpus.
        files: of it.
        sizes: bytes of each of them.
        device: of the models; None: there are none.
    """
    quick = device is None or (device != "cpu" and config.samples is None)
    n_bytes = sum(map(unpacked_bytes, files, sizes))
    return config.shard_rows or default_shard_rows(n_rows, n_bytes, quick=quick)


def draft_of(config: ScoreConfig, run_dir: Path) -> Plan:
    """Return what is known of a scoring run without reading its corpus: no inputs, rows or fingerprint.

    Raises:
        BackendUnavailable: generations are to be drawn by what is not installed.
        InputError: a file, field or model is not there, or `run_dir` is no folder.
    """
    config, files, folders = resolve(config, run_dir)
    if os.path.lexists(run_dir) and not run_dir.is_dir():
        raise InputError(f"{run_dir}: is a file or a broken link; --out names the run directory")
    draft = Plan(run_dir, config, files, (), 0, folders, {})
    _ = draft.max_tokens
    return draft


def _precision(config: ScoreConfig) -> dict[str, str]:
    # Without a model nothing needs torch, which takes longer to import than a finished run to be verified.
    from euds.measures.device import precision

    facts = precision(config.device, config.dtype).to_json()
    if "generative" not in config.measures:
        facts.pop("logits", None)
    return facts


def resolve(config: ScoreConfig, run_dir: Path) -> tuple[ScoreConfig, tuple[Path, ...], dict[str, Path]]:
    """Return the settings with the fields settled, the input files in order, and each model's folder by role.

    Globs match nothing that a run in `run_dir` makes.

    Raises:
        BackendUnavailable: generations are to be drawn by what is not installed.
        InputError: a file, field or model is not there.
    """
    if config.samples is not None:
        config.samples.check_sampler()
    files = tuple(in_full(file) for file in list_inputs(config.inputs, made_by_run(run_dir)))
    check_inputs(files)
    config = _settle_fields(config, files)
    # Last, as a hub's model may have to be fetched.
    return config, files, {role: model_folder(name) for role, name in model_names(config).items()}


def _known_inputs(run_dir: Path) -> Sequence[Identity]:
    path = run_dir / "manifest.json"
    with permitted(path):
        found: Sequence[Identity] = open_manifest(run_dir)["inputs"] if path.exists() else ()
    return found


def model_names(config: ScoreConfig) -> dict[str, str]:
    """Return the models of a run as its settings name them, by role."""
    roles: dict[str, str] = {}
    if config.runs_lm and config.lm is not None:
        roles["lm"] = config.lm
    elif "information" in config.measures and config.token_model is not None:
        roles["tokenizer"] = config.token_model
    if config.embeds and config.embedder is not None:
        roles["embedder"] = config.embedder
    if config.samples is not None and config.samples.nli is not None:
        roles["nli"] = config.samples.nli
    return roles


def _settle_fields(config: ScoreConfig, files: Sequence[Path]) -> ScoreConfig:
    """Check the named fields, and carry `label` and `source` along where nothing else was named.

    Of a JSONL file they are seen in the first thousand good rows.
    """
    carried = (config.id_field, config.label_field, config.source_field)
    check_fields(files, [*config.text_fields, *(name for name in carried if name is not None)])
    known = field_names(files)

    def settled(field: str | None, usual: str) -> str | None:
        # A name that is empty is one, too: pandas gives it to the column of its index in CSV.
        return usual if field is None and usual in known else field

    return replace(
        config,
        label_field=settled(config.label_field, "label"),
        source_field=settled(config.source_field, "source"),
    )


def refuse_other_run(plan: Plan) -> None:
    """Refuse a run directory that holds something else than this run.

    Raises:
        InputError: it holds a run of another configuration, shards or scores without a manifest, or files of somebody's
            own where the run would write.
    """
    # Looked for first: another process may begin the run meanwhile, and writes its manifest before any of these.
    left = (plan.run_dir / "work" / SHARDS_FILE).exists() or any((plan.run_dir / "scores").glob("*.parquet"))
    there = _written(plan)
    if plan.manifest_path.exists():
        manifest = open_manifest(plan.run_dir)
        if not has_kinds(manifest["fingerprint"], {"config": dict, "models": dict, "inputs": list}):
            raise InputError(f"{plan.manifest_path}: is no run's manifest; score into a new directory")
        before, now = map(_in_one_order, (manifest["fingerprint"], plan.fingerprint))
        # What is scored stays scored, wherever its corpus lies now; an unfinished run's shards name their files.
        paths = not manifest["finished"]
        if _decisive(before, paths=paths) != _decisive(now, paths=paths):
            refuse_change(plan.run_dir, before, now)
    elif left:
        # Nothing tells what they were made with.
        remedy = "start over with --force-new" if is_run(plan.run_dir) else "choose another --out"
        raise InputError(f"{plan.run_dir}: holds shards or scores without a manifest.json; {remedy}")
    elif Work(plan.run_dir).is_foreign():
        raise InputError(f"{plan.run_dir / 'work'}: holds files that are no run's; choose another --out")
    elif there and not is_run(plan.run_dir):
        raise InputError(f"{there[0]}: is no run's, and would be written over; move it, or choose another --out")


def _written(plan: Plan) -> list[Path]:
    """Return what is there of the files that the run writes besides its scores."""
    samples = plan.config.samples is not None
    results = [path for name in RESULT_FOLDERS if samples for path in (plan.run_dir / name).glob("part-*.parquet")]
    return [path for path in (plan.run_dir / QUARANTINE_FILE, *results) if path.exists()]


def _decisive(fingerprint: Mapping[str, Any], *, paths: bool) -> dict[str, Any]:
    """Return what two runs must have in common to share a directory, with or without the paths of the inputs."""
    config = {name: value for name, value in fingerprint["config"].items() if name not in NAMES}
    if config.get("samples") is not None:
        samples = _without("nli", config["samples"])
        # Whether they are what this run would have sampled is looked at in that run.
        config["samples"] = {**samples, "generations_from": samples.get("generations_from") is not None}
    models = {role: _without("name", facts) for role, facts in fingerprint["models"].items()}
    inputs = [
        {**entry, "path": _real(entry["path"])} if paths else _without("path", entry) for entry in fingerprint["inputs"]
    ]
    return {**fingerprint, "config": config, "models": models, "inputs": inputs}


def _in_one_order(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """Return a fingerprint in which neither comparison nor message tells settings apart by an order of no account."""
    config = fingerprint["config"]
    return {**fingerprint, "config": {**config, **{name: sorted(config.get(name) or ()) for name in UNORDERED}}}


def _real(path: str) -> str:
    return path if is_url(path) else os.path.realpath(path)


def _without(key: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name != key}
