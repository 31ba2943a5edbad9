"""The documents say what the confirmation on Reuters found."""

import json

from test_study_results import CONFIRM, STUDY, summary_of, text_of

from euds.study.grid.entries import Entry
from euds.study.grid.summary import TaskSummary
from euds.study.grid.wording import interval

WHOLE, DRAW = f"{CONFIRM}/reuters-whole", f"{CONFIRM}/reuters-3"
METHODS = [("random", "random rows"), ("k_center", "`k_center`"), ("facility", "`facility`"), ("full", "the full data")]

METHODS_OF_16 = ("random", "k_center", "facility")


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
    assert not any(one.better_than_random or one.non_inferior for one in rules)
    lines = (STUDY / f"{WHOLE}.cells.jsonl").read_text().splitlines()
    full = sorted(cell["metrics"]["test"]["accuracy"] for cell in map(json.loads, lines) if cell["method"] == "full")
    lowest, low, *others = (f"{100 * accuracy:.1f}" for accuracy in full)
    assert (
        f"{others[0]} to {others[-1]} on eight seeds, {lowest} and {low} on two, which had not learned the rare" in text
    )
    random = entry(found, "random").vs_full
    assert random is not None
    assert f"random has {interval(random)}" in text
    rare = [cell["metrics"]["test"]["macro_f1"] for cell in map(json.loads, lines) if cell["method"] in METHODS_OF_16]
    assert (len(full), len(rare), min(rare) > 0.85) == (10, 30, True)


def test_what_the_other_draw_gives() -> None:
    found, text = summary_of(DRAW), text_of("docs/study.md")
    assert [shown(found, *which) in text for which in METHODS] == [True] * len(METHODS)
    facility, centers = entry(found, "facility"), entry(found, "k_center")
    for result in (facility, centers):
        assert len(result.seeds) == 10
        for gap in (result.vs_random, result.vs_full):
            assert gap is not None
            assert interval(gap) in text
    assert (facility.better_than_random, facility.non_inferior, centers.better_than_random) == (True, False, False)


def test_readme_and_rules_say_the_same() -> None:
    whole, draw = summary_of(WHOLE), summary_of(DRAW)
    text = text_of("README.md")
    assert shown(draw, "facility", "`facility` at 16 % has") in text
    assert shown(draw, "random", "shown to be better than random with") in text
    assert shown(draw, "full", "the full data have") in text
    for method, name in (("random", "random has"), ("facility", "`facility`"), ("igse_box", "the IGSE box")):
        assert shown(whole, method, name) in text
    text = text_of("docs/rules.md")
    for found in (draw, whole):
        gap = entry(found, "facility").vs_random
        assert gap is not None
        assert interval(gap) in text
