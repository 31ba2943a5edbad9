"""Information, semantic and clustering entropy against scipy, worked examples and the float64 reference."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import euds
from euds.errors import InvalidArgument
from euds.ops.cluster import default_n_clusters, entropy_to_centroids, fit_centroids
from euds.ops.information import unigram_surprisal
from euds.reference import entropy as reference

Ragged = st.lists(st.lists(st.integers(0, 9), max_size=30), max_size=12)


def ragged(samples: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    ids = np.array([token for sample in samples for token in sample], np.int64)
    return ids, np.cumsum([0, *map(len, samples)])


@given(Ragged)
@settings(max_examples=150, deadline=None)
def test_information_entropy_equals_scipy(samples: list[list[int]]) -> None:
    found = euds.information_entropy(*ragged(samples))
    assert found.shape == (len(samples),)
    for sample, value in zip(samples, found, strict=True):
        oracle = scipy.stats.entropy(np.unique(sample, return_counts=True)[1]) if sample else 0.0
        assert value == pytest.approx(oracle, abs=1e-12)
        assert not math.copysign(1, value) < 0


@pytest.mark.parametrize("estimator", ["plugin", "miller_madow", "chao_shen"])
@given(samples=Ragged)
@settings(max_examples=100, deadline=None)
def test_estimators_equal_the_reference(estimator: str, samples: list[list[int]]) -> None:
    found = euds.information_entropy(*ragged(samples), estimator=estimator)
    oracle = [reference.information_entropy(sample, estimator) for sample in samples]
    np.testing.assert_allclose(found, oracle, atol=1e-12)


def test_long_samples_and_all_different_tokens() -> None:
    ids = np.random.default_rng(0).permutation(100_003)
    assert euds.information_entropy(ids, [0, len(ids)])[0] == pytest.approx(math.log(len(ids)))


@given(Ragged)
@settings(max_examples=100, deadline=None)
def test_surprisal_equals_the_reference(samples: list[list[int]]) -> None:
    ids, offsets = ragged(samples)
    counts = np.bincount(ids, minlength=10)
    found = unigram_surprisal(ids, offsets, counts)
    oracle = [reference.unigram_surprisal(sample, counts.tolist()) for sample in samples]
    np.testing.assert_allclose(found, oracle, atol=1e-12)


@pytest.mark.parametrize(
    ("ids", "offsets", "message"),
    [
        ([1.5], [0, 1], "token_ids: must be a flat array of integers"),
        ([[1]], [0, 1], "token_ids: must be a flat array"),
        ([1, 2], [0, 1], "offsets: must rise from 0 to 2"),
        ([1, 2], [0, 2, 1, 2], "offsets: must rise"),
        ([1, 2], [], "offsets: must rise"),
    ],
)
def test_bad_ragged_arrays_are_named(ids: list[object], offsets: list[int], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        euds.information_entropy(ids, offsets)  # type: ignore[arg-type]  # Wrong on purpose.


def test_surprisal_refuses_ids_without_a_count() -> None:
    with pytest.raises(InvalidArgument, match=r"must lie in 0\.\.1"):
        unigram_surprisal([0, 2], [0, 2], [1, 1])


def blobs(n: int, width: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(5, width))
    rows: np.ndarray = centres[rng.integers(0, 5, n)] + 0.3 * rng.normal(size=(n, width))
    return rows.astype(np.float32)


def test_cluster_entropy_equals_the_reference() -> None:
    embeddings = blobs(200, 16, 0)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    centroids = fit_centroids(embeddings, n_clusters=12, seed=3)
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-5)
    found = euds.cluster_entropy(embeddings, n_clusters=12, n_neighbors=5, similarity_temperature=0.1, seed=3)
    oracle = [reference.cluster_entropy(row.astype(np.float64), centroids.astype(np.float64), 5, 0.1) for row in unit]
    np.testing.assert_allclose(found, oracle, atol=1e-5)
    assert (found >= 0).all()
    assert (found <= math.log(5) + 1e-6).all()


def test_cluster_entropy_is_seeded_and_ignores_the_length_of_rows() -> None:
    embeddings = blobs(150, 8, 1)
    first = euds.cluster_entropy(embeddings, n_clusters=6, seed=4)
    np.testing.assert_array_equal(first, euds.cluster_entropy(embeddings, n_clusters=6, seed=4))
    scaled = embeddings * np.random.default_rng(0).choice([1e-30, 1.0, 1e30], size=(150, 1))
    np.testing.assert_allclose(euds.cluster_entropy(scaled.astype(np.float64), n_clusters=6, seed=4), first, atol=1e-3)


def test_a_sample_between_groups_is_more_uncertain_than_one_within() -> None:
    centroids = np.eye(4, dtype=np.float32)
    entropy, nearest = entropy_to_centroids(
        [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]], centroids, n_neighbors=4, similarity_temperature=0.1
    )
    assert entropy[0] < entropy[1] < entropy[2] == pytest.approx(math.log(4))
    assert nearest[0] == 0


def test_rows_without_a_direction_are_nan_and_take_no_part() -> None:
    embeddings = blobs(50, 8, 2)
    clean = euds.cluster_entropy(embeddings, n_clusters=4)
    broken = np.vstack([embeddings, np.zeros((1, 8)), np.full((1, 8), np.nan)])
    found = euds.cluster_entropy(broken, n_clusters=4)
    np.testing.assert_array_equal(found[:50], clean)
    assert np.isnan(found[50:]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_clusters": 0}, r"n_clusters: must be 1\.\.10"),
        ({"n_clusters": 11}, r"n_clusters: must be 1\.\.10"),
        ({"n_clusters": 3, "n_neighbors": 4}, r"n_neighbors: must be 1\.\.3"),
        ({"n_clusters": 3, "similarity_temperature": 0.0}, "similarity_temperature: must be finite and above 0"),
        ({"n_clusters": 3, "seed": -1}, "seed: must not be negative"),
    ],
)
def test_cluster_entropy_names_what_is_wrong(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        euds.cluster_entropy(blobs(10, 4, 0), **arguments)  # type: ignore[arg-type]  # Wrong on purpose.
    with pytest.raises(InvalidArgument, match="must be a matrix"):
        euds.cluster_entropy([1.0, 2.0], n_clusters=1)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 1500, 10**9])
def test_the_default_number_of_clusters_fits_the_pool(n: int) -> None:
    assert 1 <= default_n_clusters(n) <= max(1, n // 2)
