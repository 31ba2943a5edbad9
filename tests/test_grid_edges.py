"""Where equal values, ties and exact ratios decide what a grid says."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import planted_grid
import pytest
from planted_grid import KEEP, make_cells, make_facts, make_task

from euds.errors import InputError
from euds.study.grid.costs import Seconds, break_even, seconds_of
from euds.study.grid.summary import _best, summarise
from euds.study.grid.task import GridTask, read_task


@pytest.mark.parametrize(("scoring", "trainings"), [(0.0, 1), (9.9, 2), (10.0, 3), (10.1, 3)])
def test_a_selection_is_paid_for_when_more_is_saved_than_was_paid(scoring: float, trainings: int) -> None:
    found = break_even(Seconds(scoring, 0.0, 5.0), Seconds(0.0, 0.0, 10.0), {})
    assert found is not None
    assert (found.trainings, found.trainings_bert) == (trainings, None)


def test_one_training_on_another_machine_leaves_no_seconds_to_compare() -> None:
    task = make_task()
    group = task.groups["igse_box", KEEP, "3 epochs"]
    names = [cell.cell for cell in group.cells]
    assert seconds_of(group, task.facts, names[:2]).training is None
    # Those after the third are not looked at.
    assert seconds_of(group, task.facts, names[:3]).training is not None


def test_of_equally_good_rules_the_first_of_the_facts_is_taken() -> None:
    entries = [entry for entry in summarise(make_task(), n_resamples=50).at(KEEP) if entry.is_label_free][1:]
    alike = [replace(entry, validation=dict.fromkeys(entry.seeds, 0.5)) for entry in entries]
    assert entries[0].method != max(entry.method for entry in entries)
    assert _best(alike, (0, 1)) == entries[0].method


def test_training_on_test_rows_must_be_shown_to_help() -> None:
    found = summarise(make_task(gaps={**planted_grid.GAPS, "leaked": 0.002}, n_seeds=3, seed=1), n_resamples=200)
    (check,) = (check for check in found.checks if (check.method, check.keep) == ("leaked", KEEP))
    assert check.vs_random.mean > 0 > check.vs_random.low
    assert not check.passed


def test_the_headline_is_a_budget_of_the_main_schedule() -> None:
    facts = make_facts()
    main = make_cells(facts, keeps=[0.3, 0.5], n_seeds=3)
    other = make_cells(facts, {"random": 0.0, "igse_box": 0.1}, keeps=[KEEP], n_seeds=3, schedules=["240 steps"])
    task = GridTask(facts, [*main, *other])
    assert (task.schedules[0], task.headline_keep) == ("3 epochs", 0.3)
    assert summarise(task, n_resamples=50).best_label_free == "igse_box"
    only_full = [cell for cell in main if cell.method == "full"]
    assert GridTask(facts, [*only_full, *other]).headline_keep is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"machine": []}, "'machine' must hold names and values"),
        ({"main_metric": "macro_f1"}, "'main_metric' must be one of accuracy, f1"),
        ({"rows": {"n_pool_positions": 3}}, "'rows' lacks n_pool_positions or n_tokens"),
        ({"methods": {"random": {}}}, "method 'random' must hold names and values, a family"),
        ({"name": "another"}, "holds the facts of the study 'another'"),
    ],
)
def test_facts_that_are_damaged_or_of_another_study_are_named(
    tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    (tmp_path / "planted.facts.json").write_text(json.dumps({**make_facts(), **changed}))
    with pytest.raises(InputError, match=rf"planted.facts.json: .*{message}"):
        read_task(tmp_path, "planted")


def test_where_all_seeds_are_crossed_the_paired_ones_are_compared() -> None:
    facts = make_facts()
    cells = make_cells(facts, gaps={"random": 0.0}, keeps=[KEEP], n_seeds=3, block=3)
    assert len(cells) == 9
    group = GridTask(facts, cells).groups["random", KEEP, "3 epochs"]
    assert [(cell.selection_seed, cell.seed) for cell in group.cells] == [(0, 0), (1, 1), (2, 2)]
    # A rule without a seed has one choice of rows, and one paired cell.
    fixed = [replace(cell, method="longest") for cell in cells if cell.selection_seed == 0]
    group = GridTask(facts, fixed).groups["longest", KEEP, "3 epochs"]
    assert [cell.seed for cell in group.cells] == np.arange(3).tolist()
