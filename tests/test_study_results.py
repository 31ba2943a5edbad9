"""The committed study: its summaries follow from its rows, and README says what they say."""

import json
import re
from copy import deepcopy
from functools import cache, reduce
from operator import getitem
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest

from euds.files import read_json
from euds.selection.auto import decide
from euds.selection.rules import Pool
from euds.study.grid.across import over_draws
from euds.study.grid.conclusions import conclusions
from euds.study.grid.config import load_study, planned_cells
from euds.study.grid.statistics import LEVEL, MIN_SEEDS, Difference
from euds.study.grid.summary import TaskSummary, summarise
from euds.study.grid.task import GridTask, read_task
from euds.study.grid.wording import points

ROOT = Path(__file__).parent.parent
STUDY = ROOT / "benchmarks" / "study"
TITLES = {
    "movies": "movie snippets",
    "reuters": "Reuters R8",
    "newsgroups": "six of 20 Newsgroups",
    "questions": "questions of disfl_qa",
    "synthetic": "snippets, half synthetic",
}
"""What README calls each task."""

TASKS = ("movies", "reuters", "newsgroups", "questions")
"""Those that were repeated."""

AGAIN = "again"
"""The folder of the repetition on other draws of rows."""

CONFIRM = "confirm"
"""The folder of what was asked once more, on other rows and more of them."""


def names_in(folder: str) -> list[str]:
    return sorted(path.name.removesuffix(".cells.jsonl") for path in (STUDY / folder).glob("*.cells.jsonl"))


NAMES = names_in("")
DRAWS = [f"{AGAIN}/{name}" for name in names_in(AGAIN)]
CONFIRMED = [f"{CONFIRM}/{name}" for name in names_in(CONFIRM)]


@cache
def task_of(name: str) -> GridTask:
    study = load_study(STUDY / f"{name}.yaml")
    planned = [cell.key for cell in planned_cells(study)]
    path = STUDY / name
    return read_task(path.parent, path.name, (), planned, study.main_schedule, study.timed_cells, study.title)


@cache
def summary_of(name: str) -> TaskSummary:
    return summarise(task_of(name))


@pytest.fixture(scope="module", params=[*NAMES, *DRAWS, *CONFIRMED])
def committed(request: pytest.FixtureRequest) -> tuple[str, TaskSummary]:
    return request.param, summary_of(request.param)


def test_there_are_rows() -> None:
    assert NAMES
    assert DRAWS
    assert CONFIRMED


def test_summaries_follow_from_the_rows(committed: tuple[str, TaskSummary]) -> None:
    name, found = committed
    written = read_json(STUDY / f"{name}.summary.json")
    # As JSON has it: lists for tuples, and text for the seeds.
    assert differences(json.loads(json.dumps(found.to_json())), written) == []


def test_the_page_says_what_the_rows_say(committed: tuple[str, TaskSummary]) -> None:
    name, found = committed
    page = ((STUDY / name).parent / "README.md").read_text(encoding="utf-8")
    _, _, section = page.partition(f"\n## {found.title}\n")
    said = section.partition("### Conclusions\n\n")[2].partition("\n\n")[0]
    assert said.splitlines() == [f"* {line}" for line in conclusions(found)]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("best_igse",), "other"),
        (("entries", 0, "vs_full", "low"), 0.5),
        (("entries", 5, "p_random"), 0.987),
        (("entries", 0, "seconds", "training"), 1e6),
        (("checks", 0, "passed"), None),
        (("gaps",), []),
    ],
)
def test_a_stale_summary_is_noticed(path: tuple[str | int, ...], value: object) -> None:
    written = read_json(STUDY / "newsgroups.summary.json")
    stale = deepcopy(written)
    reduce(getitem, path[:-1], stale)[path[-1]] = value
    assert differences(written, deepcopy(written)) == []
    assert len(differences(stale, written)) == 1


