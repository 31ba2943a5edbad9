"""Clustering entropy: planted clusters, the float64 reference, shards, calibration."""

import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pytest

import euds
from euds.engine.pool import _embedded
from euds.engine.work import Work
from euds.errors import InvalidArgument
from euds.kernels import cluster_faiss
from euds.ops import cluster
from euds.ops.calibration import EndShares, calibrate_temperature, share_at_ends
from euds.ops.cluster import (
    default_n_clusters,
    entropy_to_centroids,
    fit_centroids,
    index_centroids,
    sample_rows,
    trained_rows,
)
from euds.reference import entropy as reference


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
    masked = np.ma.masked_array(np.vstack([embeddings, embeddings[:2]]), np.arange(52)[:, None].repeat(8, 1) >= 50)
    found = euds.cluster_entropy(masked, n_clusters=4)
    np.testing.assert_allclose(found[:50], clean, atol=1e-6)
    assert np.isnan(found[50:]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_clusters": 0}, r"n_clusters: must be 1\.\.10"),
        ({"n_clusters": 11}, r"n_clusters: must be 1\.\.10"),
        ({"n_clusters": 3, "n_neighbors": 4}, r"n_neighbors: must be 1\.\.3"),
        ({"n_clusters": 3, "similarity_temperature": 0.0}, "similarity_temperature: must be finite and above 0"),
        ({"n_clusters": 3, "similarity_temperature": "1"}, "similarity_temperature: must be a number, got '1'"),
        ({"n_clusters": 3, "seed": -1}, "seed: must be in 0.."),
        ({"n_clusters": 3, "seed": 2**31}, "seed: must be in 0.."),
    ],
)
def test_cluster_entropy_names_what_is_wrong(
    arguments: dict[str, float], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "seed" not in arguments:
        # Before the time goes.
        monkeypatch.setattr("euds.ops.cluster.fit_centroids", lambda *_, **__: pytest.fail("it clustered"))
    with pytest.raises(InvalidArgument, match=message):
        euds.cluster_entropy(blobs(10, 4, 0), **arguments)  # type: ignore[arg-type]  # Wrong on purpose.
    with pytest.raises(InvalidArgument, match="must be a matrix"):
        euds.cluster_entropy([1.0, 2.0], n_clusters=1)
    with pytest.raises(InvalidArgument, match="embeddings: must be a matrix of real numbers: "):
        euds.cluster_entropy([[1.0, 2.0], [3.0]], n_clusters=1)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.int64])
def test_numpys_integers_are_taken(kind: type[np.integer[Any]]) -> None:
    embeddings = blobs(50, 8, 0)
    numbers: dict[str, Any] = {"n_clusters": kind(5), "n_neighbors": kind(3)}
    found = euds.cluster_entropy(embeddings, **numbers)
    np.testing.assert_array_equal(found, euds.cluster_entropy(embeddings, n_clusters=5, n_neighbors=3))


