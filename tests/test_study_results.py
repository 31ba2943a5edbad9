"""The committed study: its summaries follow from its rows, and README says what they say."""

import re
from functools import cache
from pathlib import Path
from statistics import NormalDist, mean

import numpy as np
import pytest

from euds.files import read_json
from euds.selection.auto import decide
from euds.selection.rules import Pool
from euds.study.grid.across import AcrossTasks, across_tasks, separate_tasks
from euds.study.grid.config import load_study, planned_cells
from euds.study.grid.statistics import LEVEL, MIN_SEEDS, Difference, holm
from euds.study.grid.summary import TaskSummary, summarise
from euds.study.grid.task import read_task

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

NUMBERS = {4: "four", 8: "eight"}
AGAIN = "again"
"""The folder of the repetition on other draws of rows."""


def names_in(folder: str) -> list[str]:
    return sorted(path.name.removesuffix(".cells.jsonl") for path in (STUDY / folder).glob("*.cells.jsonl"))


NAMES = names_in("")
DRAWS = [f"{AGAIN}/{name}" for name in names_in(AGAIN)]


@cache
def summary_of(name: str) -> TaskSummary:
    study = load_study(STUDY / f"{name}.yaml")
    planned = [cell.key for cell in planned_cells(study)]
    path = STUDY / name
    return summarise(read_task(path.parent, path.name, planned=planned, main_schedule=study.main_schedule))


@pytest.fixture(scope="module", params=[*NAMES, *DRAWS])
def committed(request: pytest.FixtureRequest) -> tuple[str, TaskSummary]:
    return request.param, summary_of(request.param)


def test_there_are_rows() -> None:
    assert NAMES
    assert DRAWS


def test_summaries_follow_from_the_rows(committed: tuple[str, TaskSummary]) -> None:
    name, found = committed
    written = read_json(STUDY / f"{name}.summary.json")
    assert (found.best_label_free, found.best_igse, found.best_single) == tuple(
        written[key] for key in ("best_label_free", "best_igse", "best_single")
    )
    assert list(found.gaps) == written["gaps"]
    assert len(found.entries) == len(written["entries"])
    for entry, line in zip(found.entries, written["entries"], strict=True):
        assert (entry.method, entry.keep, list(entry.seeds)) == (line["method"], line["keep"], line["seeds"])
        assert entry.mean == pytest.approx(line["mean"])
        if entry.vs_random is not None:
            numbers = [getattr(entry.vs_random, key) for key in ("mean", "low", "high", "p")]
            assert numbers == pytest.approx([line["vs_random"][key] for key in ("mean", "low", "high", "p")], abs=1e-6)


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
    assert said[1:4] == [f"{100 * entry.mean:.1f}" for entry in (full, random, box)]
    assert said[4].startswith(f"`{best.method}` ")
    numbers = re.findall(r"\d+\.\d", said[4])
    assert numbers[0] == f"{100 * best.mean:.1f}"
    assert numbers[-1] == f"{-100 * best.vs_full.mean:.1f}"
    assert ("not shown to beat random" in said[4]) == (best.vs_random.low <= 0)
    above = f"{100 * best.vs_random.mean:.1f} points above random"
    assert (above in said[4]) == (best.vs_random.low > 0)
    assert (f"{above} before correction, not shown after it" in said[4]) == (
        best.vs_random.low > 0 and not best.better_than_random
    )


def test_auto_takes_what_did_best_over_all_draws_and_the_documents_say_by_how_much() -> None:
    places = np.arange(6)
    lengths = np.array([3.0, 1, 2, 5, 4, 1])
    pool = Pool((), np.empty((6, 0)), lengths, places, embeddings=np.eye(6, dtype=np.float32))
    overall = {method: mean(leads.values()) for method, leads in leads_by_task().items()}
    assert max(overall, key=lambda method: overall[method]) == decide(pool).rule == "facility"
    middle = Pool(("generative_entropy_nats",), np.arange(6.0)[:, None], lengths, places)
    decided = decide(middle)
    assert (decided.rule, decided.axes) == ("middle", ("generative_entropy_nats",))
    said = " ".join((ROOT / "docs" / "rules.md").read_text().split())
    readme = " ".join((ROOT / "README.md").read_text().split())
    for method in ("facility", "generative_middle"):
        leads = {task: f"{100 * lead:+.1f}" for task, lead in leads_by_task()[method].items()}
        by_task = (
            f"{leads['movies']} on the snippets, {leads['reuters']} on Reuters, {leads['newsgroups']} on Newsgroups, "
            f"{leads['questions']} on the questions"
        )
        assert f"`{method}` {100 * overall[method]:+.1f} ({by_task})" in said
        assert f"`{method}` {100 * overall[method]:+.1f}" in readme


@cache
def leads_by_task() -> dict[str, dict[str, float]]:
    """Return the lead over random on test rows of each rule that all draws have: by task, the mean over its draws."""
    drawn = [name for name in NAMES if summary_of(name).source_places is None] + DRAWS
    found: dict[str, dict[str, list[float]]] = {}
    for name in drawn:
        task = name.removeprefix(f"{AGAIN}/").partition("-")[0]
        for rule in across_tasks([summary_of(name)]):
            found.setdefault(rule.method, {}).setdefault(task, []).append(rule.by_task[0].mean)
    return {
        method: {task: mean(leads) for task, leads in tasks.items()}
        for method, tasks in found.items()
        if sum(map(len, tasks.values())) == len(drawn)
    }


