"""Settings in YAML files: read, overridden, checked, and mistakes told in one line."""

import re
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from yaml.composer import ComposerError

from euds.errors import InputError, InvalidArgument, instance_of, nearest

UNION_TAGS = ("constrained-int", "list[int]", "list[str]", "str", "int", "float", "literal['auto']", "MethodSection")
"""What pydantic puts into an error's path for each form that a value may take; users know no such keys."""

IN_YAML = {
    **dict.fromkeys(("list_type", "tuple_type"), "input should be a list, such as [a, b]"),
    **dict.fromkeys(("model_type", "dict_type"), "input should be keys and values"),
}
"""What pydantic says of Python's types, for those who write YAML."""


INPUT = "input should be "
"""How most of what pydantic says begins, but for the capital letter."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which follows YAML 1.1, with floats such as 2e-4 and 1e3, which YAML 1.2 has.

    A key that stands twice is refused, as YAML asks for: PyYAML would take the last and drop the first unseen.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return the node of a mapping, of whose keys none stands twice."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise ComposerError(None, None, f"key {key.value!r} stands twice", key.start_mark)
                seen.add(key.value)
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)


NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)
"""What the loader raises: of values such as the date 2026-02-30, and of deep nesting, Python's own errors."""


class Section(BaseModel):
    """A group of keys; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Settings = TypeVar("Settings", bound=Section)


def load_settings(
    model: type[Settings], source: str | Path | Mapping[str, Any], overrides: Sequence[str], where: str
) -> Settings:
    """Read settings, apply "key=value" overrides, and check names and types of all keys.

    Args:
        model: what the keys may be.
        source: path of a YAML file, or its content as a mapping.
        overrides: settings as "key=value", dotted for inner ones.
        where: what messages call the settings.

    Raises:
        InputError: the file is missing or not YAML.
        InvalidArgument: a key is unknown (the message suggests the nearest), missing, or has an impossible value.
        InvalidType: they are neither a path nor a mapping.
    """
    instance_of("settings", source, (str, PathLike, Mapping), "a YAML file or a mapping")
    content = dict(source) if isinstance(source, Mapping) else _read_yaml(Path(source))
    for override in overrides:
        content = _override(content, override)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise InvalidArgument(f"{where}: {_explain(model, error)}") from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except NOT_YAML as error:
        raise InputError(f"{path}: not YAML: {_words(error)}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: the file must hold keys and values")
    return content


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())


def _override(content: Mapping[str, Any], override: str) -> dict[str, Any]:
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise InvalidArgument(f"override {override!r}: write key=value, such as select.keep=0.3")
    try:
        value = yaml.load(text, _Loader)
    except NOT_YAML as error:
        raise InvalidArgument(f"override {override!r}: the value is not YAML: {_words(error)}") from None
    *outer, last = key.split(".")
    changed: dict[str, Any] = dict(content)
    inner = changed
    for part in outer:
        below = inner.get(part, {})
        if not isinstance(below, Mapping):
            raise InvalidArgument(f"override {override!r}: {part} has no keys below it")
        inner[part] = dict(below)
        inner = inner[part]
    inner[last] = value
    return changed


def _explain(model: type[Section], error: ValidationError) -> str:
    """One line about the first mistake, an unknown key before all others, as it is often the cause of them."""
    mistakes = error.errors(include_url=False)
    # Of the forms that a value may take, the one meant is the one whose mistake lies deepest.
    deepest = max(mistakes, key=lambda found: len(found["loc"]))
    mistake = next((found for found in mistakes if found["type"] == "extra_forbidden"), deepest)
    path = _path(mistake)
    if mistake["type"] == "extra_forbidden":
        known = _keys_at(model, mistake["loc"][:-1])
        return f"unknown key {path!r}{nearest(str(mistake['loc'][-1]), known)}; known here: {', '.join(known)}"
    if mistake["type"] == "missing":
        return f"key {path!r} is missing"
    # Each form that the value may take has a mistake of its own.
    first, *others = dict.fromkeys(_said(found) for found in (mistake, *mistakes) if _path(found) == path)
    forms = (other.removeprefix(INPUT) for other in others)
    return f"{path}: {' or '.join((first, *forms))}, got {mistake['input']!r}"


def _said(mistake: ErrorDetails) -> str:
    said = IN_YAML.get(mistake["type"], mistake["msg"].removeprefix("Value error, "))
    return said[:1].lower() + said[1:]


def _path(mistake: ErrorDetails) -> str:
    return ".".join(str(part) for part in mistake["loc"] if part not in UNION_TAGS)


def _keys_at(model: type[Section], location: Sequence[int | str]) -> list[str]:
    section = model
    for part in location:
        if part in section.model_fields:
            section = _section_in(section.model_fields[str(part)].annotation) or section
    return list(section.model_fields)


def _section_in(annotation: Any) -> type[Section] | None:
    """Return the section that a field holds, also as an entry of a list, or None."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section_in(part))), None)