@pytest.mark.parametrize("n", [1, 2, 3, 10, 1500, 10**9])
def test_the_default_number_of_clusters_fits_the_pool(n: int) -> None:
    assert 1 <= default_n_clusters(n) <= max(1, n // 2)


def planted(n: int, n_clusters: int, width: int, seed: int, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings around orthogonal centres, and the centre of each."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(width, n_clusters)))[0].T
    groups = rng.integers(0, n_clusters, n)
    return (centres[groups] + noise * rng.normal(size=(n, width))).astype(np.float32), groups


def test_planted_clusters_are_recovered() -> None:
    embeddings, groups = planted(3001, 7, 24, 0)
    # More centroids than clusters: each belongs to one, and none is shared.
    centroids = fit_centroids(embeddings, n_clusters=21, seed=1)
    _, nearest = entropy_to_centroids(embeddings, centroids, n_neighbors=1, similarity_temperature=0.05)
    for centroid in range(21):
        assert len(set(groups[nearest == centroid])) == 1
    between = embeddings[groups == 0][:40] + embeddings[groups == 1][:40]
    index = index_centroids(fit_centroids(embeddings, n_clusters=7, seed=1))
    inside, doubtful = (
        entropy_to_centroids(rows, index, n_neighbors=7, similarity_temperature=0.05)[0]
        for rows in (embeddings, between)
    )
    assert doubtful.min() > inside.max()


def test_shards_and_blocks_do_not_change_a_score(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = blobs(1003, 16, 3)
    embeddings[500] = 0
    centroids = fit_centroids(embeddings[:400], n_clusters=9)
    whole, nearest = entropy_to_centroids(embeddings, centroids, n_neighbors=4, similarity_temperature=0.1)
    assert np.isnan(whole[500])
    assert nearest[500] == -1
    index = index_centroids(centroids)
    parts = [
        entropy_to_centroids(part, index, n_neighbors=4, similarity_temperature=0.1)[0]
        for part in np.split(embeddings, [10, 10, 700])
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)
    monkeypatch.setattr(cluster, "BLOCK_ROWS", 100)
    blocks, ids = entropy_to_centroids(embeddings, centroids, n_neighbors=4, similarity_temperature=0.1)
    np.testing.assert_allclose(blocks, whole, atol=1e-5)
    np.testing.assert_array_equal(ids, nearest)


def test_a_large_pool_is_clustered_from_a_seeded_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (trained_rows(10), trained_rows(4096)) == (65_536, 262_144)
    chosen = sample_rows(1000, 70, 5)
    assert len(set(chosen)) == 70
    np.testing.assert_array_equal(chosen, np.sort(chosen))
    np.testing.assert_array_equal(chosen, sample_rows(1000, 70, 5))
    assert set(chosen) != set(sample_rows(1000, 70, 6))
    np.testing.assert_array_equal(sample_rows(5, 9, 0), range(5))

    monkeypatch.setattr(cluster, "TRAINED_ROWS", 300)
    embeddings, _ = planted(2000, 4, 16, 1)
    embeddings[::7] = np.nan
    found = euds.cluster_entropy(embeddings, n_clusters=4, n_neighbors=3, seed=2)
    usable = np.flatnonzero(np.isfinite(embeddings[:, 0]))
    sample = embeddings[usable[sample_rows(len(usable), 300, 2)]]
    oracle, _ = entropy_to_centroids(
        embeddings, fit_centroids(sample, n_clusters=4, seed=2), n_neighbors=3, similarity_temperature=0.05
    )
    np.testing.assert_array_equal(found, oracle)
    np.testing.assert_array_equal(found, euds.cluster_entropy(embeddings, n_clusters=4, n_neighbors=3, seed=2))


def test_one_cluster_and_as_many_as_rows() -> None:
    embeddings = blobs(20, 6, 4)
    np.testing.assert_array_equal(euds.cluster_entropy(embeddings, n_clusters=1), np.zeros(20))
    each = euds.cluster_entropy(embeddings, n_clusters=20, n_neighbors=2, similarity_temperature=1e-4)
    assert np.median(each) < 1e-3
    same = euds.cluster_entropy(np.ones((20, 6)), n_clusters=5, n_neighbors=5, similarity_temperature=10.0)
    np.testing.assert_allclose(same, math.log(5), atol=1e-5)


def test_no_rows_and_no_directions() -> None:
    assert euds.cluster_entropy(np.empty((0, 4)), n_clusters=1).shape == (0,)
    assert np.isnan(euds.cluster_entropy(np.zeros((3, 4)), n_clusters=1)).all()
    with pytest.raises(InvalidArgument, match=r"n_clusters: must be 1\.\.1, the usable rows; got 2"):
        euds.cluster_entropy([[1.0, 2.0], [0.0, 0.0]], n_clusters=2)


def test_members_that_cancel_out_get_a_centroid_with_a_direction() -> None:
    centroids = fit_centroids([[1.0, 0.0], [-1.0, 0.0]] * 5, n_clusters=1)
    np.testing.assert_array_equal(np.abs(centroids), [[1.0, 0.0]])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda centroids: 10 * centroids, "centroids: row 0 has norm 10, must be 1, as euds.fit_centroids returns"),
        (lambda centroids: np.where(np.arange(4)[:, None] == 2, np.nan, centroids), "centroids: row 2 has norm nan"),
        (lambda centroids: centroids[0], r"centroids: must be a matrix of real numbers, got float32 of shape \(8,\)"),
        (lambda centroids: None, "centroids: must be a matrix of real numbers, got object"),
    ],
)
def test_what_is_no_centroids_is_refused(change: Callable[[np.ndarray], Any], said: str) -> None:
    embeddings = blobs(50, 8, 2)
    centroids = change(fit_centroids(embeddings, n_clusters=4))
    with pytest.raises(InvalidArgument, match=said):
        calibrate_temperature(embeddings, centroids, n_neighbors=3)


