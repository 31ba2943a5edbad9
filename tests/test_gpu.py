"""The kernels on a real GPU, against float64: run by benchmarks/gpu.sh, skipped where there is none."""

import functools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from planted import FIELDS, allowed_entropy_error, check_logprob, expected, hopeless, planted

import euds
from euds.corpus import part_files, read_scores
from euds.errors import InvalidArgument
from euds.measures import packing
from euds.measures.causal_lm import CausalLM
from euds.measures.device import on_device, precision
from euds.measures.inference import FusedRMSNorm
from euds.measures.packing import packed_hidden_states
from euds.measures.semantic import Embedder
from euds.measures.tokens import load_tokenizer
from euds.ops.cluster import entropy_to_centroids, fit_centroids
from euds.ops.sample_stats import begin_sample_mean_max
from euds.types import Float64Array

pytestmark = pytest.mark.gpu
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
LINEAR = ["triton_fused", "triton_tiles", "torch"]


@pytest.fixture(autouse=True)
def _poison() -> Iterator[None]:
    """Fill what is allocated with NaN, so that a value never written is seen."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vocabulary", [1, 3, 128, 1025, 5003, 50257])
def test_planted_rows_and_odd_sizes(vocabulary: int, dtype: torch.dtype) -> None:
    logits = planted(vocabulary, dtype)
    targets = torch.full((len(logits),), vocabulary - 1)
    found = euds.token_stats(logits.cuda(), targets.cuda(), backend="triton")
    oracle = expected(logits, targets)
    error = np.abs(found.entropy.cpu().numpy() - oracle["entropy"])
    assert (error <= allowed_entropy_error(logits, oracle["entropy"])).all(), error
    for field in FIELDS[1:3]:
        np.testing.assert_allclose(getattr(found, field).cpu(), oracle[field], rtol=1e-4, atol=2e-3, err_msg=field)
    np.testing.assert_allclose(found.max_prob.cpu(), oracle["max_prob"], rtol=1e-5)
    assert found.target_logprob is not None
    check_logprob(found.target_logprob.cpu(), logits, targets)
    spoilt = euds.token_stats(torch.cat([hopeless(vocabulary, dtype), logits]).cuda(), backend="triton").entropy.cpu()
    assert torch.isnan(spoilt[:4]).all()
    # Fewer rows are split into more parts, which round differently.
    torch.testing.assert_close(spoilt[4:], found.entropy.cpu(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("vocabulary", "times"), [(5003, 120), (50257, 120)])
def test_planted_rows_that_are_not_split(vocabulary: int, times: int, dtype: torch.dtype) -> None:
    # Enough rows that each is one program's, which goes round the main loop once or several times.
    logits = planted(vocabulary, dtype)
    targets = torch.arange(len(logits))
    found = euds.token_stats(logits.cuda().repeat(times, 1), targets.cuda().repeat(times), backend="triton")
    oracle = expected(logits, targets)
    error = np.abs(found.entropy.cpu().numpy().reshape(times, -1) - oracle["entropy"])
    assert (error <= allowed_entropy_error(logits, oracle["entropy"])).all(), error.max(0)
    for field, rtol, atol in (("varentropy", 1e-4, 2e-3), ("logsumexp", 1e-4, 2e-3), ("max_prob", 1e-5, 0.0)):
        values = getattr(found, field).cpu().numpy().reshape(times, -1)
        np.testing.assert_allclose(values, np.tile(oracle[field], (times, 1)), rtol, atol, err_msg=field)
    assert found.target_logprob is not None
    check_logprob(found.target_logprob.cpu().reshape(times, -1), logits, targets)


def test_targets_that_lie_outside_are_refused_and_ignored_ones_are_nan() -> None:
    logits, weight = torch.randn(5, 1000, device="cuda"), torch.randn(1000, 1000, device="cuda")
    for wrong in (1000, -1):
        targets = torch.tensor([0, 999, -100, wrong, 5], device="cuda")
        with pytest.raises(InvalidArgument, match=rf"{wrong} lies outside 0\.\.999"):
            euds.token_stats(logits, targets)
        with pytest.raises(InvalidArgument, match=rf"{wrong} lies outside 0\.\.999"):
            euds.linear_token_stats(logits, weight, targets)
        with pytest.raises(InvalidArgument, match=rf"{wrong} lies outside 0\.\.999"):
            euds.token_stats(logits, targets.cpu())
    targets = torch.tensor([0, 999, -100, 7, 5])
    found, on_gpu = (euds.token_stats(logits, own) for own in (targets, targets.cuda()))
    torch.testing.assert_close(found.target_logprob, on_gpu.target_logprob, rtol=0, atol=0, equal_nan=True)
    assert found.target_logprob is not None
    assert torch.isnan(found.target_logprob).tolist() == [False, False, True, False, False]


def test_checking_targets_waits_for_no_other_work() -> None:
    logits, targets = torch.randn(5, 1000, device="cuda"), torch.zeros(5, dtype=torch.long, device="cuda")
    euds.token_stats(logits, targets)
    torch.cuda.set_sync_debug_mode("error")
    try:
        euds.token_stats(logits, targets)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@functools.cache
def projected(
    rows: int, hidden_size: int, vocabulary: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Float64Array]]:
    """Return hidden states, weight, targets, and the reference's values, once for all back ends."""
    generator = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, hidden_size, generator=generator).to(dtype)
    weight = (torch.randn(vocabulary, hidden_size, generator=generator) / math.sqrt(hidden_size)).to(dtype)
    targets = torch.randint(0, vocabulary, (rows,), generator=generator)
    return hidden, weight, targets, expected(hidden.double() @ weight.double().T, targets)


