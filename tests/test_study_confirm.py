"""The documents say what the confirmation on Reuters found."""

import json

import pytest
from test_study_results import CONFIRM, STUDY, summary_of, text_of

from euds.study.grid.entries import Entry
from euds.study.grid.summary import TaskSummary

WHOLE, DRAW = f"{CONFIRM}/reuters-whole", f"{CONFIRM}/reuters-3"


def entry(found: TaskSummary, method: str) -> Entry:
    result = found.full() if method == "full" else found.headline(method)
    assert result is not None
    return result


def shown(found: TaskSummary, method: str, name: str) -> str:
    result = entry(found, method)
    return f"{name} {100 * result.mean:.1f} (macro-F1 {100 * result.metrics['macro_f1']:.0f})"


def test_what_nearly_all_rows_of_reuters_give() -> None:
    found, text = summary_of(WHOLE), text_of("docs/study.md")
    assert [shown(found, *which) in text for which in METHODS] == [True] * len(METHODS)
    names = {"middle of generative entropy": "generative_middle", "IGSE box": "igse_box"}
    for name, method in names.items():
        assert shown(found, method, f"the {name}") in text
    rules = [one for one in found.at(0.16, "480 steps") if one.method not in ("random", "full")]
    assert [one.method for one in rules if one.worse_than_random] == ["igse_box"]
    assert not any(one.better_than_random or one.holds for one in rules)
    lines = (STUDY / f"{WHOLE}.cells.jsonl").read_text().splitlines()
    full = sorted(cell["metrics"]["test"]["accuracy"] for cell in map(json.loads, lines) if cell["method"] == "full")
    low, *others = (f"{100 * accuracy:.1f}" for accuracy in full)
    assert f"{others[0]} to {others[-1]} on four seeds, {low} on one" in text


METHODS = [("random", "random rows"), ("k_center", "`k_center`"), ("facility", "`facility`"), ("full", "the full data")]


@pytest.mark.parametrize("method", ["k_center", "facility"])
def test_what_the_other_draw_gives(method: str) -> None:
    found, text = summary_of(DRAW), text_of("docs/study.md")
    assert [shown(found, *which) in text for which in METHODS] == [True] * len(METHODS)
    result = entry(found, method)
    for gap in (result.vs_random, result.vs_full):
        assert gap is not None
        assert f"{100 * gap.mean:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]" in text
