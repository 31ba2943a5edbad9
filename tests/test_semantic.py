"""Semantic entropy of generations against worked examples and the float64 reference."""

import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import euds
from euds.errors import InvalidArgument
from euds.kernels.exp_log_numba import exp_in_place, log_in_place
from euds.kernels.semantic_numba import ragged_mass_entropy_dense
from euds.ops.semantic import (
    ESTIMATORS,
    KERNEL_SCALES,
    LAPLACIANS,
    kernel_language_entropy,
    n_groups,
    nearest_neighbor_entropy,
)
from euds.reference import entropy as reference
from euds.reference import semantic as similarity_reference

Ragged = st.lists(st.lists(st.integers(-3, 9), max_size=45), max_size=12)
Seeds = st.integers(0, 2**31)


def ragged(samples: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    ids = np.array([group for sample in samples for group in sample], np.int64)
    return ids, np.cumsum([0, *map(len, samples)])


def embedded(sizes: list[int], seed: int, width: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Random embeddings of samples with these numbers of generations: lengths differ, some point the same way."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(-2, 3, (sum(sizes), width)) + rng.choice([0.0, 0.1], (sum(sizes), 1)) + 0.01
    return (rows * rng.exponential(10.0, (len(rows), 1))).astype(np.float32), np.cumsum([0, *sizes])


def test_the_worked_example_of_the_method() -> None:
    groups, logprobs, offsets = [0, 0, 1, 2], [-0.1, -0.2, -1.0, -2.0], [0, 4]
    assert euds.semantic_entropy(groups, offsets=offsets)[0] == pytest.approx(1.0397, abs=5e-5)
    found = euds.semantic_entropy(groups, logprobs=logprobs, offsets=offsets, estimator="rao_blackwell")
    assert found[0] == pytest.approx(0.6659, abs=5e-5)


def test_discrete_takes_39_values_at_ten_generations() -> None:
    def partitions(left: int, largest: int) -> list[list[int]]:
        if left == 0:
            return [[]]
        return [[part, *rest] for part in range(1, min(left, largest) + 1) for rest in partitions(left - part, part)]

    samples = [[group for group, size in enumerate(sizes) for _ in range(size)] for sizes in partitions(10, 10)]
    ids, offsets = ragged(samples)
    assert len(set(np.round(euds.semantic_entropy(ids, offsets=offsets), 9))) == 39


@given(Ragged, Seeds)
@settings(max_examples=100, deadline=None)
def test_every_estimator_equals_the_reference(samples: list[list[int]], seed: int) -> None:
    groups, offsets = ragged(samples)
    rng = np.random.default_rng(seed)
    logprobs = np.where(rng.random(len(groups)) < 0.2, -np.inf, -rng.exponential(3.0, len(groups)))
    for estimator in ESTIMATORS:
        own = logprobs if estimator == "rao_blackwell" else None
        found = euds.semantic_entropy(groups, logprobs=own, offsets=offsets, estimator=estimator)
        oracle = [
            reference.semantic_entropy(sample, logprobs[start : start + len(sample)].tolist(), estimator)
            for sample, start in zip(samples, offsets, strict=False)
        ]
        np.testing.assert_allclose(found, oracle, atol=1e-9)
    np.testing.assert_array_equal(n_groups(groups, offsets), [*map(similarity_reference.n_groups, samples)])


@given(Ragged, Seeds)
@settings(max_examples=100, deadline=None)
def test_every_way_of_weighing_gives_the_same(samples: list[list[int]], seed: int) -> None:
    groups, offsets = ragged(samples)
    rng = np.random.default_rng(seed)
    logprobs = np.where(rng.random(len(groups)) < 0.3, -np.inf, -rng.exponential(3.0, len(groups)))
    weighed: dict[str, Any] = {"logprobs": logprobs, "offsets": offsets, "estimator": "rao_blackwell"}
    by_sorting = euds.semantic_entropy(10**12 * groups, **weighed)
    counted = euds.semantic_entropy(groups + 3, **weighed)
    np.testing.assert_allclose(counted, by_sorting, atol=1e-12)
    dense, drawn = ragged_mass_entropy_dense(groups + 3, logprobs, offsets, 13, 3), np.diff(offsets) > 0
    np.testing.assert_array_equal(dense[drawn], counted[drawn])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_million_generations_are_scored_like_a_few(estimator: str) -> None:
    n = (1 << 20) // 10 + 7
    rng = np.random.default_rng(0)
    groups, offsets = rng.integers(0, 5, 10 * n), np.arange(0, 10 * n + 1, 10)
    logprobs = -rng.exponential(1.0, 10 * n) if estimator == "rao_blackwell" else None
    whole = euds.semantic_entropy(groups, logprobs=logprobs, offsets=offsets, estimator=estimator)
    few = np.s_[10 * (n - 50) :]
    own = None if logprobs is None else logprobs[few]
    last = euds.semantic_entropy(groups[few], logprobs=own, offsets=offsets[:51], estimator=estimator)
    np.testing.assert_array_equal(whole[-50:], last)


@given(Ragged, Seeds)
@settings(max_examples=100, deadline=None)
def test_the_order_of_generations_and_the_names_of_groups_do_not_matter(samples: list[list[int]], seed: int) -> None:
    groups, offsets = ragged(samples)
    rng = np.random.default_rng(seed)
    logprobs = -rng.exponential(3.0, len(groups))
    order = np.concatenate(
        [start + rng.permutation(len(sample)) for sample, start in zip(samples, offsets, strict=False)] or [groups]
    )
    renamed = rng.permutation(13)[groups + 3] * 10**15
    for estimator in ESTIMATORS:
        weighed = estimator == "rao_blackwell"
        first = euds.semantic_entropy(
            groups, logprobs=logprobs if weighed else None, offsets=offsets, estimator=estimator
        )
        own = logprobs[order] if weighed else None
        second = euds.semantic_entropy(renamed[order], logprobs=own, offsets=offsets, estimator=estimator)
        np.testing.assert_allclose(first, second, atol=1e-12)
        if estimator in ("discrete", "rao_blackwell"):
            drawn = np.diff(offsets) > 0
            assert (first[drawn] >= 0).all()
            assert (first[drawn] <= np.log(n_groups(groups, offsets)[drawn]) + 1e-12).all()


def test_one_generation_has_no_entropy_and_none_is_nan() -> None:
    for estimator in ESTIMATORS:
        logprobs = [-3.0] if estimator == "rao_blackwell" else None
        found = euds.semantic_entropy([7], logprobs=logprobs, offsets=[0, 0, 1, 1], estimator=estimator)
        np.testing.assert_array_equal(found, [np.nan, 0, np.nan])
    np.testing.assert_array_equal(n_groups([7], [0, 0, 1, 1]), [0, 1, 0])
    assert euds.semantic_entropy(np.empty(0, int), offsets=[0]).shape == (0,)


def test_probability_zero_adds_nothing_and_all_zero_is_nan() -> None:
    found = euds.semantic_entropy(
        [0, 1, 2, 0, 1, 5],
        logprobs=[-0.7, -np.inf, -0.7, -np.inf, -np.inf, -np.inf],
        offsets=[0, 3, 5, 6],
        estimator="rao_blackwell",
    )
    assert found[0] == pytest.approx(math.log(2))
    assert np.isnan(found[1:]).all()


def test_a_text_drawn_twice_can_be_weighed_once() -> None:
    groups, logprobs, offsets = [0, 0, 1, 1, 0], np.log([0.5, 0.5, 0.25, 0.25, 0.5]), [0, 4, 5]
    double = euds.semantic_entropy(groups, logprobs=logprobs, offsets=offsets, estimator="rao_blackwell")
    # Two drawings of one text, and two texts of one meaning: 0.5 against 0.25 + 0.25.
    once = euds.semantic_entropy(
        groups, logprobs=logprobs, offsets=offsets, estimator="rao_blackwell", text_ids=[7, 7, 8, 9, 7]
    )
    third = 1 / 3
    assert double[0] == pytest.approx(-third * math.log(third) - 2 * third * math.log(2 * third))
    assert once[0] == pytest.approx(math.log(2))
    assert once[1] == 0


def test_exponentials_are_those_of_numpy() -> None:
    exponents = np.concatenate(
        [-np.random.default_rng(0).exponential(100.0, 4000).clip(0, 708), [0.0, -1e-320, -708.0]]
    )
    values, scratch = np.append(exponents, -1.0), np.empty(len(exponents) + 1, np.int64)
    exp_in_place(values, scratch, len(exponents))
    np.testing.assert_array_max_ulp(values[:-1], np.exp(exponents), maxulp=3)
    assert values[-1] == -1.0
    below = np.array([-708.1, -1e300, -np.inf])
    exp_in_place(below, scratch, 3)
    np.testing.assert_array_equal(below, 0.0)


def test_logarithms_are_those_of_numpy() -> None:
    near_1 = np.array([1.0, 1 - 2**-53, 1 + 2**-52, 1 - 1e-9, 1 + 1e-9])
    numbers = np.concatenate([np.random.default_rng(0).random(4000) ** 9, near_1, [0.5**0.5, 2**0.5, 1e-307, 1e300]])
    values, scratch = np.append(numbers, 7.0), np.empty(len(numbers) + 1, np.int64)
    log_in_place(values, scratch, len(numbers))
    np.testing.assert_array_max_ulp(values[:-1], np.log(numbers), maxulp=3)
    assert values[-1] == 7.0


def test_very_unlikely_generations_do_not_underflow() -> None:
    # Beside a likely sample, and one with a generation of probability 0.
    logprobs = [-2000.0, -2000.0, -0.5, -0.5, -1.0, -np.inf]
    both = euds.semantic_entropy([0, 1, 0, 1, 0, 1], logprobs=logprobs, offsets=[0, 2, 4, 6], estimator="rao_blackwell")
    assert both == pytest.approx([math.log(2), math.log(2), 0.0])
    found = euds.semantic_entropy([0, 1], logprobs=[-2000.0, -2000.0], offsets=[0, 2], estimator="rao_blackwell")
    assert found[0] == pytest.approx(math.log(2))


def test_the_rounding_of_a_log_softmax_is_no_error() -> None:
    found = euds.semantic_entropy([0, 1], logprobs=[1e-7, 0.0], offsets=[0, 2], estimator="rao_blackwell")
    assert found[0] == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"estimator": "rao_blackwell"}, "needs them"),
        ({"estimator": "rao_blackwell", "logprobs": [0.0]}, r"must be 3 numbers, one a generation; got shape \(1,\)"),
        ({"estimator": "rao_blackwell", "logprobs": [0.0, -1.0, math.nan]}, r"got nan at position 2 \(sample 2\)"),
        (
            {"estimator": "rao_blackwell", "logprobs": [-1.0, 0.5, 0.7]},
            r"at most 0, got 0.5 at position 1 \(sample 0\)",
        ),
        ({"estimator": "rao_blackwell", "logprobs": [-1.0, -1.0, math.inf]}, "got inf at position 2"),
        ({"estimator": "discrete", "logprobs": [0.0, 0.0, 0.0]}, "does not use them"),
        ({"estimator": "discrete", "text_ids": [0, 1, 2]}, "text_ids: estimator 'discrete' does not use them"),
        (
            {"estimator": "rao_blackwell", "logprobs": [-1.0, -1.0, -1.0], "text_ids": [0]},
            "text_ids: must be 3, one a generation; got 1",
        ),
        ({"estimator": "discreet"}, "did you mean 'discrete'"),
    ],
)
def test_semantic_entropy_names_what_is_wrong(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        euds.semantic_entropy([0, 1, 0], offsets=[0, 2, 2, 3], **arguments)  # type: ignore[arg-type]  # Wrong on purpose.


@given(st.lists(st.integers(1, 9), max_size=5), Seeds, st.sampled_from([0.01, 0.3, 1.0, 50.0]))
@settings(max_examples=60, deadline=None)
def test_neighbor_entropy_equals_the_reference(sizes: list[int], seed: int, temperature: float) -> None:
    rows, offsets = embedded(sizes, seed)
    found = nearest_neighbor_entropy(rows, offsets, similarity_temperature=temperature)
    oracle = [
        similarity_reference.nearest_neighbor_entropy(part.astype(np.float64), temperature)
        for part in np.split(rows, offsets[1:-1])
        if len(part)
    ]
    np.testing.assert_allclose(found, oracle, rtol=1e-10)
    assert (found <= -1 / temperature + 1e-9).all()
    assert (found >= -(1 / temperature + np.log(sizes)) - 1e-9).all()


@pytest.mark.parametrize("laplacian", LAPLACIANS)
@pytest.mark.parametrize("kernel_scale", KERNEL_SCALES)
@given(sizes=st.lists(st.integers(1, 9), max_size=5), seed=Seeds, time=st.sampled_from([1e-3, 0.3, 10.0]))
@settings(max_examples=40, deadline=None)
def test_kernel_entropy_equals_the_reference(
    laplacian: str, kernel_scale: str, sizes: list[int], seed: int, time: float
) -> None:
    rows, offsets = embedded(sizes, seed)
    found = kernel_language_entropy(rows, offsets, diffusion_time=time, laplacian=laplacian, kernel_scale=kernel_scale)
    oracle = [
        similarity_reference.kernel_language_entropy(part.astype(np.float64), time, laplacian, kernel_scale)
        for part in np.split(rows, offsets[1:-1])
        if len(part)
    ]
    np.testing.assert_allclose(found, oracle, atol=1e-9)
    assert (found >= 0).all()
    assert (found <= np.log(sizes) + 1e-9).all()


@pytest.mark.parametrize("laplacian", LAPLACIANS)
@pytest.mark.parametrize("kernel_scale", KERNEL_SCALES)
def test_after_an_endless_time_a_kernel_knows_the_parts_that_hang_together(laplacian: str, kernel_scale: str) -> None:
    # Two meanings without a relation, of three texts each, whose eigenvalues of 0 rounding tells apart.
    texts = np.abs(np.random.default_rng(0).normal(0.3, 1, (2, 6, 5))).astype(np.float32)
    texts[0, :3, :2] = texts[0, 3:, 2:] = 0
    found = kernel_language_entropy(
        texts.reshape(12, 5),
        [0, 6, 12],
        diffusion_time=1e100,
        laplacian=laplacian,
        kernel_scale=kernel_scale,
    )
    np.testing.assert_allclose(found, [math.log(2), 0.0], atol=1e-9)


def test_worked_values_of_the_similarity_entropies() -> None:
    same, apart = np.ones((4, 3)), np.eye(4)
    # Four that are one: sum_j = 4 e. Four without a relation: sum_j = e + 3.
    assert nearest_neighbor_entropy(same, [0, 4])[0] == pytest.approx(-1 - math.log(4))
    # Cosines of equal rows may round to more than 1, which a small temperature blows up.
    alike = np.tile(np.random.default_rng(0).normal(size=37), (4, 1))
    found = nearest_neighbor_entropy(alike, [0, 4], similarity_temperature=1e-20)[0]
    assert found == pytest.approx(-1e20)
    assert nearest_neighbor_entropy(apart, [0, 4])[0] == pytest.approx(-math.log(math.e + 3))
    # Without edges the kernel is the identity; the complete graph of four has eigenvalues 0, 4, 4, 4.
    assert kernel_language_entropy(apart, [0, 4])[0] == pytest.approx(math.log(4))
    p = np.array([1.0, *[math.exp(-0.5 * 4)] * 3])
    p /= p.sum()
    found = kernel_language_entropy(same, [0, 4], diffusion_time=0.5)
    assert found[0] == pytest.approx(float(-(p * np.log(p)).sum()))
    assert kernel_language_entropy(same, [0, 4], diffusion_time=50.0, laplacian="normalized")[0] == pytest.approx(0)


@pytest.mark.parametrize("kernel_scale", KERNEL_SCALES)
def test_rounding_is_no_edge_of_a_normalized_graph(kernel_scale: str) -> None:
    rotated, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))
    found = kernel_language_entropy(
        rotated, [0, 8], diffusion_time=5.0, laplacian="normalized", kernel_scale=kernel_scale
    )
    assert found[0] == pytest.approx(math.log(8))