@pytest.mark.parametrize("backend", LINEAR)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "hidden_size", "vocabulary"),
    # The last two: several tiles a program of the fused kernel; several tiles of the other path, by rows and columns.
    [(1, 64, 130), (257, 576, 4099), (130, 72, 999), (700, 576, 20011), (2100, 72, 20011)],
)
def test_projections_of_odd_sizes(
    rows: int, hidden_size: int, vocabulary: int, dtype: torch.dtype, backend: str
) -> None:
    hidden, weight, targets, oracle = projected(rows, hidden_size, vocabulary, dtype)
    found = euds.linear_token_stats(hidden.cuda(), weight.cuda(), targets.cuda(), backend=backend)
    # The other paths round each logit to the dtype of the products.
    exact = dtype == torch.float32 or backend == "triton_fused"
    for field in FIELDS:
        # A probability is small: only its relative error says something.
        tolerance = 0.0 if field == "max_prob" else 3e-5 if exact else 2e-2
        relative = 1e-4 if exact or field != "max_prob" else 5e-2
        found_values = getattr(found, field).cpu()
        np.testing.assert_allclose(found_values, oracle[field], rtol=relative, atol=tolerance, err_msg=field)


@pytest.mark.parametrize("backend", ["triton_fused", "triton_tiles"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("softcap", "temperature"), [(None, 0.7), (5.0, 1.0), (30.0, 2.0)])
def test_projections_with_bias_soft_cap_and_temperature(
    softcap: float | None, temperature: float, dtype: torch.dtype, backend: str
) -> None:
    hidden, weight, targets, _ = projected(257, 576, 4099, dtype)
    bias = torch.randn(2 * 4099, generator=torch.Generator().manual_seed(1)).to(dtype)
    logits = hidden.double() @ weight.double().T + bias[::2].double()
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    oracle = expected(logits / temperature, targets)
    found = euds.linear_token_stats(
        *(tensor.cuda() for tensor in (hidden, weight, targets)),
        # Not contiguous.
        bias=bias.cuda()[::2],
        softcap=softcap,
        temperature=temperature,
        varentropy=False,
        backend=backend,
    )
    tolerance = 5e-5 if dtype == torch.float32 or backend == "triton_fused" else 3e-2
    for field in ("entropy", "logsumexp", "target_logprob"):
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
    on_cpu, on_gpu = begin_sample_mean_max(values, offsets)(), begin_sample_mean_max(values.cuda(), offsets)()
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


def write_corpus(path: Path, n: int) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in tiny.make_texts(n, 3)))
    return path


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_engine_scores_as_on_the_cpu(dtype: str, tiny_lm: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 300)
    found = {}
    for device, kind in (("cpu", "float32"), ("cuda", dtype)):
        out = tmp_path / device
        euds.score(corpus, out=out, measures=["generative"], lm=tiny_lm, device=device, dtype=kind)
        found[device] = read_scores(out)
    tolerance = 1e-3 if dtype == "float32" else 0.1
    for column in ("generative_entropy_nats", "nll_nats"):
        values = [found[device].column(column).to_numpy() for device in ("cpu", "cuda")]
        np.testing.assert_allclose(values[1], values[0], atol=tolerance, err_msg=column)


def test_several_processes_write_the_bytes_of_one(tiny_lm: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 200)
    found = []
    for workers in (1, 2):
        out = tmp_path / f"{workers}"
        settings: dict[str, Any] = {"measures": ["generative"], "lm": tiny_lm, "shard_rows": 50}
        euds.score(corpus, out=out, device="cuda", workers=workers, **settings)
        found.append([part.read_bytes() for part in part_files(out)])
    assert len(found[0]) == 4
    assert found[0] == found[1]


