"""The committed study: its summaries follow from its rows, and README says what they say."""

import re
from pathlib import Path

import pytest

from euds.files import read_json
from euds.study.grid.config import load_study, planned_cells
from euds.study.grid.summary import TaskSummary, summarise
from euds.study.grid.task import read_task

ROOT = Path(__file__).parent.parent
STUDY = ROOT / "benchmarks" / "study"
TITLES = {
    "movies": "movie snippets",
    "reuters": "Reuters R8",
    "newsgroups": "six of 20 Newsgroups",
    "synthetic": "snippets, half synthetic",
}
"""What README calls each task."""

NAMES = sorted(path.name.removesuffix(".cells.jsonl") for path in STUDY.glob("*.cells.jsonl"))


@pytest.fixture(scope="module", params=NAMES)
def committed(request: pytest.FixtureRequest) -> tuple[str, TaskSummary]:
    return request.param, summarise(read_task(STUDY, request.param))


def test_there_are_rows() -> None:
    assert NAMES


def test_summaries_follow_from_the_rows(committed: tuple[str, TaskSummary]) -> None:
    name, found = committed
    written = read_json(STUDY / f"{name}.summary.json")
    assert (found.best_label_free, found.best_igse, found.best_single) == tuple(
        written[key] for key in ("best_label_free", "best_igse", "best_single")
    )
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


def test_readme_says_what_the_rows_say(committed: tuple[str, TaskSummary]) -> None:
    name, found = committed
    title = TITLES[name]
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
    assert (f"{100 * best.vs_random.mean:.1f} points above random" in said[4]) == (best.vs_random.low > 0)
