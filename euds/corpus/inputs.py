"""Which files a corpus is made of, and how each format is read."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from euds.assets import resolve_input
from euds.corpus import columnar, delimited, jsonl
from euds.corpus.location import file_name, file_path, find_files, is_pattern, is_url, printable, reaching
from euds.errors import InputError
from euds.progress import say

FORMATS: dict[str, ModuleType] = {
    ".jsonl": jsonl,
    ".ndjson": jsonl,
    ".jsonl.gz": jsonl,
    ".ndjson.gz": jsonl,
    ".jsonl.zst": jsonl,
    ".ndjson.zst": jsonl,
    ".csv": delimited,
    ".csv.gz": delimited,
    ".csv.zst": delimited,
    ".parquet": columnar,
    ".arrow": columnar,
    ".feather": columnar,
}
"""Reader by suffix; each has Source(path, columns, optional), field_names(path, wanted), and of a path marks,
splittable and check."""

PACKED, UNPACKED_TIMES = (".gz", ".zst", ".parquet", ".feather"), 4
"""Formats that hold more than their size, and about how much more: text that gzip, zstd or a columnar format's own
compression has packed is three to five times as large."""

REMEDIES = {
    ".tsv": "fields of .csv are separated by commas: convert it",
    ".json": ".json of one object a line: rename it to .jsonl; of an array: write each object on a line of its own",
}
"""What to do with a format that is like a known one, by suffix."""

STANDARD_INPUT = ("-", "/dev/stdin")


def list_inputs(
    inputs: Sequence[str | Path], passed_over: Callable[[Path], bool] = lambda file: False
) -> tuple[Path, ...]:
    """Return the files that `inputs` name: paths, URLs, globs of either (`**` too), or files of fetched assets.

    They are in the order given, those of a glob sorted. Remote files are as `file_path` gives them. A local glob passes
    over folders that may not be listed, and its `**` over those that are links, which need a glob of their own. It also
    passes over the files of which `passed_over` is true, such as the run's own, and says so; one that is named stays.

    Raises:
        InputError: a name matches no file, cannot be looked up or is not UTF-8, a format is unknown, a file is named
            twice, is a pipe or standard input, or a URL's protocol is unknown or needs a package that is not installed.
    """
    files: list[Path] = []
    for spec in inputs:
        files += _expand(str(spec), passed_over)
    if not files:
        raise InputError("no input was given")
    seen: set[Path] = set()
    for file in files:
        if printable(file) != str(file):
            # Neither a manifest nor the scores could name it.
            raise InputError(f"{printable(file)}: the file's name is not UTF-8; rename it")
        reader(file)
        identity = file if is_url(file) else file.resolve()
        if identity in seen:
            raise InputError(f"{file}: the file is named twice")
        seen.add(identity)
    return tuple(files)


def reader(file: Path) -> ModuleType:
    """Return the module that reads a file's format, by the file's suffix.

    Raises:
        InputError: the suffix is unknown; the message lists the known ones.
    """
    for suffix, module in FORMATS.items():
        if file_name(file).endswith(suffix):
            return module
    remedy = next((f"; {told}" for suffix, told in REMEDIES.items() if suffix in Path(file_name(file)).suffixes), "")
    raise InputError(f"{file}: unknown format; known suffixes: {', '.join(FORMATS)}{remedy}")


def unpacked_bytes(file: Path, n_bytes: int) -> int:
    """Return about how many bytes of text and all else a file of this size holds, told by its suffix alone."""
    return n_bytes * (UNPACKED_TIMES if file_name(file).endswith(PACKED) else 1)


def _expand(spec: str, passed_over: Callable[[Path], bool]) -> list[Path]:
    path = file_path(spec)
    with reaching(spec):
        if path.is_file() and spec not in STANDARD_INPUT:
            return [path]
        if spec in STANDARD_INPUT or (not is_url(spec) and (path.is_fifo() or path.is_char_device())):
            raise InputError(
                f"{spec}: standard input and pipes can be read only once, and a corpus is read several times; write "
                "the rows to a file, such as rows.jsonl, and name that"
            )
    if is_pattern(spec):
        matches = find_files(spec)
        own = {file for file in matches if not is_url(file) and passed_over(file)}
        found = [file for file in matches if file not in own]
        if own:
            say(f"{spec}: {len(own)} file(s) that the run itself makes are passed over, such as {min(own)}")
        if not found:
            raise InputError(f"{spec}: the pattern matches no file{_looked_for(spec)}")
        return found
    asset = None if is_url(spec) else resolve_input(spec)
    if asset is not None:
        return [asset]
    with reaching(spec):
        if path.is_dir():
            folder, chained, archive = spec.partition("::") if is_url(spec) else (spec, "", "")
            raise InputError(
                f"{spec}: is a folder; name its files, such as {folder.rstrip('/')}/*.jsonl{chained}{archive}"
            )
    raise InputError(f"{spec}: no such file{_looked_for(spec)}")


def _looked_for(spec: str) -> str:
    """Return where a relative path leads, for a message: a recipe's reader may have thought of the recipe's folder."""
    path = file_path(spec)
    return "" if is_url(spec) or path.is_absolute() else f" ({path.absolute()})"
