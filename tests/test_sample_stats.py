"""Per-sample means and maxima against NumPy, sample by sample."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from euds.errors import InvalidArgument, InvalidType
from euds.ops.sample_stats import begin_sample_mean_max


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(0, 2**32 - 1))
def test_every_sample_equals_numpy(lengths: list[int], seed: int) -> None:
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    values = np.random.default_rng(seed).normal(size=(2, int(offsets[-1]))).astype(np.float32)
    means, maxima = begin_sample_mean_max(torch.from_numpy(values), offsets)()
    assert means.shape == maxima.shape == (2, len(lengths))
    assert means.dtype == maxima.dtype == np.float32
    for at, (start, stop) in enumerate(pairwise(offsets)):
        run = values[:, start:stop].astype(np.float64)
        expected_means = run.mean(1) if run.size else [math.nan] * 2
        expected_maxima = run.max(1) if run.size else [math.nan] * 2
        np.testing.assert_allclose(means[:, at], expected_means, rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(maxima[:, at], np.asarray(expected_maxima, np.float32))


def test_a_nan_spoils_its_own_sample_only_and_long_samples_lose_nothing() -> None:
    values = torch.ones(1, 3000)
    values[0, 0] = math.nan
    values[0, 10] = 2.0**24
    means, maxima = begin_sample_mean_max(values, [0, 10, 3000])()
    assert math.isnan(means[0, 0])
    assert math.isnan(maxima[0, 0])
    assert means[0, 1] == pytest.approx((2**24 + 2989) / 2990, rel=1e-7)
    assert maxima[0, 1] == 2.0**24


def test_a_sign_that_torch_has_still_to_change_is_changed() -> None:
    means, maxima = begin_sample_mean_max(torch._neg_view(torch.tensor([[1.0, 3.0]])), [0, 2])()
    assert (means[0, 0], maxima[0, 0]) == (-2.0, -1.0)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(InvalidType, match="float32 tensor"):
        begin_sample_mean_max(torch.zeros(1, 2, dtype=torch.float64), [0, 2])
    with pytest.raises(InvalidType, match="float32 tensor, got list"):
        begin_sample_mean_max([[0.0]], [0, 1])  # type: ignore[arg-type]  # Wrong on purpose.
    with pytest.raises(InvalidArgument, match=r"shape \(F, N\)"):
        begin_sample_mean_max(torch.zeros(2), [0, 2])
    with pytest.raises(InvalidArgument, match="rise from 0 to 2"):
        begin_sample_mean_max(torch.zeros(1, 2), [0, 3])
