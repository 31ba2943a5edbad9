"""Where fetched assets lie, and which are there."""

import json
import os
from pathlib import Path

from euds.assets.table import ASSETS

STAMP_FILE = "asset.json"


def cache_folder() -> Path:
    """Return the cache: `EUDS_CACHE`, or ~/.cache/euds."""
    named = os.environ.get("EUDS_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "euds"


def folder_of(name: str) -> Path:
    """Return the folder of an asset, there or not."""
    return cache_folder() / name


def stamp_path(folder: Path) -> Path:
    """Return the file that says which package an asset's folder was made from."""
    return folder / STAMP_FILE


def is_fetched(name: str) -> bool:
    """Tell whether an asset is there, made from the very package of the table."""
    try:
        stamp = json.loads(stamp_path(folder_of(name)).read_text(encoding="utf-8"))
    # A damaged stamp vouches for nothing.
    except (OSError, ValueError):
        return False
    return isinstance(stamp, dict) and stamp.get("sha256") == ASSETS[name].sha256
