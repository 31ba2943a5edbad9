"""Results as one JSON object on standard output, for programs: the option --json."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines for people.")]


def print_json(result: "DataclassInstance", *, leave_out: Sequence[str] = (), also: Sequence[str] = ()) -> None:
    """Print a result as one line of JSON: its fields by name, numbers finite or null, paths as text.

    Args:
        result: a dataclass.
        leave_out: fields that are not told.
        also: properties that are told, too.
    """
    names = [field.name for field in fields(result) if field.name not in leave_out]
    told = {name: plain(getattr(result, name)) for name in (*names, *also)}
    typer.echo(json.dumps(told, ensure_ascii=False, allow_nan=False))


def plain(value: Any) -> Any:
    """Return a value as JSON has it; NaN and infinity, which it has not, as None, and what else it lacks as text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)
