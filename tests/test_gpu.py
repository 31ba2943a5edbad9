"""The kernels on a real GPU, against float64: run by benchmarks/gpu.sh, skipped where there is none."""

import math

import numpy as np
import pytest
import torch
from planted import FIELDS, allowed_entropy_error, expected, hopeless, planted

import euds
from euds.measures.device import on_device
from euds.ops.sample_stats import sample_mean_max

pytestmark = pytest.mark.gpu
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
LINEAR = ["triton_fused", "triton_tiles", "torch"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vocabulary", [1, 3, 128, 1025, 5003, 50257])
def test_planted_rows_and_odd_sizes(vocabulary: int, dtype: torch.dtype) -> None:
    logits = planted(vocabulary, dtype)
    targets = torch.full((len(logits),), vocabulary - 1)
    found = euds.token_stats(logits.cuda(), targets.cuda(), backend="triton")
    oracle = expected(logits, targets)
    error = np.abs(found.entropy.cpu().numpy() - oracle["entropy"])
    assert (error <= allowed_entropy_error(logits, oracle["entropy"])).all(), error
    for field in FIELDS[1:]:
        np.testing.assert_allclose(getattr(found, field).cpu(), oracle[field], rtol=1e-4, atol=2e-3, err_msg=field)
    spoilt = euds.token_stats(torch.cat([hopeless(vocabulary, dtype), logits]).cuda(), backend="triton").entropy.cpu()
    assert torch.isnan(spoilt[:4]).all()
    # Fewer rows are split into more parts, which round differently.
    torch.testing.assert_close(spoilt[4:], found.entropy.cpu(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", LINEAR)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "hidden_size", "vocabulary"), [(1, 64, 130), (257, 576, 4099), (130, 72, 999)])
def test_projections_of_odd_sizes(
    rows: int, hidden_size: int, vocabulary: int, dtype: torch.dtype, backend: str
) -> None:
    generator = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, hidden_size, generator=generator).to(dtype)
    weight = (torch.randn(vocabulary, hidden_size, generator=generator) / math.sqrt(hidden_size)).to(dtype)
    targets = torch.randint(0, vocabulary, (rows,), generator=generator)
    found = euds.linear_token_stats(hidden.cuda(), weight.cuda(), targets.cuda(), backend=backend)
    oracle = expected(hidden.double() @ weight.double().T, targets)
    # The other paths round each logit to the dtype of the products.
    tolerance = 3e-5 if dtype == torch.float32 or backend == "triton_fused" else 2e-2
    for field in FIELDS:
        found_values = getattr(found, field).cpu()
        np.testing.assert_allclose(found_values, oracle[field], rtol=1e-4, atol=tolerance, err_msg=field)


def test_results_do_not_change_between_runs() -> None:
    logits = 3 * torch.randn(700, 50257, device="cuda", dtype=torch.bfloat16)
    first = euds.token_stats(logits, backend="triton")
    again = euds.token_stats(logits, backend="triton")
    assert all(torch.equal(getattr(first, field), getattr(again, field)) for field in FIELDS[:4])


def test_more_than_two_to_the_31_elements() -> None:
    vocabulary = 151936
    rows = (1 << 31) // vocabulary + 20
    logits = torch.zeros(rows, vocabulary, device="cuda", dtype=torch.bfloat16)
    last = planted(vocabulary, torch.bfloat16)
    logits[-len(last) :] = last.cuda()
    found = euds.token_entropy(logits, backend="triton").cpu().numpy()
    oracle = expected(last, torch.zeros(len(last), dtype=torch.long))["entropy"]
    assert (np.abs(found[-len(last) :] - oracle) <= allowed_entropy_error(last, oracle)).all()
    np.testing.assert_allclose(found[: -len(last)], math.log(vocabulary), atol=1e-5)


def test_sample_means_and_maxima_equal_those_of_the_cpu() -> None:
    generator = torch.Generator().manual_seed(0)
    offsets = np.concatenate(([0], np.cumsum([3, 0, 1, 5000, 17])))
    values = torch.randn(3, int(offsets[-1]), generator=generator)
    on_cpu, on_gpu = sample_mean_max(values, offsets), sample_mean_max(values.cuda(), offsets)
    np.testing.assert_allclose(on_gpu[0], on_cpu[0], rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(on_gpu[1], on_cpu[1])


def test_copies_to_the_device_wait_for_nothing() -> None:
    tensor = torch.arange(1 << 20)
    torch.cuda.set_sync_debug_mode("error")
    try:
        # Strided, as the places of tokens in a batch are.
        moved = on_device(tensor[::2], torch.device("cuda"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(moved.cpu(), tensor[::2])