def test_the_documents_say_what_the_first_draws_gave() -> None:
    tasks = separate_tasks([summary_of(name) for name in NAMES])
    rules = {rule.method: rule for rule in across_tasks(tasks)}
    snippets = summary_of("movies")

    def against(other: str, method: str, keep: float, schedule: str = "5 epochs") -> Difference:
        entry = next(found for found in snippets.at(keep, schedule) if found.method == method)
        gap: Difference | None = getattr(entry, f"vs_{other}")
        assert gap is not None
        return gap

    lost = [f"{-100 * against('full', 'random', keep).mean:.1f}" for keep in (0.7, 0.85)]
    said = " ".join((ROOT / "README.md").read_text().split())
    assert f"on the snippets random itself loses {lost[0]} points at 70 % and {lost[1]} at 85 %" in said
    said = " ".join((ROOT / "docs" / "study.md").read_text().split())
    for method in ("generative_middle", "label_surprisal_middle"):
        gap = against("random", method, 0.16, "240 steps")
        assert f"{100 * gap.mean:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]" in said
    best = "generative_middle"
    assert best == max(rules, key=lambda name: rules[name].mean)
    assert best in list(rules)[:2]
    low, high = (100 * (rules[best].mean + sign * rules[best].half_width) for sign in (-1, 1))
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"leads random by {100 * rules[best].mean:.1f} points [{low:.1f}, {high:.1f}]" in readme
    assert f"the largest lead of the {NUMBERS[len(rules)]} rules that all {NUMBERS[len(tasks)]} have" in readme
    # As if normal, with the intervals' widths.
    tails = [2 * NormalDist().cdf(-1.96 * abs(rule.mean) / rule.half_width) for rule in rules.values()]
    corrected = dict(zip(rules, holm(tails), strict=True))[best]
    assert corrected > LEVEL
    assert f"no longer significant once corrected for that (Holm p {corrected:.2f})" in readme
    counts = [len(entry.seeds) for name in NAMES for entry in summary_of(name).entries if not entry.fake]
    assert f"and {min(counts)} to {max(counts)} seeds; methods are compared from {MIN_SEEDS} on" in readme
    said = " ".join((ROOT / "docs" / "rules.md").read_text().split())
    facility, middle, nll = rules["facility"], rules[best], rules["nll_middle"]
    at = {task.name: place for place, task in enumerate(tasks)}

    def lead(rule: AcrossTasks, name: str) -> str:
        return f"{100 * rule.by_task[at[name]].mean:+.1f}"

    assert (
        f"by {100 * middle.validation:.1f} points on validation rows and by {100 * middle.mean:.1f} [{low:+.1f}, "
        f"{high:+.1f}] on test rows"
    ) in said
    assert (
        f"({lead(middle, 'movies')} on the movie snippets, {lead(middle, 'reuters')} on Reuters, "
        f"{lead(middle, 'newsgroups')} on Newsgroups, {lead(middle, 'questions')} F1 on the questions)"
    ) in said
    assert (
        f"had {100 * facility.validation:+.1f} and {100 * facility.mean:+.1f}: {lead(facility, 'reuters')} points"
        in said
    )
    assert f"{lead(facility, 'newsgroups')} on Newsgroups, but {lead(facility, 'movies')} [" in said
    assert f"and {lead(facility, 'questions')} on the questions" in said
    more = [
        next(entry for entry in summary_of(name).at(0.3) if entry.method == "facility").vs_random
        for name in ("reuters", "movies", "newsgroups")
    ]
    reuters, movies, groups = (f"{100 * gap.mean:+.1f}" for gap in more if gap is not None)
    assert f"at 30 % it came to {reuters} on Reuters, {movies} on the snippets and {groups} [" in said
    assert f"NLL had {100 * nll.validation:+.1f} on validation rows" in said
    assert f"and {100 * nll.mean:+.1f} on test rows" in said
    assert [gap.high < 0 for gap in rules["igse_box"].by_task] == [name != "questions" for name in at]


def test_the_documents_say_what_other_draws_of_rows_gave() -> None:
    draws = [summary_of(name) for name in DRAWS]
    assert all(set(map(len, (entry.seeds for entry in draw.entries))) == {5} for draw in draws)
    rules = {rule.method: rule for rule in across_tasks(separate_tasks(draws))}
    assert len(rules) == 4
    assert all(len(rule.by_task) == len(DRAWS) for rule in rules.values())

    def said(method: str) -> str:
        rule = rules[method]
        low, high = (100 * (rule.mean + sign * rule.half_width) for sign in (-1, 1))
        return f"{100 * rule.mean:+.1f} [{low:+.1f}, {high:+.1f}]"

    for document in ("README.md", "docs/rules.md"):
        text = " ".join((ROOT / document).read_text().split())
        assert f"`generative_middle` {said('generative_middle')}" in text, document
    text = " ".join((ROOT / "docs" / "rules.md").read_text().split())
    for method in rules:
        assert f"`{method}` {said(method)}" in text, method
    ahead = sum(gap.mean > 0 for gap in rules["generative_middle"].by_task)
    assert f"ahead on {ahead} of {len(DRAWS)}" in text