def test_packed_texts_are_kept_apart_by_variable_length_attention(tmp_path: Path) -> None:
    # Heads of 16: the kernel takes multiples of 8.
    folder = tiny.build_lm(tmp_path, hidden_size=64)
    generator = torch.Generator().manual_seed(0)
    lengths = [200, 1, 64, 3, 129, 2]
    samples = [torch.randint(5, 300, (length,), generator=generator) for length in lengths]
    half = CausalLM.load(folder, precision("cuda", "bfloat16"))
    assert half.model.config._attn_implementation == packing.NAME
    assert type(half.model.model.norm) is FusedRMSNorm
    whole = CausalLM.load(folder, precision("cuda", "float32"))
    assert whole.model.config._attn_implementation == packing.PADDED_NAME
    ids = on_device(torch.cat(samples), half.device)
    with torch.inference_mode():
        found = packed_hidden_states(half.model, ids, lengths)
        # A text that saw another would be off by as much as the states themselves, which are about 1.
        off = (found.float() - packed_hidden_states(whole.model, ids, lengths)).abs()
        assert off.mean() < 0.02
        assert off.max() < 0.5
        # What a text of NaN is packed with must not reach the others.
        position = sum(lengths[:2]) + 5
        spoil = half.model.get_input_embeddings().register_forward_hook(
            lambda module, inputs, output: output.index_fill(1, torch.tensor([position], device="cuda"), math.nan)
        )
        spoilt = packed_hidden_states(half.model, ids, lengths)
        spoil.remove()
    rows, expected_rows = spoilt.split(lengths), found.split(lengths)
    assert torch.isnan(rows[2][5:]).all()
    for at in (0, 1, 3, 4, 5):
        assert torch.equal(rows[at], expected_rows[at])


def test_embeddings_in_bfloat16_point_where_those_of_float32_do(tiny_encoder: Path) -> None:
    tokenizer = load_tokenizer(tiny_encoder)
    samples = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in tiny.make_texts(200, 4)]
    on_cpu = Embedder(tiny_encoder, precision("cpu", "float32")).embed(samples)
    on_gpu = Embedder(tiny_encoder, precision("cuda", "bfloat16")).embed(samples)
    assert (on_cpu * on_gpu).sum(1).min() > 0.995


def test_faiss_clusters_on_the_gpu_as_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster_faiss = pytest.importorskip("euds.kernels.cluster_faiss", exc_type=ImportError)
    adjusted_rand_score = pytest.importorskip("sklearn.metrics").adjusted_rand_score

    if not cluster_faiss.n_gpus():
        pytest.skip("this FAISS was built without GPUs, or sees none")
    rng = np.random.default_rng(0)
    planted_at = np.repeat(np.arange(30), 40)
    embeddings = (rng.standard_normal((30, 64))[planted_at] + 0.3 * rng.standard_normal((1200, 64))).astype(np.float32)
    centroids = fit_centroids(embeddings, n_clusters=30)
    rule: dict[str, Any] = {"n_neighbors": 16, "similarity_temperature": 0.05}
    (on_gpu, nearest), (again, _) = (entropy_to_centroids(embeddings, centroids, **rule) for _ in range(2))
    assert adjusted_rand_score(planted_at, nearest) > 0.8
    np.testing.assert_array_equal(on_gpu, again)
    monkeypatch.setattr(cluster_faiss, "n_gpus", lambda: 0)
    on_cpu, _ = entropy_to_centroids(embeddings, centroids, **rule)
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-4)


def test_texts_are_generated_and_grouped_on_the_gpu(tiny_lm: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    settings = euds.SampleSettings(n_generations=4, max_new_tokens=8)
    models: dict[str, Any] = {"lm": tiny_lm, "embedder": tiny_encoder}
    found = []
    for name in ("first", "again"):
        out = tmp_path / name
        corpus = write_corpus(tmp_path / "corpus.jsonl", 12)
        euds.score(
            corpus, out=out, measures=["semantic"], semantic=["samples"], samples=settings, device="cuda", **models
        )
        found.append(read_scores(out))
    assert found[0].column("semantic_samples_discrete_nats").null_count == 0
    assert found[0].equals(found[1])


def test_a_classifier_is_fine_tuned_on_the_gpu(tiny_encoder: Path) -> None:
    rows = [
        {"text": f"the film was {word} {other}", "label": int(word == "wonderful")}
        for word in ("wonderful", "terrible")
        for other in tiny.WORDS
    ]
    (found,) = euds.finetune(rows, rows, model=tiny_encoder, steps=60, learning_rate=3e-3, precision="bfloat16")
    assert found.metrics["accuracy"] > 0.9
