"""What a study would be refused for is told before anything is scored or written."""

from typing import Any

import pytest
from tiny_study import changed

from euds.errors import InvalidArgument
from euds.study.grid.config import load_study


@pytest.mark.parametrize("key", ["out", "results", "repeated_in"])
def test_folders_are_of_this_machine(study: dict[str, Any], key: str) -> None:
    for value, message in (("s3://bucket/x", "must be a local path, got s3://bucket/x"), ("", "is empty; name")):
        with pytest.raises(InvalidArgument, match=f"^study: {key}: {message}"):
            load_study({**study, key: value})


def test_names_of_fields_are_not_empty(study: dict[str, Any]) -> None:
    for changes, message in (({"label_field": ""}, "label_field: a name is empty"), ({"text_field": []}, "got 0")):
        with pytest.raises(InvalidArgument, match=f"^study: data\\..*{message}"):
            load_study(changed(study, data=changes))
