"""Where the verdicts on planted grids turn: at which seeds, p-values, costs and second metrics."""

from dataclasses import replace
from typing import Any

import pytest
from planted_grid import GAPS, KEEP, N_RESAMPLES, make_task

from euds.study.grid.across import across_tasks
from euds.study.grid.conclusions import HOLDS, LOSES, OPEN, UNKNOWN, conclusions, verdict
from euds.study.grid.entries import Entry
from euds.study.grid.statistics import MIN_SEEDS
from euds.study.grid.summary import TaskSummary, _smallest_keeps, summarise


def entry_of(summary: TaskSummary, method: str) -> Entry:
    found = summary.headline(method)
    assert found is not None
    return found


def changed(summary: TaskSummary, method: str, **values: Any) -> TaskSummary:
    """The summary with other values of a method at the headline keep."""
    old = entry_of(summary, method)
    return replace(summary, entries=tuple(replace(own, **values) if own is old else own for own in summary.entries))


def test_a_rule_is_compared_over_tasks_from_three_seeds_on() -> None:
    assert MIN_SEEDS == 3
    three = summarise(make_task(n_seeds=3), n_resamples=N_RESAMPLES)
    label_free = {name for name in GAPS if name not in ("full", "random", "el2n_high", "leaked", "shuffled")}
    assert {rule.method for rule in across_tasks([three])} == label_free
    fewer = changed(three, "igse_box", seeds=(0, 1))
    assert {rule.method for rule in across_tasks([fewer])} == label_free - {"igse_box"}


def test_over_tasks_rule_and_random_both_need_validation_rows(planted: TaskSummary) -> None:
    methods = {rule.method for rule in across_tasks([planted])}
    assert "igse_box" in methods
    without_rule = across_tasks([planted, changed(planted, "igse_box", validation=None)])
    assert {rule.method for rule in without_rule} == methods - {"igse_box"}
    assert across_tasks([planted, changed(planted, "random", validation=None)]) == []


def test_rules_are_compared_over_the_seeds_of_random_and_of_all_rules_that_are_judged() -> None:
    task = make_task()

    def choice_seeds(n_seeds: int, method: str) -> tuple[int, ...]:
        """Those of a task of five seeds, where one method has so many."""
        cells = [cell for cell in task.cells if cell.method != method or cell.seed < n_seeds]
        return summarise(replace(task, cells=cells), n_resamples=50).choice_seeds

    # A rule of two seeds is not judged, and takes none away from the others.
    assert choice_seeds(2, "longest") == (0, 1, 2, 3, 4)
    assert choice_seeds(3, "longest") == (0, 1, 2)
    # Random is what all are held against.
    assert choice_seeds(3, "random") == (0, 1, 2)


@pytest.mark.parametrize(("p_holds", "said"), [(0.03, OPEN), (0.025, OPEN), (0.02, LOSES)])
def test_a_loss_is_shown_at_half_the_level(planted: TaskSummary, p_holds: float, said: str) -> None:
    box = entry_of(planted, "igse_box")
    assert box.vs_full is not None
    lost = replace(box.vs_full, mean=-0.02, low=-0.03, high=-0.01, p_holds=p_holds)
    assert verdict(replace(box, vs_full=lost, p_inferior=0.9)) == said
    # A loss of less than the margin, after correction, is none.
    assert verdict(replace(box, vs_full=lost, p_inferior=0.04)) == HOLDS
    assert verdict(replace(box, vs_full=None)) == verdict(None) == UNKNOWN


def test_a_budget_that_cannot_be_judged_ends_the_search_for_the_smallest(planted: TaskSummary) -> None:
    holding = [replace(own, p_inferior=0.01) if own.method == "igse_box" else own for own in planted.entries]
    assert [row.corrected for row in _smallest_keeps(holding) if row.method == "igse_box"] == [KEEP]
    young = [replace(own, vs_full=None, p_inferior=None) if own.keep == 0.5 else own for own in holding]
    assert [row.corrected for row in _smallest_keeps(young) if row.method == "igse_box"] == [None]


def test_random_is_cheaper_only_than_a_rule_that_costs_more(planted: TaskSummary) -> None:
    box, random = entry_of(planted, "igse_box"), entry_of(planted, "random")
    assert planted.best_label_free == "igse_box"
    assert box.break_even is not None
    assert random.seconds.selection is not None
    cheaper = ". Random selection costs no scores."
    assert cheaper in "\n".join(conclusions(planted))
    as_cheap = replace(box.break_even, selection=random.seconds.selection)
    said = "\n".join(conclusions(changed(planted, "igse_box", break_even=as_cheap)))
    assert "Scores and search of `igse_box` cost" in said
    assert cheaper not in said


def test_budgets_that_cost_no_more_are_compared_over_the_seeds_that_all_have() -> None:
    task = make_task()
    # The smaller budget is worse on the seeds that both have, and better by far on those that it has alone.
    right = {(0.5, True): 0.7, (KEEP, True): 0.6, (KEEP, False): 0.99}
    cells = [cell for cell in task.cells if (cell.method, cell.keep) != ("random", 0.5) or cell.seed < 3]
    judged = [
        replace(cell, metrics={**cell.metrics, "validation": {"accuracy": right[cell.keep, cell.seed < 3]}})
        if cell.method == "random"
        else cell
        for cell in cells
    ]
    afforded = summarise(replace(task, cells=judged), n_resamples=50).afforded
    assert afforded is not None
    assert afforded.keep == 0.5


def test_a_second_metric_that_one_of_both_lacks_says_nothing(planted: TaskSummary) -> None:
    box, random = entry_of(planted, "igse_box"), entry_of(planted, "random")
    worse = {seed: value - 0.2 for seed, value in box.by_seed["macro_f1"].items()}
    contrary = changed(planted, "igse_box", by_seed={"macro_f1": worse})
    assert "(but macro-F1 -" in "\n".join(conclusions(contrary))
    alone = replace(contrary, entries=tuple(own for own in contrary.entries if own is not random))
    assert not any(own.method == "random" for own in alone.at(KEEP))
    for summary in (
        changed(contrary, "igse_box", by_seed={}),
        changed(contrary, "random", by_seed={"accuracy": random.by_seed["accuracy"]}),
        alone,
    ):
        said = "\n".join(conclusions(summary))
        better = "1 of 5 label-free rules are shown to be better than random after correction over all 6 rules"
        assert f"{better}: `igse_box` " in said
        assert "(but" not in said
