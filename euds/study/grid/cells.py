"""Finished cells of a grid: one fine-tuned model a line of a JSON Lines file that is only ever appended to."""

import base64
import binascii
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from euds.errors import InputError, InvalidArgument, reason_of
from euds.files import make_folder, needs_room, storage_failure, sync_folder
from euds.progress import say
from euds.types import BoolArray, Float64Array, Int64Array

SCORE_STEPS = 255
"""A test row's score is stored in a byte: exact for right and wrong, to 1/510 for a token F1."""

Key = tuple[str, float, str, int, int]


@dataclass(frozen=True, eq=False)
class Cell:
    """One fine-tuned model, measured.

    Attributes:
        cell: 24 hexadecimal digits that name it.
        method: that chose its rows.
        keep: share of the pool, in (0, 1].
        schedule: how long it trained, as "3 epochs" or "120 steps".
        selection_seed: of the choice of rows.
        seed: of the new head, the order of the rows and dropout.
        n_train: training rows.
        steps: optimizer steps taken.
        metrics: by split ("test", "validation") and name, each in 0..1.
        test_scores: (n_test,), in 0..1: right or wrong, or token F1; in the order of the test rows.
        selected: positions in the pool of the training rows, ascending; rows from elsewhere have none.
        train_seconds, test_seconds: wall clock.
        processor: name of that they were measured on; None: an older version did not record it.
    """

    cell: str
    method: str
    keep: float
    schedule: str
    selection_seed: int
    seed: int
    n_train: int
    steps: int
    metrics: Mapping[str, Mapping[str, float]]
    test_scores: Float64Array
    selected: Int64Array
    train_seconds: float
    test_seconds: float
    processor: str | None = None

    @property
    def key(self) -> Key:
        """What no two cells of a file share."""
        return self.method, self.keep, self.schedule, self.selection_seed, self.seed

    def mask(self, n_pool: int) -> BoolArray:
        """Return (n_pool,) which rows of the pool were trained on; positions beyond it are of other rows."""
        found = np.zeros(n_pool, bool)
        found[self.selected[self.selected < n_pool]] = True
        return found


def read_cells(path: Path) -> list[Cell]:
    """Return the cells of a file in the order they were finished.

    A last line without its line break is what a crash left of a cell: it is skipped, with a note.

    Raises:
        InputError: the file is missing or cannot be read, a line is no cell, or two lines are the same cell; file and
            line are named.
        RunStopped: the disk or file server failed.
    """
    try:
        *lines, torn = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise storage_failure(path, error) or InputError(f"{path}: cannot be read: {reason_of(error)}") from None
    if torn:
        text = f"{path}, line {len(lines) + 1}: cut off by a crash, skipped; its cell will be trained again"
        say(f"note: {text}")
    cells: dict[Key, Cell] = {}
    for number, line in enumerate(lines, 1):
        try:
            cell = decode(line)
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}; without the line its cell is trained again") from None
        if cell.key in cells:
            raise InputError(f"{path}, line {number}: {cell.cell} repeats the cell {cells[cell.key].cell}; remove one")
        cells[cell.key] = cell
    return list(cells.values())


def append_cell(path: Path, cell: Cell) -> None:
    """Add a cell as one line that outlasts a power cut; one process at a time may write to a file.

    What a crash left of a last line is removed first.

    Raises:
        InvalidArgument: a score is outside 0..1 or a position is negative.
        RunStopped: the disk is full.
    """
    line = encode(cell) + b"\n"
    with needs_room(path):
        make_folder(path.parent)
        new = not path.exists()
        with path.open("ab+") as handle:
            handle.seek(0)
            handle.truncate(handle.read().rfind(b"\n") + 1)
            handle.write(line)
            handle.flush()
            os.fsync(handle.fileno())
        if new:
            sync_folder(path.parent)


def encode(cell: Cell) -> bytes:
    """Return a cell as one line of JSON, without the line break.

    Raises:
        InvalidArgument: a score is outside 0..1 or a position is negative.
    """
    packed = {"test_scores": encode_scores(cell.test_scores), "selected": encode_positions(cell.selected)}
    record = {name: value for name, value in {**asdict(cell), **packed}.items() if value is not None}
    return json.dumps(record, ensure_ascii=False, allow_nan=False).encode()


def decode(line: bytes) -> Cell:
    """Return the cell of a line.

    Raises:
        InputError: it is not JSON, lacks a field, or holds something else than the field should.
    """
    try:
        record = json.loads(line)
        cell = Cell(
            **{name: kind(record[name]) for name, kind in _PLAIN.items()},
            metrics=_metrics(record["metrics"]),
            test_scores=decode_scores(record["test_scores"]),
            selected=decode_positions(record["selected"]),
            processor=None if "processor" not in record else str(record["processor"]),
        )
    except KeyError as error:
        raise InputError(f"not a cell: no field {error}") from None
    # binascii.Error and JSONDecodeError are ValueErrors.
    except (ValueError, TypeError, AttributeError, OverflowError, zlib.error) as error:
        raise InputError(f"not a cell: {error}") from None
    metrics = [value for found in cell.metrics.values() for value in found.values()]
    if not (0 < cell.keep <= 1 and all(0 <= value <= 1 for value in metrics)):
        raise InputError("not a cell: keep and metrics must lie in 0..1")
    return cell


def encode_scores(scores: Float64Array) -> str:
    """Return (n,) scores in 0..1 as text, each rounded to 1/255.

    Raises:
        InvalidArgument: one is outside 0..1.
    """
    scores = np.asarray(scores, np.float64)
    if not np.all((scores >= 0) & (scores <= 1)):
        raise InvalidArgument("test_scores: must lie in 0..1")
    return _pack(np.rint(SCORE_STEPS * scores).astype(np.uint8).tobytes())


def decode_scores(text: str) -> Float64Array:
    """Return (n,) scores in 0..1."""
    return np.frombuffer(_unpack(text), np.uint8) / SCORE_STEPS


def encode_positions(positions: Int64Array) -> str:
    """Return the bit mask with these bits set, as text.

    Raises:
        InvalidArgument: a position is negative or no integer (a mask is not meant: give np.flatnonzero of it).
    """
    positions = np.asarray(positions)
    if len(positions) and (not np.issubdtype(positions.dtype, np.integer) or positions.min() < 0):
        raise InvalidArgument("selected: must be positions in the pool, integers from 0")
    mask = np.zeros(int(positions.max()) + 1 if len(positions) else 0, bool)
    mask[positions.astype(np.int64)] = True
    return _pack(np.packbits(mask).tobytes())


def decode_positions(text: str) -> Int64Array:
    """Return the places of the set bits, ascending; the mask's own length is not stored."""
    return np.flatnonzero(np.unpackbits(np.frombuffer(_unpack(text), np.uint8))).astype(np.int64)


_PLAIN: dict[str, Any] = {
    "cell": str,
    "method": str,
    "keep": float,
    "schedule": str,
    "selection_seed": int,
    "seed": int,
    "n_train": int,
    "steps": int,
    "train_seconds": float,
    "test_seconds": float,
}


def _metrics(record: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {split: {name: float(value) for name, value in found.items()} for split, found in record.items()}


def _pack(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 9)).decode()


def _unpack(text: str) -> bytes:
    try:
        return zlib.decompress(base64.b64decode(text, validate=True))
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from None
