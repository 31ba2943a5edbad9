"""Values of columns that may hold nanoseconds, which Python's own times have not.

Arrow itself gives pandas' times for them where pandas is installed, else an error, or a time of day that is cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from euds.corpus.arrow_types import retyped


@dataclass(frozen=True)
class Nanoseconds:
    """A timestamp, time or duration that is not of whole microseconds; its text is Python's, with nine digits.

    Attributes:
        scalar: Arrow's value.
        floor: the last whole microsecond before it.
    """

    scalar: Any
    floor: datetime | time | timedelta

    def __str__(self) -> str:
        if isinstance(self.floor, timedelta):
            text = str(self.floor) if self.floor.microseconds else f"{self.floor}.000000"
        else:
            text = self.floor.isoformat(timespec="microseconds").replace("T", " ")
        # An offset may follow the fraction.
        whole, fraction = text.split(".")
        return f"{whole}.{fraction[:6]}{self.scalar.value % 1000:03}{fraction[6:]}"


@cache
def has_nanoseconds(kind: pa.DataType) -> bool:
    """Whether values of a type may hold nanoseconds, nested ones too."""
    return bool(retyped(kind, _in_microseconds) != kind)


def python_values(column: pa.Array | pa.ChunkedArray) -> list[object]:
    """Return a column as `to_pylist` does, whether or not pandas is installed.

    Times of whole microseconds are Python's own, others `Nanoseconds`, in lists, objects and maps too.

    Raises:
        ValueError, OverflowError, NotImplementedError: a value has no counterpart in Python.
    """
    kind = column.type
    if not has_nanoseconds(kind):
        values: list[object] = column.to_pylist()
        return values
    if pa.types.is_nested(kind) or pa.types.is_dictionary(kind):
        return [python_value(value) for value in column]
    return _times(column)


def python_value(value: Any) -> object:
    """Return one value, as `python_values` has it."""
    kind = value.type
    # Of an object with two fields of the same name Python's would lose one: Arrow refuses it.
    if not value.is_valid or not has_nanoseconds(kind) or (pa.types.is_struct(kind) and _repeats_a_name(kind)):
        return value.as_py()
    if pa.types.is_dictionary(kind):
        return python_value(value.value)
    if pa.types.is_struct(kind):
        return {field.name: python_value(value[at]) for at, field in enumerate(kind)}
    if pa.types.is_map(kind):
        return [(python_value(item[0]), python_value(item[1])) for item in value.values]
    if pa.types.is_nested(kind):
        return python_values(value.values)
    return _times(pa.array([value], kind))[0]


def arrow_array(values: Sequence[object], kind: pa.DataType | None = None) -> pa.Array:
    """Return values, as `python_values` gives them, as a column of a type; None: of that which holds them.

    Raises:
        ValueError, TypeError, OverflowError, pa.ArrowException: the type does not hold them, or there is none.
    """
    if kind is None or has_nanoseconds(kind):
        values = [_arrow_value(value) for value in values]
    return pa.array(values, kind)


def _times(column: pa.Array | pa.ChunkedArray) -> list[object]:
    """Return timestamps, times or durations, which are not nested."""
    units = column.cast(pa.int64()).fill_null(0).to_numpy()
    nulls = column.is_null().to_numpy(zero_copy_only=False)
    floors: list[Any] = pa.array(units // 1000, mask=nulls).cast(_in_microseconds(column.type)).to_pylist()
    for at in np.flatnonzero(units % 1000).tolist():
        floors[at] = Nanoseconds(column[at], floors[at])
    return floors


def _arrow_value(value: object) -> object:
    if isinstance(value, Nanoseconds):
        return value.scalar
    if isinstance(value, list):
        return [_arrow_value(each) for each in value]
    if isinstance(value, tuple):
        return tuple(_arrow_value(each) for each in value)
    if isinstance(value, dict):
        return {name: _arrow_value(each) for name, each in value.items()}
    return value


def _in_microseconds(kind: Any) -> pa.DataType:
    if getattr(kind, "unit", None) != "ns":
        return kind
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    return pa.duration("us") if pa.types.is_duration(kind) else pa.time64("us")


def _repeats_a_name(kind: Any) -> bool:
    return len({field.name for field in kind}) < int(kind.num_fields)
