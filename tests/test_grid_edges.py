"""Where equal values, ties and exact ratios decide what a grid says."""

from dataclasses import replace

import numpy as np
import planted_grid
import pytest
from planted_grid import KEEP, make_cells, make_facts, make_task

from euds.study.grid.costs import Seconds, break_even
from euds.study.grid.summary import _best, summarise
from euds.study.grid.task import GridTask


@pytest.mark.parametrize(("scoring", "trainings"), [(0.0, 1), (9.9, 2), (10.0, 3), (10.1, 3)])
def test_a_selection_is_paid_for_when_more_is_saved_than_was_paid(scoring: float, trainings: int) -> None:
    found = break_even(Seconds(scoring, 0.0, 5.0), Seconds(0.0, 0.0, 10.0), {})
    assert found is not None
    assert (found.trainings, found.trainings_bert) == (trainings, None)


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
