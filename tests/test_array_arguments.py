"""Numbers that functions over arrays refuse by name: no numbers at all, and truth values."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import euds
from euds.errors import InvalidArgument

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
    "temperature": lambda number: euds.token_stats(torch.from_numpy(ROWS), temperature=number),
}


@pytest.mark.parametrize("wrong", ["0.5", True, None])
@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_number_is_named(name: str, wrong: object) -> None:
    with pytest.raises(InvalidArgument, match=f"{name}: must be a number, got {wrong!r}"):
        CALLS[name](wrong)


@pytest.mark.parametrize("name", CALLS)
def test_numpys_numbers_are_taken(name: str) -> None:
    CALLS[name](np.float32(0.5))
