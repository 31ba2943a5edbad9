"""The page of a grid: whole and partial, the same bytes again, and no text of the data."""

import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planted_grid import GAPS, KEEP, make_cells, make_facts, make_task
from typer.testing import CliRunner

from euds.cli.app import app
from euds.errors import InputError, InvalidArgument, MissingExtra
from euds.files import read_json
from euds.study.grid import summary
from euds.study.grid.cells import append_cell
from euds.study.grid.facts import write_facts
from euds.study.grid.methods import METHODS
from euds.study.grid.page import Repeated, write_page
from euds.study.grid.publish import check_page, make_page
from euds.study.grid.statistics import Bootstrap
from euds.study.grid.task import GridTask
from euds.study.grid.wording import escape, p_value, points, seconds


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page needs no thousands of them to be tested."""
    monkeypatch.setattr(summary, "Bootstrap", lambda n_test, **_: Bootstrap(n_test, n_resamples=200))


def pictures_of(folder: Path) -> list[str]:
    return re.findall(r"\]\((img/[^)]+)\)", (folder / "README.md").read_text(encoding="utf-8"))


def test_the_page_has_every_part_and_its_pictures(tmp_path: Path) -> None:
    write_page(tmp_path, [make_task(block=3, schedules=("3 epochs", "120 steps")), make_task("second")])
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    for part in (
        "## Answer",
        "in the style of",
        "5 training seeds",
        "### Conclusions",
        "### Results at 16 %, 3 epochs",
    ):
        assert part in text
    for part in ("Results at 50 %, 120 steps", "### Where the spread comes from", "### Smallest keep without loss"):
        assert part in text
    assert "[Planted task second](#planted-task-second)" in text
    found = pictures_of(tmp_path)
    assert len(found) == len(set(found)) == 5 + 4
    assert {path.name for path in (tmp_path / "img").iterdir()} == {Path(name).name for name in found}
    for name in found:
        assert ElementTree.parse(tmp_path / name).getroot().tag.endswith("svg")


def test_a_repetition_has_a_page_of_its_own(tmp_path: Path) -> None:
    draws = [make_task(name, seed=at) for at, name in enumerate(("one-1", "two-1", "one-2"))]
    firsts = [make_task(name, seed=at + 5) for at, name in enumerate(("one", "two"))]
    write_page(tmp_path, draws, Repeated([firsts[0], firsts[1], firsts[0]], "../README.md"))
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# The study, repeated on other rows")
    assert "[the study](../README.md)" in text
    assert "## Answer" not in text
    assert "## How to read the numbers" not in text
    assert "then over the 2 tasks. The first interval is\nthat of these 5 draws" in text
    assert "| rule | Planted task one (3) | Planted task two (2) | mean [95 %] |" in text
    assert re.search(r"^\| `igse_box` \| \+\d", text, re.MULTILINE)


def write_study(folder: Path, name: str, **settings: Any) -> Path:
    """Write a study's file, of data and models that are nowhere, and five finished seeds of the six of each method."""
    task = make_task(name, gaps={"random": 0.0, "igse_box": 0.05}, keeps=(KEEP,))
    results = folder / "results"
    results.mkdir(exist_ok=True)
    write_facts(results / f"{name}.facts.json", task.facts)
    for cell in task.cells:
        append_cell(results / f"{name}.cells.jsonl", cell)
    content = {
        "name": name,
        "title": task.facts["title"],
        "out": str(folder / "run"),
        "results": str(results),
        "data": {"train": "nowhere", "test": "nowhere", "pool": 400, "validation": 100, "test_rows": 600},
        "score": {"lm": "nowhere", "embedder": "nowhere"},
        "train": {"model": "nowhere"},
        "grid": [{"keep": [KEEP], "epochs": 3, "seeds": 6, "methods": ["random", "igse_box"]}],
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps({**content, **settings}), encoding="utf-8")
    return path