def test_centroids_of_another_kind_give_the_same() -> None:
    embeddings = blobs(50, 8, 2)
    centroids = fit_centroids(embeddings, n_clusters=4)
    expected = calibrate_temperature(embeddings, centroids, n_neighbors=3)
    for same in (centroids.tolist(), centroids.astype(np.float64)):
        assert calibrate_temperature(embeddings, same, n_neighbors=3) == expected


def test_a_gpu_is_used_only_where_the_module_and_a_device_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(faiss, "StandardGpuResources", raising=False)
    assert cluster_faiss.gpu_of("auto") is None
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0, raising=False)
    assert cluster_faiss.gpu_of("cuda:1") is None
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2, raising=False)
    # What runs on the CPU also clusters there: a run that goes on elsewhere must not change its place.
    assert [cluster_faiss.gpu_of(device) for device in ("cpu", "auto", "cuda", "cuda:1")] == [None, 0, 0, 1]
    for device, said in (("cuda:2", "FAISS sees 2 GPU"), ("gpu", "must be auto, cpu, cuda or cuda:N")):
        with pytest.raises(InvalidArgument, match=f"device: {said}.*{device}"):
            fit_centroids(blobs(50, 4, 2), n_clusters=2, device=device)


def test_more_neighbors_than_a_gpu_finds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss, "GpuIndex", faiss.IndexFlat, raising=False)
    monkeypatch.setattr(cluster_faiss, "MOST_GPU_NEIGHBORS", 2)
    embeddings = blobs(50, 4, 2)
    euds.cluster_entropy(embeddings, n_clusters=4, n_neighbors=2)
    with pytest.raises(InvalidArgument, match="n_neighbors: FAISS finds 2 on a GPU at most, got 3; take fewer"):
        euds.cluster_entropy(embeddings, n_clusters=4, n_neighbors=3)


@pytest.mark.parametrize("target", [0.1, 0.5, 0.9])
def test_calibration_reaches_the_target_mean(target: float) -> None:
    embeddings = blobs(700, 12, 5)
    embeddings[3], embeddings[4, 0] = 0, np.inf
    centroids = fit_centroids(np.delete(embeddings, [3, 4], 0), n_clusters=16)
    found = calibrate_temperature(embeddings, centroids, n_neighbors=6, target_mean=target)
    unit = np.delete(embeddings, [3, 4], 0).astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    scores = np.array(
        [reference.cluster_entropy(row, centroids.astype(np.float64), 6, found.similarity_temperature) for row in unit]
    )
    assert scores.mean() / math.log(6) == pytest.approx(target, abs=1e-4)
    assert found.mean_of_range == pytest.approx(target, abs=1e-4)
    assert found.n_sampled == 698
    assert found.ends.low == pytest.approx((scores <= 0.01 * math.log(6)).mean(), abs=0.002)
    assert found.ends.high == pytest.approx((scores >= 0.99 * math.log(6)).mean(), abs=0.002)


def test_calibration_spreads_what_the_default_leaves_at_one_end() -> None:
    embeddings, _ = planted(2000, 8, 32, 6, noise=0.02)
    centroids = fit_centroids(embeddings, n_clusters=8)
    stuck, _ = entropy_to_centroids(embeddings, centroids, n_neighbors=8, similarity_temperature=0.05)
    assert share_at_ends(stuck, 8).low > 0.99
    found = calibrate_temperature(embeddings, centroids, n_neighbors=8, sample_size=500, seed=1)
    assert found == calibrate_temperature(embeddings, centroids, n_neighbors=8, sample_size=500, seed=1)
    assert found.n_sampled == 500
    assert found.ends.low == found.ends.high == 0


