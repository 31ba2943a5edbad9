"""From the name of a model or data file to a path; models also to a hash of their content."""

import hashlib
import importlib.util
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from euds.assets.cache import STAMP_FILE, folder_of, is_fetched
from euds.assets.table import ASSETS
from euds.errors import InputError, nearest
from euds.files import at_home, file_sha256

SAFE_WEIGHTS = ".safetensors"
POOLING_FILE = Path("1_Pooling", "config.json")
"""Where a sentence encoder says how an embedding comes of its tokens' outputs."""

TOKENIZER_SUFFIXES = (".json", ".model", ".txt")
"""Vocabularies and settings have many names, such as `sentencepiece.bpe.model` and `sentence_bert_config.json`."""


def resolve_model(name: str) -> Path | str:
    """Return the folder of a model, or its hub name.

    Args:
        name: an asset, a folder, "package:NAME/folder" for a folder inside an installed package, or a hub name.

    Raises:
        InputError: the asset is not fetched, the folder is not there or holds no model in safetensors.
    """
    if name in ASSETS:
        if ASSETS[name].kind != "model":
            raise InputError(f"{name!r} is a data set, not a model")
        if not is_fetched(name):
            raise InputError(f"model {name!r} is not fetched; run: euds fetch {name}")
        return folder_of(name)
    if name.startswith("package:"):
        return _checked(_package_folder(name))
    path = given_folder(name)
    if path is not None:
        return _checked(path)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise InputError(
            f"model {name!r}: no such folder, and no asset{nearest(name, ASSETS)}; a hub name is OWNER/NAME"
        )
    return name


def given_folder(name: str) -> Path | None:
    """Return the folder that a model's name is the path of; None of assets, packages and hub names."""
    path = Path(at_home(name))
    return None if name in ASSETS or name.startswith("package:") or not path.is_dir() else path


def resolve_input(spec: str) -> Path | None:
    """Return the file that "ASSET/FILE" names, or None if `spec` does not name an asset.

    Raises:
        InputError: the asset is not fetched or has no such file.
    """
    name, _, file = spec.partition("/")
    if name not in ASSETS or ASSETS[name].kind != "data":
        return None
    if not is_fetched(name):
        raise InputError(f"data set {name!r} is not fetched; run: euds fetch {name}")
    path = folder_of(name) / file
    if not path.is_file():
        known = sorted(found.name for found in folder_of(name).glob("*.jsonl"))
        raise InputError(f"data set {name!r} has no file {file!r}{nearest(file, known)}; files: {', '.join(known)}")
    return path


def content_sha256(folder: Path) -> str:
    """Hash what decides a model's output: weights, configuration and pooling, names included."""
    return _hash_files(folder, lambda path: path.suffix == SAFE_WEIGHTS or path.name == "config.json", POOLING_FILE)


def tokenizer_sha256(folder: Path) -> str:
    """Hash what decides the tokens that a model reads: its vocabularies and settings of any name, names included."""
    others = ("config.json", STAMP_FILE)
    return _hash_files(folder, lambda path: path.suffix in TOKENIZER_SUFFIXES and path.name not in others)


def _hash_files(folder: Path, wanted: Callable[[Path], bool], *inner: Path) -> str:
    digest = hashlib.sha256()
    for path in (*sorted(filter(wanted, folder.iterdir())), *(folder / name for name in inner)):
        if path.is_file():
            state = path.stat()
            digest.update(
                f"{path.relative_to(folder).as_posix()} {_file_hash(path, state.st_size, state.st_mtime_ns)}\n".encode()
            )
    return digest.hexdigest()


@lru_cache(maxsize=64)
def _file_hash(path: Path, size: int, modified_ns: int) -> str:
    """Hash a file once per process as long as it does not change."""
    return file_sha256(path)


def _package_folder(name: str) -> Path:
    package, _, inner = name.removeprefix("package:").partition("/")
    try:
        spec = importlib.util.find_spec(package)
    # No such outer package, or no name of a package at all.
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"model {name!r}: no package {package!r} is installed")
    return Path(spec.submodule_search_locations[0]) / inner


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: not a model folder (no config.json)")
    if not any(path.suffix == SAFE_WEIGHTS for path in folder.iterdir()):
        raise InputError(f"{folder}: no weights in safetensors; other formats may run code and are not read")
    return folder