def test_a_page_is_made_of_the_files_of_its_studies_alone(tmp_path: Path) -> None:
    studies = [write_study(tmp_path, name) for name in ("one", "two")]
    page = make_page(studies, ["notes=[Looked at early.]"], tmp_path / "page")
    assert page == tmp_path / "page" / "README.md"
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Does entropy-based selection hold accuracy")
    assert text.index("\n## Planted task one") < text.index("\n## Planted task two")
    assert text.count("Looked at early.") == text.count("Missing here:") == 2
    found = [read_json(page.parent / f"{name}.summary.json") for name in ("one", "two")]
    assert [summary["best_label_free"] for summary in found] == ["igse_box", "igse_box"]
    assert all((page.parent / name).exists() for name in pictures_of(page.parent))


def test_a_page_has_the_titles_of_the_files(tmp_path: Path) -> None:
    path = write_study(tmp_path, "one", title="Renamed later")
    text = make_page([path], [], tmp_path / "page").read_text(encoding="utf-8")
    assert "\n## Renamed later\n" in text
    assert "Planted task one" not in text
    assert read_json(tmp_path / "page" / "one.summary.json")["title"] == "Renamed later"


def test_the_page_of_repeated_studies_names_that_of_the_first(tmp_path: Path) -> None:
    firsts = {name: write_study(tmp_path, name) for name in ("one", "two")}
    draws = [write_study(tmp_path, f"{name}-1", repeats=str(path)) for name, path in firsts.items()]
    text = make_page(draws, [], tmp_path / "page").read_text(encoding="utf-8")
    assert "of [the study](../results/README.md)" in " ".join(text.split())
    assert "| rule | Planted task one (2) | Planted task two (2) | mean [95 %] |" in text
    named = [f"repeated_in={tmp_path / 'results' / 'again'}"]
    text = make_page(list(firsts.values()), named, tmp_path / "page").read_text(encoding="utf-8")
    assert "[the repetition](../results/again/README.md)" in text
    # Beside a study that repeats none it is a page like any other.
    text = make_page([draws[0], firsts["two"]], [], tmp_path / "page").read_text(encoding="utf-8")
    assert "## Answer" in text


def test_draws_of_one_task_are_no_sample_of_tasks(tmp_path: Path) -> None:
    studies = [write_study(tmp_path, name) for name in ("one", "two")]
    text = make_page(studies, [], tmp_path / "page").read_text(encoding="utf-8")
    assert "## Across tasks" in text
    assert "[95 %], tasks as a sample" in text
    width = across_width(text)
    for name in ("one", "two"):
        path = tmp_path / "results" / f"{name}.facts.json"
        facts = read_json(path)
        write_facts(path, {**facts, "data": {**facts["data"], "test_file": "of-both.jsonl"}})
    text = make_page(studies, [], tmp_path / "page").read_text(encoding="utf-8")
    assert "## Across draws" in text
    assert "tasks as a sample" not in text
    # As if one repeated the other: wider than that of two independent tasks, by half the square of two.
    assert across_width(text) == pytest.approx(2**0.5 * width, abs=0.15)


def across_width(text: str) -> float:
    """How wide the interval of the box's mean over the tasks is."""
    line = next(line for line in text[text.index("## Across") :].splitlines() if line.startswith("| `igse_box`"))
    low, high = line.split("[")[1].split("]")[0].split(", ")
    return float(high) - float(low)


