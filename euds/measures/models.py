"""Load a transformers model from a folder, ready to be read: safetensors weights only, no code from the folder."""

from pathlib import Path
from typing import Any

from torch import nn

from euds.errors import InputError
from euds.measures.device import Precision


def load_model(auto_class: Any, folder: Path, precision: Precision, kind: str) -> Any:
    """Load `folder` with one of transformers' Auto classes, on its device and in evaluation mode.

    Args:
        auto_class: such as `transformers.AutoModel`.
        folder: model folder.
        precision: device and dtype.
        kind: what the model should be, for the message.

    Raises:
        InputError: transformers cannot load it; the message names the folder and the reason.
    """
    try:
        model: nn.Module = auto_class.from_pretrained(
            folder, dtype=precision.torch_dtype, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{folder}: no {kind} could be loaded: {reason}") from error
    return model.to(precision.torch_device).eval()
