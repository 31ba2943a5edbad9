"""What a grid of known truth is summarised as, whole and in parts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import planted_grid
import pytest
from planted_grid import KEEP, N_POOL, N_RESAMPLES, make_cells, make_facts, make_task

from euds.errors import InputError
from euds.study.grid.cells import append_cell
from euds.study.grid.conclusions import HOLDS, LOSES, OPEN, UNKNOWN, conclusions, verdict
from euds.study.grid.entries import Entry
from euds.study.grid.summary import TaskSummary, _smallest_keeps, summarise
from euds.study.grid.task import GridTask, is_whole_box, read_task


def entry_of(summary: TaskSummary, method: str, keep: float = KEEP) -> Entry:
    return next(entry for entry in summary.entries if (entry.method, entry.keep) == (method, keep))


def test_the_planted_differences_are_found(planted: TaskSummary) -> None:
    rules = [entry for entry in planted.at(KEEP) if entry.is_rule]
    assert [entry.method for entry in rules if entry.better_than_random] == ["igse_box"]
    assert {entry.method for entry in rules if entry.worse_than_random} == {"longest", "information_middle"}
    for method, gap in planted_grid.GAPS.items():
        if method not in ("full", "random"):
            found = entry_of(planted, method).vs_random
            assert found is not None
            assert found.low <= gap <= found.high, method


def test_means_are_those_of_the_cells(planted: TaskSummary) -> None:
    cells = [cell for cell in make_task(block=3).cells if (cell.method, cell.keep) == ("random", KEEP)]
    paired = [cell.metrics["test"]["accuracy"] for cell in cells if cell.selection_seed == cell.seed]
    assert len(cells) == 5 + 6
    found = entry_of(planted, "random")
    assert (found.mean, found.sd) == pytest.approx((np.mean(paired), np.std(paired, ddof=1)))
    assert found.seeds == (0, 1, 2, 3, 4)
    assert found.rows == 64
    assert found.metrics["accuracy"] == pytest.approx(np.mean(paired))


def test_corrections_count_the_rules_that_are_compared(planted: TaskSummary) -> None:
    raw = {entry.method: entry.vs_random.p for entry in planted.at(KEEP) if entry.is_rule and entry.vs_random}
    assert set(raw) == set(planted_grid.METHODS) - {"full", "random", "leaked", "shuffled"}
    least = min(raw, key=lambda method: raw[method])
    assert entry_of(planted, least).p_random == pytest.approx(min(raw.values()) * len(raw))
    assert entry_of(planted, "leaked").p_random is entry_of(planted, "shuffled").p_inferior is None
    # Against the full data random is judged like any method.
    assert entry_of(planted, "random").p_inferior is not None


def test_the_best_are_chosen_by_validation_without_labels_and_fakes(planted: TaskSummary) -> None:
    assert (planted.best_label_free, planted.best_igse, planted.best_single) == (
        "igse_box",
        "igse_box",
        "generative_middle",
    )
    assert planted.igse_vs_single is not None
    assert planted.igse_vs_single.low > 0
    cells = [
        replace(cell, metrics={**cell.metrics, "validation": {"accuracy": 0.99}}) if cell.method == "longest" else cell
        for cell in make_task().cells
    ]
    # Worst on the test rows, and still chosen: these have no part in it.
    assert summarise(GridTask(make_facts(), cells), n_resamples=50).best_label_free == "longest"


def test_seeds_that_only_some_rules_have_decide_nothing() -> None:
    cells = make_task().cells
    lucky = [
        replace(
            cell,
            cell=f"{cell.seed:024x}",
            seed=cell.seed + 5,
            metrics={**cell.metrics, "validation": {"accuracy": 1.0}},
        )
        for cell in cells
        if (cell.method, cell.keep) == ("longest", KEEP)
    ]
    found = summarise(GridTask(make_facts(), [*cells, *lucky]), n_resamples=50)
    assert entry_of(found, "longest").seeds == tuple(range(10))
    assert found.choice_seeds == (0, 1, 2, 3, 4)
    assert found.best_label_free == "igse_box"


def test_sources_lie_where_their_scores_are() -> None:
    task = make_task()
    sources = ["synthetic" if at % 2 else "original" for at in range(N_POOL)]
    task.facts["rows"]["source"] = sources
    found = summarise(task, n_resamples=50)
    values = np.array(task.facts["rows"]["scores"]["nll_nats"])[1::2]
    assert found.source_places is not None
    place = found.source_places["nll_nats"]["synthetic"]
    assert place["rows"] == N_POOL // 2
    assert place["median"] == pytest.approx(float(np.median(values)), abs=1e-4)
    mean_ranks = [found.source_places["nll_nats"][source]["mean_rank"] for source in ("original", "synthetic")]
    assert sum(mean_ranks) == pytest.approx(1.0, abs=1e-3)
    assert summarise(make_task(), n_resamples=50).source_places is None


def test_rows_at_the_limit_of_the_scoring_models_are_counted() -> None:
    facts = make_facts()
    lengths = facts["rows"]["n_tokens"]
    facts["scoring_model"] = {"max_tokens": max(lengths)}
    assert summarise(GridTask(facts, make_cells(facts)), n_resamples=50).n_cut == lengths.count(max(lengths))
    assert summarise(make_task(), n_resamples=50).n_cut == 0


def test_kept_rows_are_counted(planted: TaskSummary) -> None:
    task = make_task()
    cell = next(cell for cell in task.cells if (cell.method, cell.keep) == ("longest", KEEP))
    labels, lengths = task.facts["rows"]["label"], task.facts["rows"]["n_tokens"]
    found = entry_of(planted, "longest")
    assert found.class_rates == pytest.approx(
        {
            name: sum(labels[at] == name for at in cell.selected) / labels.count(name)
            for name in ("negative", "positive")
        }
    )
    kept = [lengths[at] for at in cell.selected]
    assert found.relative_length == pytest.approx(np.mean(kept) / np.mean(lengths))
    # Training on rows outside the pool keeps none of it.
    assert entry_of(planted, "leaked").relative_length is None


def test_costs_and_break_even(planted: TaskSummary) -> None:
    igse = entry_of(planted, "igse_box")
    assert (igse.seconds.scoring, igse.seconds.search, igse.seconds.training) == pytest.approx((113.0, 0.5, 6.4))
    assert igse.break_even is not None
    assert igse.break_even.saved == pytest.approx(33.6)
    # Three trainings save 100.8 s, four 134.4; with BERT-base one saves 266.9.
    assert (igse.break_even.trainings, igse.break_even.trainings_bert) == (4, 1)
    assert igse.break_even.saved_bert == pytest.approx(33.6 * 85.056 / 10.647552)


def test_what_random_gets_for_the_same_seconds_is_chosen_on_the_validation_rows(planted: TaskSummary) -> None:
    task = make_task(block=3)

    def judged(value: float, seconds: float = 119.9) -> TaskSummary:
        """Half of the pool does so well on the validation rows, and the box takes so many seconds."""
        validation = {"validation": {"accuracy": value}}
        cells = [
            replace(c, metrics={**c.metrics, **validation}) if (c.method, c.keep) == ("random", 0.5) else c
            for c in task.cells
        ]
        facts = {**task.facts, "seconds": {**task.facts["seconds"], "generative": 100.0 + seconds - 119.9}}
        return summarise(GridTask(facts, cells), n_resamples=N_RESAMPLES)

    better, worse = judged(0.99).afforded, judged(0.1).afforded
    assert better is not None
    assert worse is not None
    assert (better.keep, worse.keep) == (0.5, KEEP)
    assert worse.difference == entry_of(planted, "igse_box").vs_random
    assert better.difference is not None
    gap = entry_of(planted, "igse_box").mean - entry_of(planted, "random", 0.5).mean
    assert better.difference.mean == pytest.approx(gap)
    # A training on half of the pool takes 20 s: the box leaves none for it.
    dear = judged(0.99, 19.9).afforded
    assert dear is not None
    assert dear.keep == KEEP


def test_more_seeds_make_no_training_cheaper() -> None:
    task = make_task()
    seconds = {0: 30.0, 1: 20.0, 2: 25.0, 3: 5.0, 4: 10.0}
    cells = [replace(c, train_seconds=seconds[c.seed]) for c in task.cells if c.method != "full" or c.seed < 3]
    found = summarise(GridTask(task.facts, cells), n_resamples=50)
    assert entry_of(found, "igse_box").seconds.training == entry_of(found, "full", 1.0).seconds.training == 20.0


def test_seconds_of_another_machine_are_not_compared() -> None:
    task = make_task(block=3)

    def training(task: GridTask) -> dict[tuple[str, float], float | None]:
        entries = summarise(task, n_resamples=50).entries
        return {(entry.method, entry.keep): entry.seconds.training for entry in entries}

    known = training(task)
    assert None not in known.values()
    # Of cells that do not name their processor, in a study that went on elsewhere, nothing is known.
    for later, lost in (("some CPU, 2026-11-26", False), ("other CPU, 2026-11-26", True)):
        moved = replace(task, facts={**task.facts, "went_on": [later]})
        assert set(training(moved).values()) == ({None} if lost else set(known.values()))
    # Unless the study's file says how many of them were first: later ones may be of the same processor on another day.
    first = [cell.method for cell in task.cells].index("igse_box")
    for named in (moved, task):
        told = training(replace(named, timed_cells=first))
        assert {told["longest", KEEP], told["igse_box", KEEP]} == {known["longest", KEEP], None}
    own, other = ([replace(cell, processor=name) for cell in task.cells] for name in ("some CPU", "other CPU"))
    assert training(replace(moved, cells=own)) == known
    # Two processors without a name may differ.
    nameless = {**task.facts, "machine": {**task.facts["machine"], "cpu": "unknown (aarch64)"}}
    unknown = [replace(cell, processor="unknown (aarch64)") for cell in task.cells]
    assert set(training(replace(task, facts=nameless, cells=unknown)).values()) == {None}
    mixed = summarise(
        replace(moved, cells=[c if c.keep != 0.5 else other[at] for at, c in enumerate(own)]), n_resamples=50
    )
    assert entry_of(mixed, "igse_box").seconds.total is not None
    assert entry_of(mixed, "igse_box", 0.5).seconds.total is None
    assert entry_of(mixed, "igse_box", 0.5).break_even is None
    said = "\n".join(conclusions(mixed))
    # Random at half of the pool was trained elsewhere: however few its seconds were, they say nothing here.
    assert "For no more core-seconds random gets" in said
    assert "at 50 % (" not in said
    assert any(gap.startswith("Trained elsewhere or later than was timed at 50 % for 3 epochs") for gap in mixed.gaps)
    json.dumps(mixed.to_json(), allow_nan=False)


def test_costs_are_core_seconds_and_equal_steps_save_nothing() -> None:
    facts = make_facts()
    facts["machine"] |= {"scoring_threads": 2, "threads_per_worker": 3}
    cells = make_cells(facts, schedules=("120 steps",))
    found = summarise(GridTask(facts, cells), n_resamples=50)
    igse = entry_of(found, "igse_box")
    assert (igse.seconds.scoring, igse.seconds.search, igse.seconds.training) == pytest.approx((226.0, 0.5, 36.0))
    assert igse.break_even is None
    assert any("At equal steps fewer rows save no training" in sentence for sentence in conclusions(found))


def test_a_method_that_saves_nothing_or_was_not_timed_never_breaks_even() -> None:
    facts = make_facts()
    del facts["seconds"]["el2n"]
    slow = [replace(cell, train_seconds=50.0) if cell.method != "full" else cell for cell in make_cells(facts)]
    found = summarise(GridTask(facts, slow), n_resamples=50)
    igse = entry_of(found, "igse_box").break_even
    assert igse is not None
    assert (igse.trainings, igse.trainings_bert) == (None, None)
    assert entry_of(found, "el2n_high").break_even is None
    assert any("not timed" in gap and "`el2n_high`" in gap for gap in found.gaps)
    json.dumps(found.to_json(), allow_nan=False)


def test_variance_length_and_checks(planted: TaskSummary) -> None:
    assert [(row.method, row.keep, row.components.n_selection) for row in planted.variance] == [
        ("random", KEEP, 3),
        ("random", 0.5, 3),
    ]
    (variant,) = planted.length_removed
    assert (variant.variant, variant.base) == ("igse_box_nolength", "igse_box")
    assert variant.difference is not None
    assert variant.difference.high < 0
    assert [check.passed for check in planted.checks] == [True] * 4


def test_a_broken_harness_is_said() -> None:
    gaps = {**planted_grid.GAPS, "leaked": 0.0, "shuffled": 0.08}
    found = summarise(make_task(gaps=gaps), n_resamples=N_RESAMPLES)
    assert not any(check.passed for check in found.checks if check.keep == KEEP)
    text = "\n".join(conclusions(found))
    assert "**Harness check `leaked`" in text
    assert "**Harness check `shuffled`" in text
    assert text.count("nothing below can be trusted") == 2


def test_holding_the_full_data_needs_a_bound_above_the_margin() -> None:
    gaps = {**planted_grid.GAPS, "igse_box": 0.11, "longest": -0.05}
    found = summarise(make_task(gaps=gaps), n_resamples=N_RESAMPLES)
    igse = entry_of(found, "igse_box")
    assert igse.non_inferior
    assert verdict(igse) == HOLDS
    assert verdict(entry_of(found, "longest")) == LOSES
    assert verdict(None) == UNKNOWN
    by_method = {row.method: (row.corrected, row.alone) for row in found.smallest_keeps}
    assert by_method["igse_box"] == (KEEP, KEEP)
    assert by_method["longest"] == (None, None)
    # A budget that holds shows nothing where a larger one does not.
    for keep, reached in ((0.5, None), (KEEP, 0.5)):
        losing = _smallest_keeps(
            [replace(e, p_inferior=0.5) if (e.method, e.keep) == ("igse_box", keep) else e for e in found.entries]
        )
        assert next(row.corrected for row in losing if row.method == "igse_box") == reached
    text = "\n".join(conclusions(found))
    assert "shown to lose less than 0.5 points against the full data, after correction: `igse_box`;" in text
    better = "1 of 5 label-free rules are shown to be better than random after correction over all 6 rules: `igse_box`"
    assert f"At 16 %, 3 epochs: {better}" in text
    equal = summarise(make_task(gaps={**gaps, "igse_box": 0.05}), n_resamples=N_RESAMPLES)
    assert verdict(entry_of(equal, "igse_box")) == OPEN


def test_the_main_schedule_can_be_named_and_a_box_of_the_whole_pool_is_no_rule() -> None:
    task = make_task(schedules=("3 epochs", "120 steps"))
    assert task.schedules == ("120 steps", "3 epochs")
    assert replace(task, main_schedule="3 epochs").schedules == ("3 epochs", "120 steps")
    assert [is_whole_box("box4_facility", keep) for keep in (0.16, 0.25, 0.3)] == [False, True, True]
    assert not is_whole_box("igse_box", 1.0)
    facts = make_facts(methods={**planted_grid.METHODS, "box2_facility": planted_grid.METHODS["igse_box"]})
    cells = make_cells(facts, {**planted_grid.GAPS, "box2_facility": 0.0})
    assert {keep for method, keep, _ in GridTask(facts, cells).groups if method == "box2_facility"} == {0.16}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"gaps": {"full": 0.05}}, "No random"),
        ({"gaps": {"random": 0.0, "igse_box": 0.1}}, "Nothing was trained on the full data for 3 epochs"),
        ({"gaps": {"full": 0.05, "igse_box": 0.1}}, "No random selection at 16 %, 50 % for 3 epochs"),
        ({"n_seeds": 3}, "rest on fewer than 5 seeds"),
        ({"n_seeds": 2}, "rest on fewer than 3 seeds: they are compared with nothing"),
        ({"validation": False}, "no validation results"),
        ({"keeps": (0.3,)}, "no variance block"),
        ({"schedules": ("3 epochs", "120 steps")}, "no variance block"),
    ],
)
def test_partial_grids_are_summarised_and_say_what_they_lack(settings: dict[str, Any], said: str) -> None:
    found = summarise(make_task(**settings), n_resamples=50)
    json.dumps(found.to_json(), allow_nan=False)
    sentences = conclusions(found)
    if said != "No random":
        assert any(said in gap for gap in found.gaps), found.gaps
        assert bool(sentences) == (settings.get("n_seeds") != 2)
    if settings.get("keeps"):
        assert found.headline_keep == 0.3


def test_what_was_planned_and_is_not_finished_is_said() -> None:
    task = make_task(keeps=(KEEP,))
    more = [("igse_box", KEEP, "3 epochs", 0, 5), ("random", KEEP, "3 epochs", 5, 5), ("full", 1.0, "3 epochs", 5, 5)]
    never = [(method, 0.3, "9 steps", seed, seed) for seed in range(2) for method in planted_grid.METHODS]
    found = summarise(
        GridTask(task.facts, task.cells, [*(cell.key for cell in task.cells), *more, *never]), n_resamples=50
    )
    assert [gap for gap in found.gaps if gap.startswith("Planned")] == [
        "Planned at 100 % for 3 epochs, 5 of 6 models finished: `full`.",
        "Planned at 16 % for 3 epochs, 5 of 6 models finished: `random`, `igse_box`.",
        "Planned at 30 % for 9 steps, 0 of 2 models finished: `full`, `random`, `longest`, `generative_middle`, "
        "`information_middle`, `igse_box`, `igse_box_nolength`, `el2n_high` and 2 more.",
    ]
    assert not any("nor trained" in gap for gap in found.gaps)
    finished = GridTask(task.facts, task.cells, [cell.key for cell in task.cells])
    assert not any(gap.startswith("Planned") for gap in summarise(finished, n_resamples=50).gaps)


def test_methods_that_were_not_planned_are_named_apart() -> None:
    task = make_task(gaps={"random": 0.0, "full": 0.05}, keeps=(KEEP,))
    planned = [*(cell.key for cell in task.cells), ("longest", KEEP, "3 epochs", 0, 0)]
    gaps = summarise(GridTask(task.facts, task.cells, planned), n_resamples=50).gaps
    assert "Planned at 16 % for 3 epochs, 0 of 1 models finished: `longest`." in gaps
    (unplanned,) = (gap for gap in gaps if gap.startswith("Neither planned nor trained at 16 % for 3 epochs: "))
    assert "`igse_box`" in unplanned
    assert "`longest`" not in unplanned


def test_unequal_seeds_are_paired_and_said() -> None:
    cells = [cell for cell in make_task().cells if cell.method != "igse_box" or cell.seed < 3]
    found = summarise(GridTask(make_facts(), cells), n_resamples=50)
    gap = entry_of(found, "igse_box").vs_random
    assert gap is not None
    assert gap.seeds == (0, 1, 2)
    assert "Methods have 3 to 5 seeds; each pair is compared over those that both have." in found.gaps


def test_question_answering_is_judged_by_f1() -> None:
    facts = {**make_facts(), "task": "question_answering", "main_metric": "f1"}
    facts["rows"]["label"] = None
    cells = []
    for cell in make_cells(facts):
        scores = np.clip(cell.test_scores - 0.123, 0, 1)
        cells.append(
            replace(cell, test_scores=scores, metrics={"test": {"f1": float(scores.mean()), "exact_match": 0.5}})
        )
    found = summarise(GridTask(facts, cells), n_resamples=N_RESAMPLES)
    assert entry_of(found, "igse_box").better_than_random
    assert entry_of(found, "igse_box").class_rates is None


def test_a_task_is_read_from_its_two_files(tmp_path: Path, planted: TaskSummary) -> None:
    task = make_task(block=3)
    (tmp_path / "planted.facts.json").write_text(json.dumps(task.facts), encoding="utf-8")
    for cell in task.cells:
        append_cell(tmp_path / "planted.cells.jsonl", cell)
    assert summarise(read_task(tmp_path, "planted"), n_resamples=N_RESAMPLES).to_json() == planted.to_json()


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    facts, cells = make_facts(), make_cells(make_facts(), {"random": 0.0})
    with pytest.raises(InputError, match="no field 'rows'"):
        GridTask({name: value for name, value in facts.items() if name != "rows"}, cells)
    for field, value in (("rows", "none"), ("name", 3), ("methods", {"random": None})):
        with pytest.raises(InputError, match=r"^facts of the task: .*must hold"):
            GridTask({**facts, field: value}, cells)
    with pytest.raises(InputError, match="no cell"):
        GridTask(facts, [])
    with pytest.raises(InputError, match="do not know the method 'other'"):
        GridTask(facts, [replace(cells[0], method="other")])
    with pytest.raises(InputError, match="different numbers of rows"):
        GridTask(facts, [*cells, replace(cells[0], test_scores=np.ones(3), seed=99)])
    (tmp_path / "planted.facts.json").write_text(json.dumps({**facts, "methods": []}))
    with pytest.raises(InputError, match=r"planted.facts.json: facts of the task: 'methods' must hold"):
        read_task(tmp_path, "planted")
    (tmp_path / "planted.facts.json").write_text("[]")
    with pytest.raises(InputError, match=r"planted.facts.json: must hold the facts of a study"):
        read_task(tmp_path, "planted")
    with pytest.raises(InputError, match="has no accuracy"):
        GridTask(facts, [replace(cells[0], metrics={"test": {}})])
    assert cells[0].mask(N_POOL).sum() == 64