def test_every_compared_cell_is_in_the_grid_of_its_file(committed: tuple[str, TaskSummary]) -> None:
    name, found = committed
    planned = {
        (cell.method, cell.keep, cell.block.schedule) for cell in planned_cells(load_study(STUDY / f"{name}.yaml"))
    }
    assert {(entry.method, entry.keep, entry.schedule) for entry in found.entries} <= planned


def test_the_pool_was_scored_as_its_file_says(committed: tuple[str, TaskSummary]) -> None:
    name, _ = committed
    scored = read_json(STUDY / f"{name}.facts.json")["scoring_model"]
    # Cells that other scores chose would be refused, also by --rerun.
    for key, value in load_study(STUDY / f"{name}.yaml").score.model_dump().items():
        assert scored[key] == value, key


@pytest.mark.parametrize("name", NAMES)
def test_readme_says_what_the_rows_say(name: str) -> None:
    found, title = summary_of(name), TITLES[name]
    line = next(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith(f"| {title} ("))
    full, best = found.full(), found.headline(found.best_label_free)
    random, box = found.headline("random"), found.headline("igse_box")
    assert full is not None
    assert best is not None
    assert random is not None
    assert box is not None
    assert best.vs_random is not None
    assert best.vs_full is not None
    said = [cell.strip() for cell in line.strip("|").split("|")]
    assert said[0] == f"{title} ({found.n_pool:,} rows)"
    assert said[1] == found.schedules[0]
    assert said[2:5] == [f"{100 * entry.mean:.1f}" for entry in (full, random, box)]
    assert said[5].startswith(f"`{best.method}` ")
    numbers = re.findall(r"\d+\.\d", said[5])
    assert numbers[0] == f"{100 * best.mean:.1f}"
    assert numbers[-1] == f"{abs(100 * best.vs_full.mean):.1f}"
    assert said[5].endswith(f"{'above' if best.vs_full.mean > 0 else 'below'} full")
    shown = best.vs_random.mean > 0 and best.vs_random.p < LEVEL
    assert ("not shown to beat random" in said[5]) == (not shown)
    above = f"{100 * best.vs_random.mean:.1f} points above random"
    assert (above in said[5]) == shown
    assert (f"{above} before correction, not shown after it" in said[5]) == (shown and not best.better_than_random)


def test_auto_takes_what_did_best_over_all_draws_and_the_documents_say_by_how_much() -> None:
    places = np.arange(6)
    lengths = np.array([3.0, 1, 2, 5, 4, 1])
    covered = decide(Pool((), np.empty((6, 0)), lengths, places, embeddings=np.eye(6, dtype=np.float32)))
    middle = decide(Pool(("generative_entropy_nats",), np.arange(6.0)[:, None], lengths, places))
    assert (covered.rule, middle.rule, middle.axes) == ("facility", "middle", ("generative_entropy_nats",))
    leads = leads_by_task()
    assert leads.keys() == {"facility", "generative_middle"}
    single = [task for task in leads["facility"] if task != "questions"]
    assert mean(leads["facility"][task] for task in single) > mean(leads["generative_middle"][task] for task in single)
    assert leads["generative_middle"]["questions"] > 0 > leads["facility"]["questions"]
    for document in ("README.md", "docs/rules.md"):
        said = text_of(document)
        for method in leads:
            lead = {task: f"{100 * value:+.1f}" for task, value in leads[method].items()}
            assert (
                f"`{method}` {lead['movies']} on the snippets, {lead['reuters']} on Reuters, {lead['newsgroups']} on "
                f"Newsgroups and {lead['questions']} on the questions"
            ) in said, (document, method)


def test_the_documents_say_on_how_many_draws_a_rule_was_ahead() -> None:
    said = text_of("docs/rules.md")
    found = {rule.method: rule for rule in over_draws([draws_of(task) for task in TASKS])}
    for method, rule in found.items():
        near, wide = (
            f"[{100 * (rule.mean - half):+.1f}, {100 * (rule.mean + half):+.1f}]"
            for half in (rule.half_width, rule.spread)
        )
        assert f"`{method}` {points(rule.mean)} {near}" in said
        assert f"{wide} with the tasks as a sample" in said
        assert f"ahead on {rule.ahead} of {sum(len(draws_of(task)) for task in TASKS)}" in said