def test_shares_at_the_ends() -> None:
    entropy = np.array([0.0, 0.005, 0.5, 0.995, 1.0, math.nan, 0.3, 0.4, 0.6, 0.7, 0.8]) * math.log(4)
    found = share_at_ends(entropy, 4)
    assert (found.low, found.high) == (0.2, 0.2)
    assert share_at_ends(entropy, 4, margin=0).low == 0.1
    assert share_at_ends(entropy, 4, margin=0.5) == EndShares(low=0.5, high=0.6)
    for arguments, message in (
        ({"n_neighbors": 4, "margin": 0.51}, r"margin: must be 0\.\.0\.5, got 0\.51"),
        ({"n_neighbors": 4, "margin": -0.01}, r"margin: must be 0\.\.0\.5, got -0\.01"),
        ({"n_neighbors": 1}, "n_neighbors: must be at least 2, got 1"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            share_at_ends(entropy, **arguments)


def test_calibration_names_what_is_wrong() -> None:
    embeddings, centroids = blobs(30, 4, 7), np.eye(4, dtype=np.float32)
    cases: list[tuple[dict[str, float], str]] = [
        ({"n_neighbors": 1}, "n_neighbors: must be at least 2"),
        ({"n_neighbors": 5}, r"n_neighbors: must be 1\.\.4"),
        ({"n_neighbors": 2, "target_mean": 1.0}, "target_mean: must be between 0 and 1"),
        ({"n_neighbors": 2, "target_mean": 0}, "target_mean: must be between 0 and 1"),
        ({"n_neighbors": 2, "sample_size": 0}, "sample_size: must be at least 1"),
        ({"n_neighbors": 2, "sample_size": 2.5}, "sample_size: must be an integer"),
        ({"n_neighbors": 2.5}, "n_neighbors: must be an integer"),
        ({"n_neighbors": 2, "seed": -1}, "seed: must be in 0.."),
    ]
    for arguments, message in cases:
        with pytest.raises(InvalidArgument, match=message):
            calibrate_temperature(embeddings, centroids, **arguments)  # type: ignore[arg-type]  # Wrong on purpose.
    with pytest.raises(InvalidArgument, match="embeddings: no row has a direction"):
        calibrate_temperature(np.zeros((3, 4)), centroids, n_neighbors=2)
    with pytest.raises(InvalidArgument, match=r"target_mean: 0\.5 cannot be reached; .* gives 1\.0000 to 1\.0000"):
        calibrate_temperature(np.ones((3, 4)), centroids, n_neighbors=2)
    with pytest.raises(InvalidArgument, match="embeddings: width 3, but the centroids have 4"):
        calibrate_temperature(np.ones((3, 3)), centroids, n_neighbors=2)
    with pytest.raises(InvalidArgument, match="entropy: every value is NaN"):
        share_at_ends([math.nan], 4)
    with pytest.raises(InvalidArgument, match=r"n_clusters: must be an integer, got 2\.5"):
        fit_centroids(embeddings, n_clusters=2.5)  # type: ignore[arg-type]  # Wrong on purpose.


def test_half_precision_takes_no_second_copy() -> None:
    embeddings = np.random.default_rng(0).normal(size=(300_000, 32)).astype(np.float16)
    embeddings[7] = 0
    centroids = fit_centroids(embeddings[1000:2000].astype(np.float32), n_clusters=16)
    calibrate_temperature(embeddings[:100], centroids, n_neighbors=4)
    tracemalloc.start()
    try:
        found = calibrate_temperature(embeddings, centroids, n_neighbors=4, sample_size=1000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.n_sampled == 1000
    # In float64 it would be 77 MB.
    assert peak < 30e6


def test_where_embeddings_are_is_told_by_their_reasons_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(tmp_path)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(4 * 8, np.float32)), 8)
    reasons = {"tokens": [None, "bad", None, None], "embeddings": [None, None, None, "bad"]}
    for stage, own in reasons.items():
        work.write(stage, 0, pa.table({"vector": vectors, "reason": pa.array(own, pa.string())}), 0.0)
    read: list[pa.Table] = []
    real = Work.read

    def reading(*arguments: Any) -> pa.Table:
        read.append(real(*arguments))
        return read[-1]

    monkeypatch.setattr(Work, "read", reading)
    assert _embedded(work, 0).tolist() == [0, 2]
    assert [table.column_names for table in read] == [["reason"], ["reason"]]
    assert real(work, "tokens", 0).column_names == ["vector", "reason"]


def test_copies_of_a_text_draw_several_centroids_to_it() -> None:
    texts = np.random.default_rng(0).normal(size=(4, 24))
    copies = np.repeat(texts, 500, axis=0)
    assert euds.cluster_entropy(texts, n_clusters=4).max() < 0.01
    # As docs/semantic.md warns: several centroids lie on one text, which belongs to them all.
    assert euds.cluster_entropy(copies, n_clusters=default_n_clusters(len(copies))).min() > 1