def test_samples_of_many_generations_are_computed_side_by_side_without_more_threads() -> None:
    # OpenBLAS warns on stderr, from 100 rows on, where threads of ours would each start all of its own.
    script = """
import numpy as np, euds
rows = np.random.default_rng(0).normal(size=(480, 4))
print(euds.kernel_language_entropy(rows, [0, 120, 240, 360, 480])[0])
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, env=environment)
    assert done.stderr == ""
    rows = np.random.default_rng(0).normal(size=(480, 4))[:120]
    oracle = similarity_reference.kernel_language_entropy(rows, 0.3, "combinatorial", "trace")
    assert float(done.stdout) == pytest.approx(oracle, abs=1e-6)


def test_similarity_entropies_of_no_one_and_broken_generations() -> None:
    rows = np.array([[1, 2], [0, 0], [1, 0], [1, 0], [math.nan, 1], [1, math.inf], [2, 1]], np.float32)
    offsets = [0, 0, 1, 3, 5, 7]
    for found, of_one in (
        (nearest_neighbor_entropy(rows, offsets, similarity_temperature=0.5), -2.0),
        (kernel_language_entropy(rows, offsets), 0.0),
        (kernel_language_entropy(rows, offsets, kernel_scale="unit_diagonal"), 0.0),
    ):
        np.testing.assert_allclose(found, [math.nan, of_one, math.nan, math.nan, math.nan], atol=1e-12)


def test_the_length_of_embeddings_does_not_matter() -> None:
    rows, offsets = embedded([5, 3], 1)
    huge = rows.astype(np.float64) * np.array([1e-300, 1e300, 1, 1e-170, 1e170, 1, 1, 1])[:, None]
    for entropy in (nearest_neighbor_entropy, kernel_language_entropy):
        np.testing.assert_allclose(entropy(huge, offsets), entropy(rows, offsets), atol=1e-6)


def test_similarity_entropies_name_what_is_wrong() -> None:
    rows = np.eye(3)
    with pytest.raises(InvalidArgument, match="similarity_temperature: must be finite and above 0, got 0"):
        nearest_neighbor_entropy(rows, [0, 3], similarity_temperature=0)
    with pytest.raises(InvalidArgument, match="diffusion_time: must be finite and above 0, got nan"):
        kernel_language_entropy(rows, [0, 3], diffusion_time=math.nan)
    with pytest.raises(InvalidArgument, match="did you mean 'normalized'"):
        kernel_language_entropy(rows, [0, 3], laplacian="normalised")
    with pytest.raises(InvalidArgument, match="kernel_scale: unknown value 'max'"):
        kernel_language_entropy(rows, [0, 3], kernel_scale="max")
    with pytest.raises(InvalidArgument, match="embeddings: must be a matrix of real numbers"):
        nearest_neighbor_entropy(np.eye(3) * 1j, [0, 3])
    with pytest.raises(InvalidArgument, match="offsets: must rise from 0 to 3"):
        nearest_neighbor_entropy(rows, [0, 4])