def test_two_studies_of_one_name_have_no_page(tmp_path: Path) -> None:
    path = write_study(tmp_path, "one")
    for function in (check_page, make_page):
        with pytest.raises(InvalidArgument, match=r"^name: two of the files are called 'one'"):
            function([path, path], [], tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_a_page_goes_over_no_readme_of_somebodys_own(tmp_path: Path) -> None:
    path, own = write_study(tmp_path, "one"), tmp_path / "page" / "README.md"
    own.parent.mkdir()
    for content in ("# My project\n", "", "# The study, repeated on other rows, by me\n"):
        own.write_text(content)
        for function in (check_page, make_page):
            with pytest.raises(InputError, match=r"page/README\.md: is no page of studies, and would be written over"):
                function([path], [], own.parent)
        assert own.read_text() == content
        assert list(own.parent.iterdir()) == [own]
    own.unlink()
    for settings in ([], [f"repeats={path}"]):
        for function in (make_page, check_page, make_page):
            function([path], settings, own.parent)


def test_a_study_that_is_repeated_is_looked_at_before_training(tmp_path: Path) -> None:
    first = write_study(tmp_path, "one")
    draw = write_study(tmp_path, "one-1", repeats=str(first))
    (tmp_path / "results" / "one-1.cells.jsonl").unlink()
    check_page([draw], [], tmp_path / "page")
    for damage, message in (
        (lambda: (tmp_path / "results" / "one.cells.jsonl").unlink(), r"one\.cells\.jsonl: no such file"),
        (lambda: first.write_text("none"), r"one\.yaml: the file must hold keys and values"),
        (first.unlink, r"^repeats: of the study 'one-1': .*one\.yaml: cannot be read: No such file"),
    ):
        damage()
        with pytest.raises(InputError, match=message):
            check_page([draw], [], tmp_path / "page")


def test_a_study_without_a_finished_cell_has_no_page(tmp_path: Path) -> None:
    path = write_study(tmp_path, "one")
    (tmp_path / "results" / "one.cells.jsonl").unlink()
    with pytest.raises(InputError, match=r"one\.cells\.jsonl"):
        make_page([path], [], tmp_path / "page")
    found = CliRunner().invoke(app, ["study", str(path), "--no-train", "--page", str(tmp_path / "page")])
    assert "one.cells.jsonl" in str(found.exception)
    assert not (tmp_path / "page").exists()


def test_results_that_are_not_where_the_command_is_given_are_named_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_study(tmp_path, "one")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"^{tmp_path}/nowhere/one\.facts\.json: no such file"):
        make_page([path], ["results=nowhere"], tmp_path / "page")


def test_tables_have_as_many_cells_in_every_line(tmp_path: Path) -> None:
    write_page(tmp_path, [make_task(block=3)])
    blocks = re.findall(r"(?:^\|.*\n)+", (tmp_path / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(blocks) > 5
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()}) == 1, block


def test_the_same_numbers_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_page(tmp_path / name, [make_task()])
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 5
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "other" / path).read_bytes(), path


@pytest.mark.parametrize(
    "settings",
    [
        {"gaps": {"full": 0.05}},
        {"gaps": {"random": 0.0}},
        {"gaps": {"igse_box": 0.1}},
        {"gaps": {"full": 0.05, "igse_box": 0.1}},
        {"n_seeds": 1, "validation": False, "keeps": (0.5,)},
    ],
)
def test_partial_grids_have_a_page(tmp_path: Path, settings: dict[str, Any]) -> None:
    write_page(tmp_path, [make_task(**settings)])
    assert "Missing here:" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert all((tmp_path / name).exists() for name in pictures_of(tmp_path))


def test_without_seconds_of_one_machine_there_is_no_picture_of_them(tmp_path: Path) -> None:
    task = make_task()
    write_page(tmp_path, [replace(task, facts={**task.facts, "went_on": ["other CPU, 2026-11-26"]})])
    assert "img/planted-rows.svg" in pictures_of(tmp_path)
    assert "img/planted-seconds.svg" not in pictures_of(tmp_path)
    assert not (tmp_path / "img" / "planted-seconds.svg").exists()


