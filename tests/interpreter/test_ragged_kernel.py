"""Per-sample means and maxima in Triton against NumPy in float64, under Triton's interpreter."""

import itertools
import math

import numpy as np
import pytest
import torch

from euds.kernels.ragged_stats_triton import BLOCK, ragged_mean_max

# The interpreter is NumPy, which warns of infinities that the kernel means.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def test_every_sample_equals_numpy() -> None:
    lengths = [1, 0, 7, BLOCK, BLOCK + 1, 0, 3 * BLOCK + 5, 2]
    offsets = torch.tensor([0, *np.cumsum(lengths)])
    generator = torch.Generator().manual_seed(0)
    # A slice of a wider tensor: the rows are not side by side.
    values = (torch.randn(3, int(offsets[-1]) + 4, generator=generator) - 5)[:, 2:-2]
    means, maxima = ragged_mean_max(values, offsets)
    assert means.shape == maxima.shape == (3, len(lengths))
    for row, found_means, found_maxima in zip(values.double().numpy(), means, maxima, strict=True):
        runs = [row[start:stop] for start, stop in itertools.pairwise(offsets)]
        np.testing.assert_allclose(found_means, [run.mean() if len(run) else math.nan for run in runs], rtol=1e-7)
        np.testing.assert_array_equal(found_maxima, [run.max() if len(run) else math.nan for run in runs])


@pytest.mark.parametrize("at", [0, 3, BLOCK, BLOCK + 9])
def test_a_nan_spoils_its_own_sample_only(at: int) -> None:
    values = torch.ones(1, 2 * BLOCK + 20)
    values[0, 5 + at] = math.nan
    means, maxima = ragged_mean_max(values, torch.tensor([0, 5, BLOCK + 15, 2 * BLOCK + 20]))
    for found in (means, maxima):
        spoilt = 1 if at < BLOCK + 10 else 2
        assert torch.isnan(found).nonzero().tolist() == [[0, spoilt]]
        assert (found[~torch.isnan(found)] == 1).all()


def test_a_long_sample_loses_nothing() -> None:
    # In float32, 1 vanishes beside 2^24.
    values = torch.ones(1, 4 * BLOCK)
    values[0, 0] = 2.0**24
    means, maxima = ragged_mean_max(values, torch.tensor([0, 4 * BLOCK]))
    assert means.item() == pytest.approx((2**24 + 4 * BLOCK - 1) / (4 * BLOCK), rel=1e-7)
    assert maxima.item() == 2.0**24


def test_infinities_and_nothing_at_all() -> None:
    means, maxima = ragged_mean_max(torch.tensor([[-math.inf, 1.0, math.inf]]), torch.tensor([0, 2, 3]))
    assert means.tolist() == [[-math.inf, math.inf]]
    assert maxima.tolist() == [[1.0, math.inf]]
    means, maxima = ragged_mean_max(torch.zeros(2, 0), torch.tensor([0]))
    assert means.shape == maxima.shape == (2, 0)
