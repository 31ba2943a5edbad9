"""Sentence embeddings for semantic entropy: the mean over the tokens or the first of them, unit norm."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoModelForTextEncoding
from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING

from euds.assets import POOLING_FILE
from euds.errors import InputError, reason_of
from euds.measures.device import Precision, is_out_of_memory, on_device
from euds.measures.inference import for_inference
from euds.measures.models import check_model, load_model, model_config, model_settings, positions_of
from euds.measures.tokens import load_tokenizer, special_frame
from euds.types import Float32Array

KIND = "encoder"


class Embedder:
    """A sentence encoder.

    A text's embedding is the mean over its tokens, or the first token's output where the model's own
    `1_Pooling/config.json` says so; its length is 1 in either case, whether or not the model has a `2_Normalize`.

    Args:
        folder: model folder with safetensors weights.
        precision: device and dtype.

    Attributes:
        width: length H of an embedding.

    Raises:
        InputError: the folder holds no encoder that can be loaded or that embeds a text, or one that pools in another
            way.
    """

    def __init__(self, folder: Path, precision: Precision) -> None:
        self.device = precision.torch_device
        self._first_token = pools_first_token(folder)
        self.model = load_model(_auto_class(folder), folder, precision, KIND, pooled=False)
        for_inference(self.model)
        self._before, self._after = special_frame(load_tokenizer(folder))
        self.width = self._tried(folder)

    def _tried(self, folder: Path) -> int:
        """Return the width of an embedding, of one token, and refuse a model that gives none."""
        try:
            return len(self.embed([[0]])[0])
        # Models of images, of sound or of pairs ask for whatever they need.
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise InputError(
                f"{folder}: {type(self.model).__name__} gives no embedding of a text ({reason_of(error)}); choose a "
                "sentence encoder"
            ) from error

    @property
    def n_special(self) -> int:
        """Tokens that are put around every text."""
        return len(self._before) + len(self._after)

    @torch.inference_mode()
    def embed(self, samples: Sequence[Sequence[int]]) -> Float32Array:
        """Embed token sequences in one forward pass.

        Args:
            samples: token ids without special tokens; the model's own are put around them. Each needs one of either.

        Returns:
            Unit-norm embeddings (n, H) float32, in the order of `samples`; a row is NaN if the model's output is.
        """
        rows = [torch.tensor([*self._before, *ids, *self._after]) for ids in samples]
        lengths = torch.tensor([len(row) for row in rows])
        input_ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        mask = torch.arange(input_ids.shape[1])[None, :] < lengths[:, None]
        input_ids, mask = on_device(input_ids, self.device), on_device(mask, self.device)
        hidden = self.model(input_ids=input_ids, attention_mask=mask.long()).last_hidden_state
        if self._first_token:
            pooled = hidden[:, 0].float()
        else:
            pooled = (hidden.float() * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        unit: Float32Array = torch.nn.functional.normalize(pooled, dim=1).cpu().numpy()
        return unit


def check_embedder(folder: Path) -> None:
    """Refuse a folder that `Embedder` would refuse for what its files hold, without reading weights.

    Raises:
        InputError, RunStopped: as `check_model`; InputError, too, where it pools in a way that `Embedder` has not.
    """
    pools_first_token(folder)
    check_model(_auto_class(folder), folder, KIND, pooled=False)


def is_causal_lm(folder: Path) -> bool:
    """Tell whether a folder says that it holds a causal language model, and not how to pool what that gives.

    Raises:
        InputError: transformers cannot read its configuration.
    """
    names = model_config(folder).architectures or []
    return any(name.endswith("ForCausalLM") for name in names) and not (folder / POOLING_FILE).exists()


def _auto_class(folder: Path) -> Any:
    """Return what of transformers loads the encoder of a folder."""
    # Sentence encoders of T5's kind are its encoder, often without a decoder's weights.
    known = type(model_config(folder)) in MODEL_FOR_TEXT_ENCODING_MAPPING
    return AutoModelForTextEncoding if known else AutoModel


def embedder_limit(folder: Path) -> int:
    """Return how many tokens of a text the encoder reads, its special tokens not counted.

    Sentence encoders state a limit of their own in `sentence_bert_config.json`; the tokenizer's limit and the size of
    the position table hold as well.

    Raises:
        InputError: one of these files is missing or damaged.
    """
    tokenizer = load_tokenizer(folder)
    limits = [tokenizer.model_max_length, positions_of(folder)]
    sentence_config = folder / "sentence_bert_config.json"
    if sentence_config.exists():
        limits.append(model_settings(sentence_config).get("max_seq_length") or limits[0])
    return int(min(limits)) - tokenizer.num_special_tokens_to_add()


def pools_first_token(folder: Path) -> bool:
    """Tell whether an encoder takes the first token's output, as its own file says; without one it takes the mean."""
    path = folder / POOLING_FILE
    if not path.exists():
        return False
    settings = model_settings(path)
    # A truth value for each mode, or the name of one.
    flags = [name for name, value in settings.items() if name.startswith("pooling_mode_") and value]
    modes = [str(settings["pooling_mode"])] if settings.get("pooling_mode") else flags
    if modes in (["pooling_mode_mean_tokens"], ["mean"]):
        return False
    if modes in (["pooling_mode_cls_token"], ["cls"]):
        return True
    raise InputError(
        f"{path}: pools by {' and '.join(modes) or 'nothing'}; only the mean (pooling_mode_mean_tokens) and the first "
        "token (pooling_mode_cls_token) can be taken"
    )
