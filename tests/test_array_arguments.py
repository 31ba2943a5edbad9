"""What functions over arrays refuse by name: numbers that are none, truth values, and arrays that cannot be read."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import euds
from euds.errors import InvalidArgument, InvalidType

ROWS = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
CALLS: dict[str, Callable[[Any], object]] = {
    "margin": lambda number: euds.share_at_ends([0.1, 0.2], 3, margin=number),
    "target_mean": lambda number: euds.calibrate_temperature(
        ROWS, euds.fit_centroids(ROWS, n_clusters=3), n_neighbors=2, target_mean=number
    ),
    "similarity_temperature": lambda number: euds.nearest_neighbor_entropy(
        ROWS, [0, 10, 20], similarity_temperature=number
    ),
    "min_similarity": lambda number: euds.embedding_groups(ROWS, [0, 10, 20], min_similarity=number),
    "max_overlap": lambda number: euds.find_boxes(ROWS[:, :2], keep=5, k=2, max_overlap=number),
    "min_width": lambda number: euds.find_interval(ROWS[:, 0], keep=5, rule="density", min_width=number),
    "temperature": lambda number: euds.token_stats(torch.from_numpy(ROWS), temperature=number),
}


@pytest.mark.parametrize("wrong", ["0.5", True, None])
@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_number_is_named(name: str, wrong: object) -> None:
    said = "rule 'density' needs it" if (name, wrong) == ("min_width", None) else f"must be a number, got {wrong!r}"
    with pytest.raises(InvalidArgument, match=f"{name}: {said}"):
        CALLS[name](wrong)


@pytest.mark.parametrize("name", CALLS)
def test_a_number_beyond_all_floats_is_named(name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{name}: must be a number that a float can hold"):
        CALLS[name](10**400)


@pytest.mark.parametrize("name", CALLS)
def test_numpys_numbers_are_taken(name: str) -> None:
    CALLS[name](np.float32(0.5))


ANY: Any = ROWS
TABLE: Any = {"text": ["a"]}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: euds.Histogram([0.0, 1.0]).merge(ANY), "other: must be a Histogram, got ndarray"),
        (lambda: euds.EqualMassEdges().merge(ANY), "other: must be an EqualMassEdges, got ndarray"),
        (lambda: euds.fetch(ANY), "name: must be the name of an asset, got ndarray"),
        (lambda: euds.finetune([], [], model="m", seeds=ANY), "seeds: must be a list of integers, got array"),
        (lambda: euds.finetune(TABLE, [], model="m"), "training rows: must be a file or rows as mappings"),
        (lambda: euds.score("c.jsonl", out="o", measures="information", split=ANY), "split: must be I/N, such as"),
    ],
)
def test_other_things_than_what_is_asked_for_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidType, match=f"^{message}"):
        call()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_logits_are_refused() -> None:
    with pytest.raises(InvalidType, match=r"^logits: must be dense, got a nested tensor"):
        euds.token_stats(torch.nested.nested_tensor([torch.ones(2)]))


def test_a_sample_of_values_is_not_merged_with_itself() -> None:
    edges = euds.EqualMassEdges()
    with pytest.raises(InvalidArgument, match=r"^other: must be another one"):
        edges.merge(edges)


def test_arguments_are_checked_where_no_row_is_usable() -> None:
    with pytest.raises(InvalidArgument, match=r"^n_neighbors: "):
        euds.cluster_entropy(np.zeros((3, 4)), n_clusters=1, n_neighbors=7)
    with pytest.raises(InvalidArgument, match=r"^similarity_temperature: "):
        euds.cluster_entropy(np.zeros((3, 4)), n_clusters=1, similarity_temperature=-1.0)


def test_entropies_that_are_no_numbers_are_named() -> None:
    with pytest.raises(InvalidArgument, match=r"^entropy: must be real numbers"):
        euds.share_at_ends(["a"], 3)


def test_entropies_beyond_their_range_are_named() -> None:
    for entropy in ([0.5, 50.0], [-7.0, 0.5], [math.inf, 0.5]):
        with pytest.raises(InvalidArgument, match=r"^entropy: must be in 0\.\.ln 3 = 1\.0986 nats, got (50|-7|inf)"):
            euds.share_at_ends(entropy, 3)
    with pytest.raises(InvalidArgument, match=r"^entropy: must have shape \(n,\), got \(2, 2\)"):
        euds.share_at_ends(np.ones((2, 2)), 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backend", ["cpp", "torch"])
def test_logits_may_begin_at_any_address(backend: str, dtype: torch.dtype) -> None:
    logits = torch.randn(3, 40, generator=torch.Generator().manual_seed(0)).to(dtype)
    buffer = bytearray(b"x") + bytearray(logits.view(torch.uint8).numpy().tobytes())
    odd = torch.frombuffer(buffer, dtype=dtype, offset=1, count=120).view(3, 40)
    assert odd.data_ptr() % odd.element_size()
    assert torch.equal(euds.token_entropy(odd, backend=backend), euds.token_entropy(logits, backend=backend))


def find(**arguments: Any) -> object:
    """Search a box of three rows."""
    return euds.find_box(**{"scores": np.eye(3), "keep": 1, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": torch.eye(3, dtype=torch.bfloat16)}, "scores: must be real numbers .*: Got unsupported .*BFloat16"),
        ({"scores": torch.eye(3, requires_grad=True)}, r"scores: must be real numbers .*: Can't call numpy\(\)"),
        ({"ids": torch.ones(3, requires_grad=True)}, r"ids: must be a flat array of integers: Can't call numpy\(\)"),
        (
            {"ids": np.ma.masked_array([1, 2, 3], [False, False, True])},
            "ids: must be a flat array of integers, none of them mask",
        ),
        ({"groups": [["a"], ["a", "b"], []]}, "groups: must be 3 labels: setting an array element"),
        (
            {"groups": np.ma.masked_array([1, 2, 3], [False, False, True])},
            "groups: must be labels of one kind, all given; some",
        ),
        ({"groups": [1, "a", "b"]}, "groups: must be labels of one kind, all given; some are strings"),
        ({"groups": [b"a", "a", "b"]}, "groups: must be labels of one kind, all given; some are strings"),
        ({"groups": [-1, 2**63, 2**63 + 5]}, "groups: must be labels of one kind, all given; integers beyond"),
        ({"groups": [1.0, float("nan"), 2.0]}, "groups: must be labels of one kind, all given; NaN"),
        ({"groups": np.array([1, float("nan"), 2], object)}, "groups: must be labels of one kind, all given; NaN"),
        ({"groups": np.array(["2020-01-01", "NaT", "2021-01-01"], "M8[D]")}, "groups: must be .* all given; NaN"),
        ({"objective": 3}, "objective: unknown value 3; known: volume"),
    ],
)
def test_arrays_and_names_that_cannot_be_read_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{message}"):
        find(**arguments)
    find(scores=torch.eye(3), ids=torch.arange(3), groups=np.ma.masked_array([1, 1, 2]))


class NAType:
    """As pandas.NA calls itself; pandas is not needed to tell it."""


def test_nulls_of_pandas_are_left_out_like_others() -> None:
    frame = np.array([[1.0, 2.0], [NAType(), 3.0], [2.0, None], [4.0, 5.0]], object)
    plain = np.array([[1.0, 2.0], [np.nan, 3.0], [2.0, np.nan], [4.0, 5.0]])
    assert euds.find_box(frame, keep=1, bins=2).to_json() == euds.find_box(plain, keep=1, bins=2).to_json()
    histogram = euds.Histogram([[0.0, 3.0, 6.0]] * 2)
    histogram.add(frame)
    assert (histogram.n_counted, histogram.n_nan) == (2, 2)
    with pytest.raises(InvalidArgument, match=r"^scores: must be real numbers"):
        euds.find_box(np.array([["a", 1.0]], object), keep=1)


@pytest.mark.parametrize("kind", [euds.Interval, euds.Box, euds.Stability])
def test_json_of_something_else_is_told_as_documented(kind: Any) -> None:
    for text in ("{}", "5", "[]", '{"sides": {"a": 1}}'):
        with pytest.raises((TypeError, ValueError)):
            kind.from_json(text)
    with pytest.raises(ValueError, match="Expecting"):
        kind.from_json("{")
