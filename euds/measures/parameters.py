"""How many numbers a model has, and how many of them every token meets, by the shapes in its safetensors files."""

from math import prod
from pathlib import Path

from safetensors import SafetensorError, safe_open

from euds.errors import InputError
from euds.files import read_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
"""Names under which transformers looks for weights: all in one file, or the list of several."""

TOKEN_TABLES = frozenset({"word_embeddings", "embed_tokens", "embed_in", "tok_embeddings", "wte", "shared"})
OTHER_TABLES = frozenset(
    {"position_embeddings", "token_type_embeddings", "embed_positions", "wpe", "relative_attention_bias"}
)
OUTPUTS = frozenset({"lm_head", "embed_out"})
ONCE_A_TEXT = frozenset({"pooler", "classifier", "cls"})
"""Modules of the model families that transformers has, by the names of their weights."""


def parameter_count(folder: Path) -> int | None:
    """Return the numbers in the safetensors files that are loaded, shared ones once; None if they cannot be told."""
    sizes = _sizes(folder)
    return None if sizes is None else sum(sizes.values())


def parameters_met(folder: Path, *, causal: bool, encoder_alone: bool = False) -> int | None:
    """Return how many numbers every token meets in matrix products and norms; None if they cannot be told.

    A row of an embedding table is looked up, not multiplied, and what lies behind the pooling works once a text: both
    are left out. The table of tokens counts where it is the output projection, too.

    Args:
        folder: of the model.
        causal: whether it is run as a causal language model, whose output projection every token meets.
        encoder_alone: whether of a model with an encoder and a decoder, such as T5, only the encoder is run.
    """
    sizes = _sizes(folder)
    if sizes is None:
        return None
    tied = causal and not any(OUTPUTS.intersection(name.split(".")) for name in sizes)
    left_out = OTHER_TABLES | ONCE_A_TEXT | {"position_ids"} | (frozenset() if tied else TOKEN_TABLES)
    parts = {name: set(name.split(".")) for name in sizes}
    if encoder_alone and any("encoder" in part for part in parts.values()):
        left_out |= {"decoder"}
    return sum(size for name, size in sizes.items() if not left_out & parts[name])


def _sizes(folder: Path) -> dict[str, int] | None:
    """Numbers in each tensor that is loaded."""
    try:
        if (folder / WEIGHTS).exists():
            files = [folder / WEIGHTS]
        else:
            files = [folder / name for name in sorted(set(read_json(folder / INDEX)["weight_map"].values()))]
        return {name: size for file in files for name, size in _tensors(file).items()}
    # What a model's size is used for must not cost what the model has done.
    except (OSError, InputError, ValueError, LookupError, TypeError, AttributeError, SafetensorError):
        return None


def _tensors(file: Path) -> dict[str, int]:
    """Size of every tensor of a safetensors file; the tensors themselves are not read."""
    with safe_open(file, framework="numpy") as weights:
        return {name: prod(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
