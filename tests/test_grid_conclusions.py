"""What the sentences on a grid of known truth claim, and what they do not."""

from dataclasses import replace
from statistics import median
from typing import Any

import planted_grid
from planted_grid import KEEP, N_RESAMPLES, make_task

from euds.study.grid.conclusions import HOLDS, OPEN, conclusions, verdict
from euds.study.grid.page import _answer
from euds.study.grid.summary import TaskSummary, summarise
from euds.study.grid.wording import interval


def test_the_chosen_rule_is_better_only_after_correction(planted: TaskSummary) -> None:
    def with_p(**values: Any) -> TaskSummary:
        return replace(
            planted, entries=tuple(replace(e, **values) if e.method == "igse_box" else e for e in planted.entries)
        )

    assert ": better than random after correction; against the full data" in "\n".join(conclusions(planted))
    assert "Against random it is better on 1, worse on 0, not shown to differ on 0. " in _answer([planted])
    # The same models decided that it is looked at: its interval alone would call too many rules better.
    alone = with_p(p_random=0.06)
    assert ": better than random before correction, not shown after it; against" in "\n".join(conclusions(alone))
    assert "better on 0, worse on 0, not shown to differ on 1 (better before correction only on 1). " in _answer(
        [alone]
    )
    held = with_p(p_inferior=0.04)
    assert verdict(held.headline("igse_box")) == HOLDS
    assert verdict(with_p(p_inferior=0.06).headline("igse_box")) == OPEN


def test_without_a_better_rule_no_rule_is_called_better() -> None:
    gaps = {**planted_grid.GAPS, "igse_box": 0.0}
    text = "\n".join(conclusions(summarise(make_task(gaps=gaps), n_resamples=N_RESAMPLES)))
    none = "no label-free rule is shown to be better than random after correction over all 6 rules (5 label-free"
    assert f"At 16 %, 3 epochs: {none}" in text
    assert "no method is shown to lose less than 0.5 points against the full data, after correction" in text
    assert "it loses more than 0.5 points" in text


def test_conclusions_say_what_a_second_metric_and_the_same_seconds_give(planted: TaskSummary) -> None:
    def with_box(**changes: Any) -> str:
        entries = tuple(
            replace(entry, **changes) if (entry.method, entry.keep) == ("igse_box", 0.16) else entry
            for entry in planted.entries
        )
        return "\n".join(conclusions(replace(planted, entries=entries)))

    said = with_box()
    assert "(but macro-F1" not in said
    half = next(entry for entry in planted.at(0.5) if entry.method == "random")
    box = planted.headline("igse_box")
    assert box is not None
    assert box.seconds.total is not None
    assert half.seconds.total is not None
    assert f"For no more core-seconds random gets {100 * half.mean:.1f} at 50 %, of the budgets within" in said
    assert planted.afforded is not None
    assert f"for 120; the rule minus random {interval(planted.afforded.difference)}, not corrected" in said
    full = planted.full()
    assert full is not None
    # 40 s of one training, and 119.9 of the box with its scores.
    assert (
        f"The full data give {100 * full.mean:.1f} for no more core-seconds (40 with one training, against 120 " in said
    )
    cheap = replace(box.seconds, scoring=0.0, search=0.0, training=0.0)
    assert "The full data give" not in with_box(seconds=cheap)
    assert "The full data give" not in with_box(seconds=replace(box.seconds, scoring=33.0, search=0.0, training=6.9))


def test_every_budget_says_which_differences_could_have_been_shown(planted: TaskSummary) -> None:
    said = conclusions(planted)
    for keep, kept in ((0.16, "16 %"), (0.5, "50 %")):
        gaps = [entry.vs_random for entry in planted.at(keep) if entry.is_rule and entry.vs_random]
        least = 100 * median(gap.least_shown(len(gaps)) for gap in gaps)
        start = f"At {kept}, 3 epochs, with 5 seeds a rule, half the width of an interval is "
        (sentence,) = (own for own in said if own.startswith(start))
        shown = f"shown after correction over {len(gaps)} rules {least:.1f} (medians over the rules): smaller ones stay"
        assert sentence.endswith(f"{shown} unseen.")


def test_one_worse_rule_is_no_first_one(planted: TaskSummary) -> None:
    said = "\n".join(conclusions(planted))
    assert "; worse, 2: `information_middle`, `longest`, the first by -" in said or (
        "; worse, 2: `longest`, `information_middle`, the first by -" in said
    )
    one = [replace(e, p_random=0.9) if e.method == "longest" else e for e in planted.entries]
    assert "; worse, 1: `information_middle`, by -" in "\n".join(conclusions(replace(planted, entries=tuple(one))))


def test_a_break_even_has_its_ratio(planted: TaskSummary) -> None:
    # 113.5 s of scores and search, 33.6 s saved.
    assert "a training saves 34 (a ratio of 3.4): paid for after 4 trainings" in "\n".join(conclusions(planted))