def test_the_documents_say_what_the_schedules_fixed_beforehand_give() -> None:
    fixed = {"movies": "5 epochs", "reuters": "5 epochs", "newsgroups": "100 steps", "questions": "320 steps"}

    def leads(task: str, method: str) -> list[float]:
        found = [entry for draw in draws_of(task) for entry in draw.at(0.16, fixed[task]) if entry.method == method]
        return [entry.vs_random.mean for entry in found if entry.vs_random is not None]

    by_task = {method: [leads(task, method) for task in TASKS] for method in ("facility", "generative_middle")}
    shown = {method: f"{100 * mean(map(mean, own)):+.1f}" for method, own in by_task.items()}
    ahead = {method: sum(lead > 0 for draws in own for lead in draws) for method, own in by_task.items()}
    assert all(len(draws) == 3 for own in by_task.values() for draws in own)
    facility, middle = by_task
    assert (
        f"{shown[facility]} for `facility`, ahead on {ahead[facility]} of 12, and {shown[middle]} for "
        f"`generative_middle`, ahead on {ahead[middle]} of 12"
    ) in text_of("docs/rules.md")
    box, other = leads("questions", "igse_box"), leads("questions", "generative_middle")
    assert min(box + other) > 0
    assert f"{100 * mean(box):+.1f} points against {100 * mean(other):+.1f}: the rows do not decide" in text_of(
        "docs/rules.md"
    )


@pytest.mark.parametrize("name", ["reuters", f"{AGAIN}/reuters-1", f"{AGAIN}/reuters-2"])
def test_the_documents_say_what_models_that_know_all_classes_of_reuters_give(name: str) -> None:
    found = summary_of(name)
    assert found.schedules[0] == "240 steps"
    full, best, random = found.full(), found.headline("facility"), found.headline("random")
    assert full is not None
    assert best is not None
    assert random is not None
    line = (
        f"{100 * best.mean:.1f} (macro-F1 {100 * best.metrics['macro_f1']:.0f}) against {100 * full.mean:.1f} "
        f"({100 * full.metrics['macro_f1']:.0f}) of the full data and {100 * random.mean:.1f} "
        f"({100 * random.metrics['macro_f1']:.0f}) of random rows"
    )
    assert line in text_of("docs/study.md")


def test_the_documents_say_what_random_loses_on_the_snippets() -> None:
    snippets = summary_of("movies")

    def against(other: str, method: str, keep: float, schedule: str = "5 epochs") -> Difference:
        entry = next(found for found in snippets.at(keep, schedule) if found.method == method)
        gap: Difference | None = getattr(entry, f"vs_{other}")
        assert gap is not None
        return gap

    lost = [f"{-100 * against('full', 'random', keep).mean:.1f}" for keep in (0.7, 0.85)]
    said = f"on the snippets random itself loses {lost[0]} points at 70 % and {lost[1]} at 85 %"
    assert said in text_of("docs/study.md")
    for method in ("generative_middle", "label_surprisal_middle"):
        gap = against("random", method, 0.16, "240 steps")
        shown = f"{100 * gap.mean:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"
        assert shown in text_of("docs/study.md")
    counts = [len(entry.seeds) for name in NAMES for entry in summary_of(name).entries if not entry.fake]
    said = f"and {min(counts)} to {max(counts)} seeds; methods are compared from {MIN_SEEDS} on"
    assert said in text_of("README.md")


