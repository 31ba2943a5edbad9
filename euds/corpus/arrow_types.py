"""Arrow's types, nested ones too, with some of what they are made of in another type."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa

LIST_TYPES: tuple[tuple[Any, Any], ...] = (
    (pa.types.is_list, pa.list_),
    (pa.types.is_large_list, pa.large_list),
    (pa.types.is_list_view, pa.list_view),
    (pa.types.is_large_list_view, pa.large_list_view),
)
"""Lists of any length: how each is told, and made of a field."""


def retyped(kind: Any, change: Callable[[Any], Any]) -> pa.DataType:
    """Return a type in which `change` has been made of every type that it is nested of, of a dictionary's values, too.

    Args:
        kind: the type.
        change: gives another type, or the same where nothing is to change.
    """

    def changed(field: Any) -> Any:
        return field.with_type(retyped(field.type, change))

    if pa.types.is_dictionary(kind):
        return change(pa.dictionary(kind.index_type, retyped(kind.value_type, change), kind.ordered))
    if pa.types.is_struct(kind):
        return pa.struct([changed(field) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(changed(kind.key_field), changed(kind.item_field), kind.keys_sorted)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(changed(kind.value_field), kind.list_size)
    for is_kind, list_of in LIST_TYPES:
        if is_kind(kind):
            return list_of(changed(kind.value_field))
    return change(kind)


def many_categories(kind: pa.DataType) -> pa.DataType:
    """Return a type whose dictionaries can count 2**31 values at least."""
    return retyped(kind, _many_categories)


def _many_categories(kind: Any) -> pa.DataType:
    if pa.types.is_dictionary(kind) and kind.index_type.bit_width < 32:
        return pa.dictionary(pa.int32(), kind.value_type, kind.ordered)
    return kind
