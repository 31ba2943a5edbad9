"""Find a model's folder and load it, ready to be read: safetensors weights only, no code from the folder."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from euds.assets import resolve_model
from euds.errors import InputError, reason_of
from euds.files import read_json, storage_failure
from euds.progress import quiet

if TYPE_CHECKING:
    import torch
    from torch import nn

    from euds.measures.device import Precision

HUB_FILES = ("*.json", "*.safetensors", "*.model", "*.txt")
"""What is taken from a hub repository: weights in safe formats, configuration and tokenizer files; never pickles."""

LATE_POSITIONS = (
    *("roberta", "camembert", "mpnet", "longformer", "data2vec-text", "xmod"),
    *("ibert", "luke", "lilt", "markuplm"),
)
"""Families whose positions begin after the number of their padding token, by what their model types hold."""

_loading = threading.Lock()
"""transformers loads under settings of the whole process, such as torch's default dtype: two threads that load at once
would get weights of each other's dtype, and the process would keep it."""


def model_folder(name: str) -> Path:
    """Return the local folder of a model named as an asset, a path, a package folder or a hub repository.

    Raises:
        InputError: it is none of them, or the hub cannot be reached.
    """
    resolved = resolve_model(name)
    if isinstance(resolved, Path):
        return resolved
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(resolved, allow_patterns=list(HUB_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = reason_of(error)
        raise InputError(
            f"model {name!r} is neither an asset nor a folder, and the hub does not give it: {reason}"
        ) from error


def context_length(folder: Path) -> int | None:
    """Return how many tokens a model's position table or rotary range covers; None if its config.json does not say.

    Of a long rope, whose frequencies depend on the longest text of a batch, the range before they change.
    """
    config = model_settings(folder / "config.json")
    # Models that see images, too, keep what is said of their text apart.
    config = {**_mapping(config.get("text_config")), **config}
    rope = _mapping(config.get("rope_parameters") or config.get("rope_scaling"))
    original = {**config, **rope}.get("original_max_position_embeddings")
    if "longrope" in (rope.get("rope_type"), rope.get("type")) and isinstance(original, int):
        return original
    for key in ("max_position_embeddings", "n_positions", "max_seq_len"):
        if isinstance(config.get(key), int):
            return int(config[key])
    return None


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def model_settings(path: Path) -> dict[str, Any]:
    """Read a JSON file of a model folder.

    Raises:
        InputError: the file is missing, not JSON, or holds no keys and values.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError(f"{path}: must hold keys and values; fetch or copy the model again")
    return found


def position_count(config: object) -> int:
    """Return how many tokens an encoder reads by its configuration, as transformers has it; 512 if it does not say."""
    positions = int(getattr(config, "max_position_embeddings", 512))
    if positions < 0:
        # As XLNet's, which has no limit.
        return 512
    if not any(family in str(getattr(config, "model_type", "")) for family in LATE_POSITIONS):
        return positions
    return positions - 1 - int(getattr(config, "pad_token_id", None) or 0)


def model_config(folder: Path) -> Any:
    """Return a folder's configuration as transformers has it, without loading weights.

    Raises:
        InputError: transformers cannot read it.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = reason_of(error)
        raise InputError(f"{folder}/config.json: not a configuration that transformers knows: {reason}") from error


def positions_of(folder: Path) -> int:
    """Return how many tokens the encoder of a folder reads; see `position_count`, and `model_config` for its errors."""
    return position_count(model_config(folder))


def load_model(
    auto_class: Any,
    folder: Path,
    precision: "Precision",
    kind: str,
    *,
    pooled: bool = True,
    new_head: bool = False,
    **arguments: Any,
) -> Any:
    """Load `folder` with one of transformers' Auto classes, on its device and in evaluation mode; one at a time.

    Args:
        auto_class: such as `transformers.AutoModel`.
        folder: model folder.
        precision: device and dtype.
        kind: what the model should be, for the message.
        pooled: whether what the model's pooler gives is used; otherwise its weights may be missing.
        new_head: whether the head is to be trained: its weights are drawn anew by torch's seed, also where the folder
            holds a whole one, of whatever shape; of one that it holds in part, that part stays. The pooler's may be
            missing.
        **arguments: further ones of `from_pretrained`, such as the number of labels.

    Raises:
        InputError: transformers cannot load it, it does not fit, or weights are missing; the message names the folder
            and the reason.
        RunStopped: the disk or file server failed.
    """
    return _read(
        auto_class,
        folder,
        kind,
        pooled=pooled,
        new_head=new_head,
        device=precision.torch_device,
        dtype=precision.torch_dtype,
        **arguments,
    )


def check_model(auto_class: Any, folder: Path, kind: str, *, pooled: bool = True) -> None:
    """Refuse a folder that `load_model` would refuse; of its weights only names and shapes are read.

    Quantized weights, which some cards alone can read, are left to `load_model`.

    Raises:
        InputError, RunStopped: as `load_model`.
    """
    if getattr(model_config(folder), "quantization_config", None) is None:
        _read(auto_class, folder, kind, pooled=pooled, new_head=False, device_map="meta")


def _read(
    auto_class: Any,
    folder: Path,
    kind: str,
    *,
    pooled: bool,
    new_head: bool,
    device: "torch.device | None" = None,
    **arguments: Any,
) -> Any:
    """Load a whole model, on `device` if given and in evaluation mode; the arguments and errors of `load_model`."""
    from safetensors import SafetensorError

    model: nn.Module
    try:
        with _loading, quiet():
            model, found = auto_class.from_pretrained(
                folder,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=new_head,
                **arguments,
            )
            body = f"{model.base_model_prefix}."
            # Of a plain encoder part of the head is missing, and has been drawn already.
            if new_head and all(name.startswith(body) for name in found["missing_keys"]):
                model = _with_new_head(auto_class, model)
            model = (model if device is None else model.to(device)).eval()
    # Shapes that do not fit, and a device without room, are RuntimeErrors.
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = reason_of(error)
        raise storage_failure(folder, error) or InputError(f"{folder}: no {kind} could be loaded: {reason}") from error
    _check_weights(folder, kind, found, body, pooled=pooled, new_head=new_head)
    return model


def _with_new_head(auto_class: Any, model: Any) -> Any:
    """Return a model of the same configuration whose body has the weights of `model`, and whose head random ones."""
    fresh = auto_class.from_config(model.config, dtype=model.dtype, trust_remote_code=False)
    fresh.base_model.load_state_dict(model.base_model.state_dict())
    return fresh


def _check_weights(
    folder: Path, kind: str, found: Mapping[str, Any], body: str, *, pooled: bool, new_head: bool
) -> None:
    """Refuse a model that was loaded in part; `body`: how the names of its weights without a head begin."""
    misshapen = sorted(name for name, *_ in found["mismatched_keys"] if name.startswith(body))
    if misshapen:
        raise InputError(
            f"{folder}: no {kind} could be loaded: {misshapen[0]} has another shape than config.json says; "
            "fetch or copy the model again"
        )
    missing = sorted(found["missing_keys"])
    if new_head or not pooled:
        missing = [name for name in missing if "pooler" not in name.split(".")]
    if new_head:
        missing = [name for name in missing if name.startswith(body)]
    if missing:
        # transformers only warns, and draws them at random.
        raise InputError(
            f"{folder}: weights of the {kind} are missing ({', '.join(missing[:3])}{', ...' if missing[3:] else ''}); "
            "take a folder that has them all"
        )
