"""Which rows rules choose among, and what their seed settles."""

import numpy as np
import pytest
from test_select import AXES, scores_table

from euds.selection.choose import choose
from euds.selection.rules import FIXED_AXES, RULES


@pytest.mark.parametrize("rule", RULES)
def test_rows_that_are_all_equal_are_drawn_by_the_seed(rule: str) -> None:
    alike = scores_table().take(np.ones(30, int)).set_column(0, "row_id", [np.arange(30)])
    kept = [choose(alike, keep=9, rule=rule, axes=AXES.get(rule), seed=seed).row_ids.tolist() for seed in (0, 0, 1)]
    assert kept[0] == kept[1] != kept[2]


@pytest.mark.parametrize("rule", [rule for rule in RULES if FIXED_AXES.get(rule) == ()])
def test_rules_without_axes_choose_among_the_rows_that_have_every_score(rule: str) -> None:
    scores = scores_table()
    usable = scores.filter(scores.column("generative_entropy_nats").is_valid())
    assert usable.num_rows < scores.num_rows
    found = choose(scores, keep=1.0, rule=rule)
    assert found.row_ids.tolist() == usable.column("row_id").to_pylist()
    assert found.record["n_left_out"] == scores.num_rows - usable.num_rows
