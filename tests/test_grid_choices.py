"""What each method of a study chooses of a pool, and the label surprisal that some of them look at."""

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from euds.errors import InvalidArgument
from euds.ops.box import find_box
from euds.selection.trainee import Trainee
from euds.study.grid.choices import IGSE_AXES, box_with_label_surprisal, within_box
from euds.study.grid.measure import label_surprisal
from euds.study.grid.methods import METHODS
from euds.study.grid.pool import StudyPool
from euds.types import Int64Array

N = 120


@pytest.fixture(scope="module")
def pool() -> StudyPool:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, N)
    embeddings = rng.normal(size=(N, 8)).astype(np.float32)
    embeddings[:, 0] += 2 * labels
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    columns = {
        "row_id": np.arange(N),
        "label": [str(label) for label in labels],
        "source": ["original", "synthetic"] * (N // 2),
        "n_tokens": rng.integers(5, 60, N),
        "information_entropy_nats": rng.normal(2, 1, N),
        "generative_entropy_nats": rng.normal(3, 1, N),
        "nll_nats": rng.normal(3, 1, N),
        "semantic_entropy_nats": rng.normal(1, 1, N),
    }
    texts = [" ".join(rng.choice(list("abcdefgh"), 8)) for _ in range(N)]
    trainee = Trainee(np.arange(N), embeddings, labels, "test")
    surprisal = label_surprisal(embeddings, labels, seed=0)
    return StudyPool(pa.table(columns), embeddings, texts, trainee, surprisal, rng.random(N), 70)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "full"])
def test_every_method_chooses_exactly_the_budget(pool: StudyPool, name: str) -> None:
    method = METHODS[name]
    for budget in (25, 60):
        found = method.choose(pool, budget, 3)
        assert found.dtype == np.int64
        assert len(found) == budget
        assert (np.diff(found) > 0).all()
        assert found[0] >= 0
        assert found[-1] < (70 if method.from_test else N)
        assert method.choose(pool, budget, 3).tolist() == found.tolist()


def test_rows_of_one_source_are_random_among_its_own(pool: StudyPool) -> None:
    kept = [METHODS["synthetic_rows"].choose(pool, 24, seed) for seed in (0, 1)]
    assert all((rows % 2 == 1).all() for rows in kept)
    assert 0 < len(set(kept[0]).intersection(kept[1])) < 24
    with pytest.raises(InvalidArgument, match="original_rows: the pool has 60 rows of original, to keep 61"):
        METHODS["original_rows"].choose(pool, 61, 0)


def test_methods_keep_what_their_names_say(pool: StudyPool) -> None:
    def kept(name: str, seed: int = 0) -> Int64Array:
        return METHODS[name].choose(pool, 24, seed)

    assert METHODS["full"].choose(pool, 24, 0).tolist() == list(range(N))
    assert kept("random", 0).tolist() != kept("random", 1).tolist()
    surprisal = pool.values("label_surprisal")
    assert set(kept("label_surprisal_high").tolist()) == set(np.argsort(-surprisal)[:24].tolist())
    assert set(kept("box2_k_center").tolist()) <= set(METHODS["igse_box"].choose(pool, 48, 0).tolist())
    bins = np.floor(pool.ranks("nll")[kept("stratified_nll")] * 10)
    assert set(np.bincount(bins.astype(int)).tolist()) <= {2, 3}
    edges = np.quantile(pool.n_tokens, np.linspace(0, 1, 11)[1:-1])
    lengths = [
        np.bincount(np.searchsorted(edges, pool.n_tokens[rows], side="right"), minlength=10).tolist()
        for rows in (kept("igse_box"), kept("random_length_matched"))
    ]
    assert lengths[0] == lengths[1]
    assert kept("random_length_matched", 0).tolist() != kept("random_length_matched", 1).tolist()
    per_class = METHODS["igse_box_per_class"].choose(pool, 60, 0)
    labels = np.array(pool.scores.column("label").to_pylist())
    assert abs((labels[per_class] == "1").mean() - (labels == "1").mean()) < 0.02


def test_shuffled_scores_choose_rows_that_the_box_does_not(pool: StudyPool) -> None:
    box = set(METHODS["igse_box"].choose(pool, 60, 0).tolist())
    overlaps = [len(box & set(METHODS["shuffled"].choose(pool, 60, seed).tolist())) / 60 for seed in range(40)]
    # Half of the pool is kept, so half of any random choice is in the box.
    assert abs(np.mean(overlaps) - 0.5) < 0.03


def test_leaked_rows_are_drawn_by_the_seed(pool: StudyPool) -> None:
    leaked = METHODS["leaked"].choose
    assert leaked(pool, 24, 0).tolist() != leaked(pool, 24, 1).tolist()


