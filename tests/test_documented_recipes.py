"""docs/recipes.md names every key of recipes and studies with its default, and no others."""

import re
from pathlib import Path

import pytest

from euds.pipeline import recipe
from euds.pipeline.settings import Section
from euds.study.grid import config

PAGE = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text(encoding="utf-8")


def documented(title: str) -> dict[str, str]:
    """The default by key of a section's tables, as they are written."""
    section = re.split(r"\n#+ ", PAGE.split(f"## {title}\n", 1)[1])[0]
    found: dict[str, str] = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            _, keys, default, *_ = line.split("|")
            names = re.findall(r"`([^`]+)`", keys)
            defaults = default.split(",") if len(default.split(",")) == len(names) else [default] * len(names)
            found |= dict(zip(names, map(str.strip, defaults), strict=True))
    return found


@pytest.mark.parametrize(
    ("title", "sections"),
    [
        ("Recipe", [recipe.Recipe]),
        ("`data`", [recipe.DataSection]),
        ("`score`", [recipe.ScoreSection]),
        ("`select`", [recipe.SelectSection, recipe.MethodSection]),
        ("`train`", [recipe.TrainSection]),
        ("Study", [config.StudyFile]),
        ("`grid`", [config.BlockSection]),
    ],
)
def test_every_key_is_documented(title: str, sections: list[type[Section]]) -> None:
    named = documented(title)
    assert named.keys() == {key for section in sections for key in section.model_fields}
    for section in sections[:1]:
        for key, field in section.model_fields.items():
            given = field.default
            if isinstance(given, bool | int | float):
                assert named[key].strip("`").casefold() == str(given).casefold(), key
            elif isinstance(given, str):
                assert named[key] == f"`{given}`", key


def test_every_key_of_a_studys_data_is_documented() -> None:
    assert documented("`data` of a study").keys() == config.DataSection.model_fields.keys() - (
        recipe.DataSection.model_fields.keys()
    )