def test_the_documents_say_what_five_seeds_show_of_the_snippets_at_30_and_50_percent() -> None:
    text = text_of("docs/study.md")
    for keep, best, worse in (
        (0.3, "generative_densest", {"el2n_high", "label_surprisal_high"}),
        (0.5, "nll_low", {"el2n_high"}),
    ):
        entries = [entry for entry in summary_of("movies").at(keep, "5 epochs") if not entry.fake]
        assert {len(entry.seeds) for entry in entries} == {5}
        assert not any(entry.better_than_random for entry in entries)
        assert {entry.method for entry in entries if entry.worse_than_random} == worse
        gaps = {
            entry.method: entry.vs_random for entry in entries if entry.vs_random is not None and not entry.uses_labels
        }
        gap = gaps[best]
        assert max(gaps, key=lambda method: gaps[method].mean) == best
        assert f"{100 * gap.mean:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]" in text
    means = {entry.method: 100 * entry.mean for entry in entries}
    apart = [f"{means.pop(method):.1f}" for method in ("el2n_high", "el2n_low", "label_surprisal_high")]
    assert f"to be worse ({apart[0]}): random has {means['random']:.1f}" in text
    assert f"all but three of the rules between {min(means.values()):.1f} and {max(means.values()):.1f}" in text
    assert f"the lowest EL2N ({apart[1]}), the highest label surprisal ({apart[2]})" in text


def test_the_documents_say_what_fixed_epochs_give() -> None:
    means: dict[str, dict[str, str]] = {}
    for name in ("newsgroups", "questions"):
        found = summary_of(name)
        full = found.full("5 epochs")
        assert full is not None
        means[name] = {entry.method: f"{100 * entry.mean:.1f}" for entry in (full, *found.at(0.16, "5 epochs"))}
    topics, asked = means["newsgroups"], means["questions"]
    assert (
        f"Newsgroups have random {topics['random']}, facility location {topics['facility']} and the box "
        f"{topics['igse_box']} (shown to be worse; full {topics['full']}), the questions random {asked['random']}, "
        f"facility location {asked['facility']} and the box {asked['igse_box']} (full {asked['full']})"
    ) in text_of("docs/study.md")
    box = next(entry for entry in summary_of("newsgroups").at(0.16, "5 epochs") if entry.method == "igse_box")
    assert box.worse_than_random


def test_the_documents_say_what_five_seeds_of_the_newsgroups_show() -> None:
    entries = [entry for entry in summary_of("newsgroups").at(0.16, "100 steps") if not entry.fake]
    rules = {entry.method: (entry, entry.vs_random) for entry in entries if entry.vs_random is not None}
    assert min(len(entry.seeds) for entry, _ in rules.values()) == 5
    assert not any(entry.better_than_random for entry, _ in rules.values())
    highest = {}
    for uses_labels in (False, True):
        gap = max((gap for entry, gap in rules.values() if entry.uses_labels == uses_labels), key=lambda gap: gap.mean)
        highest[uses_labels] = f"{100 * gap.mean:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"
    gaps = {method: f"{100 * gap.mean:+.1f}" for method, (entry, gap) in rules.items() if entry.worse_than_random}
    el2n = [gaps.pop(f"el2n_{rule}") for rule in ("low", "middle", "high")]
    named = {
        "generative_high": "highest generative entropy",
        "semantic_densest": "densest semantic entropy",
        "igse_intersection": "IGSE intersection",
        "generative_low": "lowest generative entropy",
        "nll_low": "lowest NLL",
        "igse_box_adjusted": "box with length removed",
        "nll_high": "highest NLL",
    }
    assert gaps.keys() == {*named, "igse_box"}
    told = [f"the {name} ({gaps[method]})" for method, name in named.items()]
    assert (
        f"Of all {len(rules)} rules there, with five seeds and more, none is shown to be better, the highest "
        f"{highest[False]} without labels (`box2_facility`) and {highest[True]} with them; seven more without labels "
        f"are shown to be worse, all of them tails or dense spots: {', '.join(told[:-1])} and {told[-1]}; of those "
        f"with labels EL2N, low, middle and high ({', '.join(el2n)})"
    ) in text_of("docs/study.md")