def test_of_the_validated_intervals_the_best_is_kept(pool: StudyPool) -> None:
    found = [pool.choose(24, "validated", (axis,), seed=0) for axis in IGSE_AXES]
    records: list[Any] = [one.record["validated"] for one in found]
    reached = [record["accuracy"] for record in records]
    assert max(reached) > min(reached)
    best = found[reached.index(max(reached))]
    assert METHODS["validated_interval"].choose(pool, 24, 0).tolist() == best.row_ids.tolist()


@pytest.mark.parametrize("inner", ["k_center", "facility", "clusters", "nll_strata"])
def test_a_wide_box_is_as_wide_as_its_name_says(pool: StudyPool, inner: str) -> None:
    twice, four_times = (set(METHODS["igse_box"].choose(pool, times * 20, 0).tolist()) for times in (2, 4))
    kept = set(METHODS[f"box4_{inner}"].choose(pool, 20, 0).tolist())
    assert kept <= four_times
    assert not kept <= twice


def test_of_repetitions_inside_a_box_one_is_left(pool: StudyPool) -> None:
    wide = METHODS["igse_box"].choose(pool, 48, 0).tolist()
    outside = next(at for at in range(N) if at not in wide and at < wide[-1])
    texts = [f"{at} a{at} b{at} c{at}" for at in range(N)]
    # The last row of the box repeats one outside it, the two before it repeat each other.
    texts[wide[-1]] = texts[outside]
    texts[wide[-2]] = texts[wide[-3]]
    rows = within_box(2, lambda part, budget, seed: np.arange(len(part)))(replace(pool, texts=texts), 24, 0)
    assert rows.tolist() == [at for at in wide if at != wide[-2]]


def test_where_nearly_everything_repeats_a_box_keeps_repetitions(pool: StudyPool) -> None:
    alike = replace(pool, texts=["one text for all of them"] * N)
    wide = METHODS["igse_box"].choose(pool, 48, 0).tolist()
    rows = METHODS["box2_k_center"].choose(alike, 24, 0)
    assert len(rows) == 24
    assert set(rows.tolist()) <= set(wide)


def test_a_box_inside_an_interval_narrows_the_label_surprisal(pool: StudyPool) -> None:
    narrow = pool.ranks("label_surprisal")[box_with_label_surprisal(pool, 24, 0)]
    assert np.ptp(narrow) < np.ptp(pool.ranks("label_surprisal")[METHODS["igse_box"].choose(pool, 24, 0)])


@pytest.mark.parametrize("budget", [3, 10, 24, 60, N])
def test_a_box_inside_an_interval_is_the_best_of_all_of_them(pool: StudyPool, budget: int) -> None:
    surprisal = pool.ranks("label_surprisal")
    ranks = np.column_stack([pool.ranks(axis) for axis in ("information", "generative", "semantic")])
    found = []
    for low, high in combinations(range(17), 2):
        rows = np.flatnonzero((surprisal >= low / 16) & (surprisal < high / 16))
        if len(rows) >= budget:
            box = find_box(ranks[rows], keep=budget, bins=16, seed=5, ids=rows)
            found.append((len(rows) / N * box.volume, rows[box.indices].tolist()))
    (volume, best), *others = sorted(found)
    assert all(other > volume for other, _ in others)
    assert box_with_label_surprisal(pool, budget, 5).tolist() == best


def test_label_surprisal_is_out_of_fold() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    features = rng.normal(size=(200, 4)).astype(np.float32)
    features[:, 0] = labels * 2 - 1
    wrong = labels.copy()
    wrong[:5] = 1 - wrong[:5]
    surprisal = label_surprisal(features, wrong, seed=0)
    assert set(np.argsort(-surprisal)[:5].tolist()) == set(range(5))
    # With features of pure noise, a probe that had seen the row would be surprised less than by chance.
    noise = rng.normal(size=(200, 60)).astype(np.float32)
    assert label_surprisal(noise, labels, seed=0).mean() > np.log(2)
    # Of a class with one row, no probe that judges it has seen any.
    single = np.array([0] * 20 + [1] * 24 + [2])
    found = label_surprisal(noise[:45], single, seed=0)
    assert np.isfinite(found).all()
    assert found.argmax() == 44
    assert np.isfinite(label_surprisal(noise[:4], np.array([0, 0, 1, 1]), seed=0)).all()
    alone = label_surprisal(noise[:50], np.array([0] * 49 + [1]), seed=0)
    assert np.isfinite(alone).all()
    assert alone.argmax() == 49