def test_failed_checks_are_weighed_by_chance(planted: TaskSummary) -> None:
    shuffled = next(check for check in planted.checks if check.method == "shuffled")
    off = replace(shuffled, passed=False, vs_random=replace(shuffled.vs_random, mean=-0.023))

    def with_checks(n_failed: int, n_checks: int, leaked: bool = True) -> TaskSummary:
        others = [replace(check, passed=leaked) for check in planted.checks if check.method == "leaked"]
        return replace(planted, checks=(*others, *[off] * n_failed, *[shuffled] * (n_checks - n_failed)))

    one = with_checks(1, 3)
    said = "\n".join(conclusions(one))
    # 1 - 0.95^3.
    assert "at least 1 of 3 such intervals miss with a probability of 14.3 %" in said
    assert (
        "chance may explain it, but a lead or a loss of that size says little there (2.3 points at 16 %, 3 epochs)."
        in said
    )
    assert "nothing below can be trusted" not in said
    assert " (a check of the harness failed, perhaps by chance) |" in _answer([one])
    two = with_checks(2, 3)
    said = "\n".join(conclusions(two))
    assert "at least 2 of 3 such intervals miss with a probability of 0.7 %" in said
    assert "that is no chance, and nothing below can be trusted." in said
    # Training on test rows must win, whatever chance does.
    for broken in (two, with_checks(0, 3, leaked=False)):
        assert " (not to be trusted: the harness failed) |" in _answer([broken])
    assert "harness" not in _answer([with_checks(0, 3)])


def test_a_second_metric_is_paired_like_the_first_and_nothing_is_no_contradiction(planted: TaskSummary) -> None:
    random, box = planted.headline("random"), planted.headline("igse_box")
    assert random is not None
    assert box is not None
    assert box.vs_random is not None
    assert not any("by_seed" in entry for entry in planted.to_json()["entries"])

    def said(gap: float, mean: float = 0.05, **of_random: Any) -> str:
        assert box is not None
        assert random is not None
        assert box.vs_random is not None
        against = replace(box.vs_random, seeds=(0, 1, 2), mean=mean)
        values = {seed: random.by_seed["macro_f1"][seed] + gap for seed in (0, 1, 2)}
        changed = {
            "igse_box": replace(box, by_seed={"macro_f1": values}, vs_random=against),
            "random": replace(random, **of_random),
        }
        entries = tuple(changed.get(e.method, e) if e.keep == KEEP else e for e in planted.entries)
        return "\n".join(conclusions(replace(planted, entries=entries)))

    assert "(but macro-F1 -10.0)" in said(-0.1)
    # Seeds that random alone has, and its mean over them, are no part of the comparison.
    more = {"macro_f1": {**random.by_seed["macro_f1"], 3: 0.0, 4: 0.0}}
    assert "(but macro-F1 -10.0)" in said(-0.1, by_seed=more, metrics={"accuracy": 0.5, "macro_f1": 0.0})
    assert "(but" not in said(0.1)
    assert "(but" not in said(-0.0004)
    assert "(but" not in said(-0.1, mean=0.0004)


def test_a_loss_that_is_shown_and_may_be_small_is_said_so(planted: TaskSummary) -> None:
    box = planted.headline("igse_box")
    assert box is not None
    assert box.vs_full is not None
    slight = replace(box.vs_full, mean=-0.01, low=-0.02, high=-0.001, p=0.01, p_holds=0.2)
    entries = tuple(
        replace(entry, vs_full=slight, p_inferior=0.5) if entry is box else entry for entry in planted.entries
    )
    said = "\n".join(conclusions(replace(planted, entries=entries)))
    assert "it is below them; whether by more than 0.5 points is not decided by these runs" in said


def test_an_interval_alone_shows_nothing(planted: TaskSummary) -> None:
    box = planted.headline("igse_box")
    assert box is not None
    assert box.vs_random is not None
    assert planted.igse_vs_single is not None
    # Three seeds that differ much: no resample has the other sign, and the t test sees nothing.
    ahead = replace(box.vs_random, mean=0.04, low=0.01, high=0.07, p=0.12)
    behind = replace(box.vs_random, mean=-0.04, low=-0.07, high=-0.01, p=0.12, p_holds=0.12)
    entries = tuple(
        replace(entry, vs_random=ahead, vs_full=behind, p_random=0.6, p_inferior=0.9) if entry is box else entry
        for entry in planted.entries
    )
    found = replace(planted, entries=entries, igse_vs_single=replace(ahead))
    said = "\n".join(conclusions(found))
    assert "[+1.0, +7.0]: no difference from random is shown; against" in said
    assert "[-7.0, -1.0]: whether it loses is not decided by these runs" in said
    assert "not corrected for their choice: not shown to differ." in said
    assert verdict(found.headline("igse_box")) == OPEN
    assert "better on 0, worse on 0, not shown to differ on 1. " in _answer([found])