def test_the_documents_say_what_the_rules_of_the_questions_show() -> None:
    found = summary_of("questions")
    full = found.full()
    assert full is not None
    rules = {
        entry.method: entry for entry in found.at(0.16, "320 steps") if entry.vs_random is not None and not entry.fake
    }
    assert sorted(len(entry.seeds) for entry in rules.values()) == [3] * 29 + [5] * 8 + [10] * 2
    assert not any(entry.better_than_random or entry.worse_than_random for entry in rules.values())
    best = rules["igse_box"]
    assert best.vs_random is not None
    assert best.p_random is not None
    assert all(best.p_random <= entry.p_random for entry in rules.values() if entry.p_random is not None)
    shown = {method: f"{100 * entry.mean:.0f}" for method, entry in rules.items()}
    random = found.headline("random")
    assert random is not None
    assert (
        f"On the questions (F1: full {100 * full.mean:.0f}, random {100 * random.mean:.0f}) the IGSE box has "
        f"{shown['igse_box']}, the middle of generative entropy {shown['generative_middle']}, the longest rows "
        f"{shown['longest']}, facility location {shown['facility']}; of 39 rules, ten with five seeds and more and 29 "
        f"with three, none is shown to differ from random; nearest to it is the box, {100 * best.vs_random.mean:+.1f} "
        f"[{100 * best.vs_random.low:+.1f}, {100 * best.vs_random.high:+.1f}], {best.p_random:.2f} after correction"
    ) in text_of("docs/study.md")
    by_mean = sorted(rules, key=lambda method: rules[method].mean)
    assert [by_mean[at] for at in (0, -1, -2)] == ["stratified_information", "information_low", "igse_intersection"]
    low, high, second = (f"{100 * rules[by_mean[at]].mean:.1f}" for at in (0, -1, -2))
    assert (
        f"the lowest information entropy ({high}) and the IGSE intersection ({second}), the lowest those stratified by "
        f"information entropy ({low})"
    ) in text_of("docs/study.md")


def test_the_documents_say_how_close_the_best_rule_of_the_snippets_comes() -> None:
    found = summary_of("movies")
    best = found.headline("generative_densest")
    assert best is not None
    assert best.vs_random is not None
    gap = best.vs_random
    shown = f"{100 * gap.mean:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}] on ten seeds"
    assert len(gap.seeds) == 10
    assert f"{shown}, {best.p_random:.2f} after correction" in text_of("docs/study.md")
    # The seeds before and after it was known to lead.
    groups = task_of("movies").groups
    rule, random = (groups[method, 0.16, "5 epochs"].scores for method in ("generative_densest", "random"))
    leads = [100 * float(np.mean(rule[seed]) - np.mean(random[seed])) for seed in range(10)]
    old, new = mean(leads[:5]), mean(leads[5:])
    notes = " ".join(load_study(STUDY / "movies.yaml").notes)
    assert f"on the five new seeds alone it is {new:.1f} points above random, on the first five {old:.1f}" in notes


def differences(found: Any, written: Any, where: str = "") -> list[str]:
    """Where two values of JSON differ; numbers to a millionth, as processors sum in different orders."""
    if isinstance(found, dict) and isinstance(written, dict) and found.keys() == written.keys():
        return [text for key in found for text in differences(found[key], written[key], f"{where}.{key}")]
    if isinstance(found, list) and isinstance(written, list) and len(found) == len(written):
        return [text for at in range(len(found)) for text in differences(found[at], written[at], f"{where}[{at}]")]
    if type(found) is type(written) is float:
        same = found == pytest.approx(written, rel=1e-6, abs=1e-6)
    else:
        same = type(found) is type(written) and found == written
    return [] if same else [f"{where}: {written} is written, the rows give {found}"]


@cache
def text_of(document: str) -> str:
    return " ".join((ROOT / document).read_text().split())


def draws_of(task: str) -> list[TaskSummary]:
    """The study's own rows of a task, and the other draws."""
    return [summary_of(task), *(summary_of(name) for name in DRAWS if name.startswith(f"{AGAIN}/{task}-"))]


def leads_by_task() -> dict[str, dict[str, float]]:
    """Return the lead over random on test rows of each rule that all draws have: by task, the mean over its draws."""
    return {
        rule.method: dict(zip(TASKS, rule.by_task, strict=True))
        for rule in over_draws([draws_of(task) for task in TASKS])
    }