def test_break_even_is_told_where_epochs_are_fixed_whatever_the_main_schedule(tmp_path: Path) -> None:
    task = replace(make_task(schedules=("3 epochs", "120 steps")), main_schedule="120 steps")
    write_page(tmp_path, [task])
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    by_steps, by_epochs = (text.index(f"Seconds of every method, {name}") for name in ("120 steps", "3 epochs"))
    assert by_steps < by_epochs
    of_box = [line.split(" | ")[-3:-1] for line in text[by_steps:].splitlines() if line.startswith("| `igse_box`")]
    assert of_box[0] == ["-", "-"]
    saved, paid_after = of_box[1]
    assert float(saved) > 0
    assert paid_after.isdigit()
    assert "After how many trainings" not in text
    write_page(tmp_path / "untold", [replace(task, timed_cells=0)])
    untold = (tmp_path / "untold" / "README.md").read_text(encoding="utf-8")
    assert "After how many trainings scores have paid for themselves is not known" in untold
    assert "Seconds of every method, 3 epochs" not in untold


def test_many_classes_and_missing_scores_have_a_page(tmp_path: Path) -> None:
    facts = make_facts()
    facts["rows"]["label"] = [f"class {at % 40}" for at in range(len(facts["rows"]["label"]))]
    facts["rows"]["scores"]["nll_nats"] = [None] * len(facts["rows"]["n_tokens"])
    facts["rows"]["scores"]["semantic_entropy_nats"][0] = None
    write_page(tmp_path, [GridTask(facts, make_cells(facts))])
    picture = (tmp_path / "img" / "planted-classes.svg").read_text(encoding="utf-8")
    assert 0 < len(set(re.findall(r"class \d+", picture))) <= 12
    rows = (tmp_path / "img" / "planted-rows.svg").read_text(encoding="utf-8")
    assert "semantic entropy" in rows
    assert "negative log-likelihood" not in rows


def test_names_cannot_break_a_table(tmp_path: Path) -> None:
    facts = make_facts()
    facts["title"] = "a|b <b>"
    facts["methods"]["igse_box_nolength"]["description"] = "one | two\nthree"
    facts["scoring_model"] = {"lm": "a-model", "lm_sha256": "abc123"}
    write_page(tmp_path, [GridTask(facts, make_cells(facts, {"full": GAPS["full"], "random": 0.0}))])
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert r"one \| two three" in text
    assert "* Scored by: lm a-model\n" in text
    assert "Language model" not in text
    assert r"## a\|b &lt;b>" in text


def test_a_language_model_that_euds_fetches_is_told(tmp_path: Path) -> None:
    facts = {**make_facts(), "scoring_model": {"lm": "smollm2-135m"}}
    write_page(tmp_path, [GridTask(facts, make_cells(facts, {"full": GAPS["full"], "random": 0.0}))])
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "\n* Language model: SmolLM2-135M-Instruct, a causal LM; unpacked from 4-bit GGUF" in text


def test_methods_are_described_in_the_words_of_today(tmp_path: Path) -> None:
    write_page(tmp_path, [make_task(gaps={"random": 0.0, "igse_box": 0.1})])
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    # The facts say "what igse_box does"; of methods that there are no more they alone know anything.
    assert f"| `igse_box` | IGSE | {METHODS['igse_box'].description} |" in text
    assert "| `igse_box_nolength` | length removed | what igse_box_nolength does |" in text


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("matplotlib") or name.endswith("grid.figures")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delattr("euds.study.grid.figures", raising=False)
    with pytest.raises(MissingExtra, match=r"matplotlib is not installed.*report"):
        write_page(tmp_path, [make_task()])


def test_numbers_are_written_as_readers_expect() -> None:
    assert [points(value) for value in (0.0123, -0.05, -0.0001)] == ["+1.2", "-5.0", "0.0"]
    assert [p_value(p) for p in (None, 0.0004, 0.04)] == ["-", "< 0.001", "0.040"]
    assert [seconds(value) for value in (None, 1.26, 1234.5)] == ["-", "1.3", "1,234"]
    assert escape("a  <b>|") == r"a &lt;b>\|"
