"""The statistics of a grid, against plain loops, worked examples and simulated truths."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from euds.study.grid.statistics import (
    LEVEL,
    MARGIN,
    Bootstrap,
    Difference,
    complete_block,
    difference,
    holm,
    variance_components,
)


def test_the_bootstrap_agrees_with_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    n_seeds, n_test, n_resamples = 4, 60, 4000
    gaps = rng.integers(-1, 2, (n_seeds, n_test)) + 0.3 * rng.normal(size=(n_seeds, 1))
    looped = []
    for _ in range(n_resamples):
        seeds, rows = rng.integers(0, n_seeds, n_seeds), rng.integers(0, n_test, n_test)
        looped.append(sum(gaps[seed, rows].sum() for seed in seeds) / (n_seeds * n_test))
    drawn = Bootstrap(n_test, n_resamples=n_resamples, seed=1).means(gaps)
    assert drawn.shape == (n_resamples,)
    at = [0.025, 0.05, 0.5, 0.95, 0.975]
    assert np.quantile(drawn, at) == pytest.approx(np.quantile(looped, at), abs=0.015)
    assert drawn.std() == pytest.approx(np.std(looped), rel=0.05)


def test_the_bootstrap_is_the_same_under_its_seed_and_another_under_another() -> None:
    gaps = np.random.default_rng(0).normal(size=(3, 50))
    first, again, other = (Bootstrap(50, n_resamples=700, seed=seed).means(gaps) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_seeds_are_drawn_apart_from_the_test_rows() -> None:
    # As many of either: the product of both weights is 1 in the mean, and the variance more were they the same draws.
    n = 12
    drawn = Bootstrap(n, n_resamples=2000).means(np.eye(n))
    assert drawn.mean() == pytest.approx(1 / n, rel=0.05)


def test_a_difference_is_paired_over_the_shared_seeds() -> None:
    scores = {seed: np.full(40, 0.5 + 0.1 * seed) for seed in range(4)}
    better = {seed: scores[seed] + 0.02 for seed in (0, 1, 3)} | {9: np.ones(40)}
    found = difference(better, scores, Bootstrap(40, n_resamples=999))
    assert found is not None
    assert found.seeds == (0, 1, 3)
    # Every pair differs by the same, so that no resample can differ.
    assert (found.mean, found.low, found.high) == pytest.approx((0.02,) * 3)
    assert found.sd == 0
    assert found.p == 2 / 1000
    assert (found.p_inferior, found.p_holds) == (1 / 1000, 1)
    # Two seeds tell nothing of how seeds differ.
    assert difference({seed: better[seed] for seed in (0, 1, 9)}, scores, Bootstrap(40, n_resamples=10)) is None


def test_the_least_difference_shown_is_where_the_corrected_test_turns() -> None:
    seeds, spread, n_compared = (0, 1, 2), np.array([-0.02, 0.0, 0.02]), 40
    found = Difference(seeds, mean=0.0, sd=0.02, low=-0.02, high=0.02, p=1.0, p_inferior=1.0, p_holds=1.0)
    least = found.least_shown(n_compared)
    # Forty rules on three seeds that differ by two points: a third of a hundred.
    assert least == pytest.approx(0.326, abs=0.001)
    assert n_compared * ttest_1samp(spread + least, 0).pvalue == pytest.approx(LEVEL)
    # Seeds that agree leave the test rows: 1.96 standard errors become 3.23.
    alike = replace(found, sd=0.0)
    assert alike.least_shown(n_compared) == pytest.approx(0.02 * 3.2272 / 1.95996, rel=1e-4)
    assert alike.least_shown(1) == pytest.approx(alike.half_width)


def test_equal_methods_have_p_of_one_and_the_margin_is_what_counts() -> None:
    scores = {seed: np.random.default_rng(seed).random(50) for seed in range(3)}
    bootstrap = Bootstrap(50, n_resamples=199)
    same = difference(scores, scores, bootstrap)
    assert same is not None
    assert (same.mean, same.p, same.p_inferior) == (0, 1, 1 / 200)
    for loss, p in ((MARGIN / 2, 1 / 200), (2 * MARGIN, 1.0)):
        worse = difference({seed: row - loss for seed, row in scores.items()}, scores, bootstrap)
        assert worse is not None
        assert worse.p_inferior == p
        assert worse.p_holds == (1.0 if loss < MARGIN else 1 / 200)


def test_scores_that_differ_in_their_last_bits_alone_are_equal() -> None:
    plain = {seed: np.full(20, 0.3) for seed in range(3)}
    # 0.1 + 0.2 is a little more than 0.3.
    sums = {seed: np.full(20, 0.1 + 0.2 if seed else 0.3) for seed in range(3)}
    found = difference(sums, plain, Bootstrap(20, n_resamples=99))
    assert found is not None
    assert (found.sd, found.p) == (0.0, 1.0)


def test_p_values_of_few_seeds_are_those_of_the_t_test() -> None:
    # Differences of 6.3, 1.2 and 4.0 points: no resample of three such seeds is below 0.
    means = np.array([0.063, 0.012, 0.040])
    random = {seed: np.full(1000, 0.5) for seed in range(3)}
    rule = {seed: random[seed] + mean for seed, mean in enumerate(means)}
    found = difference(rule, random, Bootstrap(1000, n_resamples=999))
    assert found is not None
    assert found.low > 0
    assert found.p == pytest.approx(ttest_1samp(means, 0).pvalue)
    assert 0.1 < found.p < 0.15
    assert found.p_inferior == pytest.approx(ttest_1samp(means, -MARGIN, alternative="greater").pvalue)
    worse = difference(random, rule, Bootstrap(1000, n_resamples=999))
    assert worse is not None
    assert worse.p == found.p
    assert worse.p_holds == pytest.approx(ttest_1samp(-means, -MARGIN, alternative="less").pvalue)


def test_p_values_of_test_rows_that_differ_are_those_of_the_bootstrap() -> None:
    # All seeds say the same of 25 rows, of which one decides: other rows might have said nothing.
    rule = {seed: np.eye(25)[0] for seed in range(3)}
    found = difference(rule, {seed: np.zeros(25) for seed in range(3)}, Bootstrap(25, n_resamples=999))
    assert found is not None
    assert found.p > 0.5


def test_where_no_rule_differs_few_studies_call_one_different() -> None:
    n_test, n_seeds, n_rules, n_studies = 300, 3, 7, 200
    bootstrap = Bootstrap(n_test, n_resamples=500)
    wrong, wrong_alone = 0, 0
    for study in range(n_studies):
        rng = np.random.default_rng(study)
        chance = 0.9 * rng.beta(3, 1, n_test)
        random, *rules = (
            {seed: (rng.random(n_test) < chance + 0.1 * rng.normal()).astype(float) for seed in range(n_seeds)}
            for _ in range(1 + n_rules)
        )
        found = [difference(rule, random, bootstrap) for rule in rules]
        wrong += min(holm([gap.p for gap in found if gap is not None])) < LEVEL
        drawn = [bootstrap.means(np.stack([rule[seed] - random[seed] for seed in random])) for rule in rules]
        alone = [2 * (1 + min((one <= 0).sum(), (one >= 0).sum())) / (1 + len(one)) for one in drawn]
        wrong_alone += min(holm(alone)) < LEVEL
    assert wrong / n_studies <= 0.07
    # What the t test is there for.
    assert wrong_alone / n_studies > 0.2


@pytest.mark.parametrize("gap", [0.0, 0.05])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(gap: float) -> None:
    n_test, n_seeds, n_studies = 200, 5, 120
    bootstrap = Bootstrap(n_test, n_resamples=500)
    held = 0
    for study in range(n_studies):
        rng = np.random.default_rng(study)
        chance = rng.beta(3, 1, n_test) * 0.9
        first, second = (
            {seed: (rng.random(n_test) < chance + more + 0.01 * rng.normal()).astype(float) for seed in range(n_seeds)}
            for more in (gap, 0.0)
        )
        found = difference(first, second, bootstrap)
        assert found is not None
        held += found.low <= gap <= found.high
    assert 0.9 <= held / n_studies < 1.0


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [3, 5, 10])
@pytest.mark.parametrize(
    ("spread", "shares"),
    [(0.02, {3: 0.97, 5: 0.98, 10: 0.98}), (0.05, {3: 0.88, 5: 0.93, 10: 0.95}), (0.1, {3: 0.78, 5: 0.86, 10: 0.91})],
)
def test_how_far_intervals_of_few_seeds_can_be_trusted_is_as_written(
    spread: float, shares: dict[int, float], n_seeds: int
) -> None:
    n_test, n_studies = 500, 500
    bootstrap = Bootstrap(n_test, n_resamples=1000)
    held = 0
    for study in range(n_studies):
        rng = np.random.default_rng([study, n_seeds, round(100 * spread)])
        alike = rng.beta(3, 1, n_test)
        # Four of five rows are as hard for one method as for the other.
        chances = [0.9 * np.where(rng.random(n_test) < 0.8, alike, rng.beta(3, 1, n_test)) for _ in range(2)]
        first, second = (
            {seed: (rng.random(n_test) < chance + spread * rng.normal()).astype(float) for seed in range(n_seeds)}
            for chance in chances
        )
        found = difference(first, second, bootstrap)
        assert found is not None
        held += found.low <= 0 <= found.high
    assert held / n_studies == pytest.approx(shares[n_seeds], abs=0.045)


def test_holm_against_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_variance_components_against_worked_examples() -> None:
    additive = variance_components(np.add.outer([0.0, 2, 4], [0.0, 1, 2]))
    assert (additive.selection, additive.training) == pytest.approx((4, 1))
    assert additive.residual == pytest.approx(0, abs=1e-20)
    crossed = variance_components(np.array([[0.0, 2], [2, 0]]))
    assert (crossed.selection, crossed.training, crossed.residual) == pytest.approx((0, 0, 4))
    assert crossed.clipped == ("selection", "training")


def test_variance_components_against_sums_of_squares_and_the_truth() -> None:
    rng = np.random.default_rng(0)
    values = np.add.outer(rng.normal(0, 3, 60), rng.normal(0, 2, 50)) + rng.normal(0, 1, (60, 50))
    n_rows, n_columns = values.shape
    grand = values.mean()
    of_rows = sum(n_columns * (values[at].mean() - grand) ** 2 for at in range(n_rows))
    of_columns = sum(n_rows * (values[:, at].mean() - grand) ** 2 for at in range(n_columns))
    rest = ((values - grand) ** 2).sum() - of_rows - of_columns
    mean_square = rest / ((n_rows - 1) * (n_columns - 1))
    found = variance_components(values)
    assert found.residual == pytest.approx(mean_square)
    assert found.selection == pytest.approx((of_rows / (n_rows - 1) - mean_square) / n_columns)
    assert found.training == pytest.approx((of_columns / (n_columns - 1) - mean_square) / n_rows)
    assert (found.selection, found.training, found.residual) == pytest.approx((9, 4, 1), rel=0.5)


def test_the_complete_block_is_what_is_left_without_the_thinnest_seeds() -> None:
    square = {(one, other): float(10 * one + other) for one in range(3) for other in range(3)}
    diagonal = {(seed, seed): -1.0 for seed in range(3, 8)}
    found = complete_block({**square, **diagonal})
    assert found is not None
    assert found.tolist() == [[0, 1, 2], [10, 11, 12], [20, 21, 22]]
    del square[1, 2]
    found = complete_block({**square, **diagonal})
    assert found is not None
    assert found.size == 6
    assert complete_block(diagonal) is None
