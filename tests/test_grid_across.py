"""Rules over all tasks: which are compared, in which order, and what the means and intervals are."""

import math
from typing import Any

import numpy as np
import pytest
from planted_grid import GAPS, make_cells, make_facts, make_task

from euds.study.grid.across import across_tasks, over_draws, separate_tasks
from euds.study.grid.summary import TaskSummary, summarise
from euds.study.grid.task import GridTask


def summary(task: GridTask) -> TaskSummary:
    return summarise(task, n_resamples=200)


def planted(name: str, gaps: dict[str, float], **settings: Any) -> TaskSummary:
    facts = make_facts(name)
    return summary(GridTask(facts, make_cells(facts, gaps, **settings)))


@pytest.fixture(scope="module")
def tasks() -> list[TaskSummary]:
    without = {name: gap for name, gap in GAPS.items() if name != "longest"}
    return [planted("one", GAPS), planted("two", {**without, "information_middle": 0.0}, seed=1)]


def test_rules_that_all_tasks_have_are_ordered_by_the_validation_rows(tasks: list[TaskSummary]) -> None:
    found = across_tasks(tasks)
    assert {rule.method for rule in found} == {
        "generative_middle",
        "information_middle",
        "igse_box",
        "igse_box_nolength",
    }
    assert found[0].method == "igse_box"
    assert [rule.validation for rule in found] == sorted((rule.validation for rule in found), reverse=True)


def test_means_and_intervals_are_those_of_independent_tasks(tasks: list[TaskSummary]) -> None:
    for rule in across_tasks(tasks):
        gaps = [task.headline(rule.method).vs_random for task in tasks]  # type: ignore[union-attr]  # It is there.
        assert rule.by_task == tuple(gaps)
        assert rule.mean == pytest.approx(np.mean([gap.mean for gap in gaps if gap]))
        widths = [gap.high - gap.low for gap in gaps if gap]
        assert rule.half_width == pytest.approx(float(np.linalg.norm(widths)) / 4)
        # Student's t of one degree of freedom is 12.7 at 97.5 %.
        low, high = sorted(gap.mean for gap in gaps if gap)
        assert rule.spread == pytest.approx(max(rule.half_width, 12.7062 * (high - low) / 2), rel=1e-4)


def test_tasks_that_lie_close_make_a_sample_no_surer_than_its_own_rows(tasks: list[TaskSummary]) -> None:
    # One task four times over: the means do not differ at all.
    for rule in across_tasks([tasks[0]] * 4):
        assert rule.spread == rule.half_width > 0
    for drawn in over_draws([[tasks[0]]] * 4):
        assert drawn.spread == drawn.half_width > 0
    assert any(rule.spread > rule.half_width for rule in across_tasks(tasks))


def test_draws_are_averaged_within_their_task_first(tasks: list[TaskSummary]) -> None:
    one, two = tasks
    third = planted("third", GAPS, seed=2)
    found = over_draws([[one, third], [two]])
    assert [rule.mean for rule in found] == sorted((rule.mean for rule in found), reverse=True)
    for rule in found:
        entries = [draw.headline(rule.method) for draw in (one, third, two)]
        first, other, alone = (entry.vs_random for entry in entries if entry and entry.vs_random)
        assert rule.by_task == pytest.approx(((first.mean + other.mean) / 2, alone.mean))
        assert rule.mean == pytest.approx(sum(rule.by_task) / 2)
        assert rule.ahead == sum(gap.mean > 0 for gap in (first, other, alone))
        halves = [(gap.high - gap.low) / 2 for gap in (first, other, alone)]
        assert rule.half_width == pytest.approx(math.hypot(sum(halves[:2]) / 2, halves[2]) / 2)
    assert over_draws([]) == []


def test_the_same_rows_once_more_make_nothing_surer(tasks: list[TaskSummary]) -> None:
    alone, repeated = over_draws([[task] for task in tasks]), over_draws([[task] * 3 for task in tasks])
    for once, thrice in zip(alone, repeated, strict=True):
        assert thrice.half_width == pytest.approx(once.half_width)
    by_draw = across_tasks([tasks[0], tasks[1], tasks[0]], ["one", "two", "one"])
    for rule in by_draw:
        halves = [(gap.high - gap.low) / 2 for gap in rule.by_task]
        assert rule.half_width == pytest.approx(math.hypot(2 * halves[0], halves[1]) / 3)


def test_a_rule_of_too_few_seeds_is_left_out(tasks: list[TaskSummary]) -> None:
    three = planted("three", GAPS, n_seeds=2)
    assert across_tasks([*tasks, three]) == []
    assert across_tasks([]) == []
    # A task that compares no rule yet takes nothing away from the others.
    assert separate_tasks([*tasks, three]) == tasks


def test_mixtures_of_sources_are_no_task_of_their_own(tasks: list[TaskSummary]) -> None:
    mixture = make_task("mixture")
    mixture.facts["rows"]["source"] = ["original", "synthetic"] * 200
    assert separate_tasks([*tasks, summary(mixture)]) == tasks
