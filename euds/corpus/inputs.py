"""Which files a corpus is made of, and how each format is read."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from euds.assets import resolve_input
from euds.corpus import columnar, delimited, jsonl
from euds.corpus.raw import RawRow
from euds.errors import InputError

FORMATS: dict[str, ModuleType] = {
    ".jsonl": jsonl,
    ".ndjson": jsonl,
    ".jsonl.gz": jsonl,
    ".ndjson.gz": jsonl,
    ".csv": delimited,
    ".parquet": columnar,
    ".arrow": columnar,
    ".feather": columnar,
}
"""Reader by suffix; each has rows(path, columns), count(path), field_names(path) and check(path)."""


def list_inputs(inputs: Sequence[str | Path]) -> tuple[Path, ...]:
    """Return the files that `inputs` name: paths, globs (`**` too), or files of fetched assets, in the order given.

    The files of a glob are sorted by path.

    Raises:
        InputError: a name matches no file, a format is unknown, or a file is named twice.
    """
    files: list[Path] = []
    for spec in inputs:
        files += _expand(str(spec))
    if not files:
        raise InputError("no input was given")
    for file in files:
        reader(file)
    twice = [file for at, file in enumerate(files) if file.resolve() in {other.resolve() for other in files[:at]}]
    if twice:
        raise InputError(f"{twice[0]}: the file is named twice")
    return tuple(files)


def reader(file: Path) -> ModuleType:
    """Return the module that reads a file's format, by the file's suffix.

    Raises:
        InputError: the suffix is unknown; the message lists the known ones.
    """
    for suffix, module in FORMATS.items():
        if file.name.lower().endswith(suffix):
            return module
    raise InputError(f"{file}: unknown format; known suffixes: {', '.join(FORMATS)}")


def raw_rows(file: Path, columns: Sequence[str] | None) -> Iterator[RawRow]:
    """Read one file."""
    rows: Iterator[RawRow] = reader(file).rows(file, columns)
    return rows


def _expand(spec: str) -> list[Path]:
    path = Path(spec)
    if path.is_file():
        return [path]
    if any(sign in spec for sign in "*?["):
        root = Path(path.anchor) if path.is_absolute() else Path()
        pattern = str(path.relative_to(path.anchor)) if path.is_absolute() else spec
        found = sorted(match for match in root.glob(pattern) if match.is_file())
        if not found:
            raise InputError(f"{spec}: the pattern matches no file")
        return found
    asset = resolve_input(spec)
    if asset is not None:
        return [asset]
    if path.is_dir():
        raise InputError(f"{spec}: is a folder; name its files, such as {spec}/*.jsonl")
    raise InputError(f"{spec}: no such file")
