"""A causal language model as it is loaded once, for all that read texts or go on from them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from transformers import AutoModelForCausalLM

from euds.errors import InputError
from euds.measures.device import Precision
from euds.measures.inference import for_inference
from euds.measures.models import check_model, load_model
from euds.measures.packing import use_packing

KIND = "causal language model"


@dataclass(frozen=True, eq=False)
class CausalLM:
    """A loaded causal language model; whoever shares it computes what it would compute alone.

    Attributes:
        folder: it came from, with the tokenizer.
        model: of transformers, with its output projection.
        device: that it lies on.
        packs: whether it reads texts laid end to end (`euds.measures.packing`), so that a batch holds no padding.
    """

    folder: Path
    model: Any
    device: torch.device
    packs: bool

    @classmethod
    def load(cls, folder: Path, precision: Precision) -> Self:
        """Load a model folder with safetensors weights, on a device and in a dtype.

        Raises:
            InputError: the folder holds no causal LM.
        """
        model = load_model(AutoModelForCausalLM, folder, precision, KIND)
        for_inference(model)
        return cls(folder, model, precision.torch_device, use_packing(model))

    def check_ids(self, ids: torch.Tensor) -> None:
        """Refuse token ids that the model does not know; on the CPU, as a GPU would end the process.

        Raises:
            InputError: there is such an id.
        """
        n_known = self.model.get_input_embeddings().weight.shape[0]
        if int(ids.max()) >= n_known:
            raise InputError(
                f"{self.folder}: its tokenizer gives token {int(ids.max())}, and its weights know {n_known} tokens; "
                "tokenizer and weights are of different models"
            )


def check_causal_lm(folder: Path) -> None:
    """Refuse a folder that `CausalLM.load` would refuse, without reading its weights; see `check_model`."""
    check_model(AutoModelForCausalLM, folder, KIND)
