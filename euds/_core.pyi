"""Searches, histograms and token sums in C++; the checked, public functions are in euds.ops."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

def find_interval(
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    sums: npt.NDArray[np.int64] | None,
    objective: str,
    least: int,
    most: int,
    min_width: float,
) -> tuple[int, int] | None: ...
def add_rows(
    edges: Sequence[npt.NDArray[np.float64]],
    values: npt.NDArray[np.float64],
    utility: npt.NDArray[np.float64] | None,
    counts: npt.NDArray[np.int64],
    sums: npt.NDArray[np.uint64] | None,
) -> tuple[int, int, int]: ...
def add_values(
    edges: npt.NDArray[np.float64],
    values: npt.NDArray[np.float64] | npt.NDArray[np.float32],
    counts: npt.NDArray[np.int64],
    n_threads: int,
) -> tuple[int, int, int]: ...
def nearest(distances: npt.NDArray[np.float64], ties: npt.NDArray[np.uint64], keep: int) -> npt.NDArray[np.int64]: ...
def rank_rows(
    scores: npt.NDArray[np.float64] | npt.NDArray[np.float32], n_threads: int
) -> tuple[npt.NDArray[np.uint32], int]: ...
def count_rows(
    ranks: npt.NDArray[np.uint32],
    n_ranked: int,
    bins: int,
    groups: npt.NDArray[np.int32] | None,
    n_groups: int,
    utility: npt.NDArray[np.float64] | None,
    scale: float,
    n_threads: int,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]: ...
def find_boxes(
    counts: npt.NDArray[np.int32],
    utility: npt.NDArray[np.int64] | None,
    needs: npt.NDArray[np.int64],
    max_keep: int,
    objective: str,
    k: int,
    max_overlap: float,
    n_threads: int,
    progress: Callable[[float], None] | None,
) -> list[tuple[list[int], list[int], int]]: ...
def usable_isas() -> list[str]: ...
def find_groups(
    embeddings: npt.NDArray[np.float32],
    offsets: npt.NDArray[np.int64],
    empty: npt.NDArray[np.bool_],
    least: float,
    components: bool,
    groups: npt.NDArray[np.int64],
    n_threads: int,
    isa: str,
) -> None: ...
def add_logits(
    logits: npt.NDArray[np.float32] | npt.NDArray[np.uint16],
    dtype: str,
    sums: npt.NDArray[np.float64],
    scale: float,
    with_q: bool,
    n_threads: int,
    isa: str,
) -> None: ...
