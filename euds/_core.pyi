"""Searches and token sums in C++; the checked, public functions are in euds.ops."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

def densest_interval(values: npt.NDArray[np.float64], keep: int) -> tuple[int, int]: ...
def nearest(distances: npt.NDArray[np.float64], ties: npt.NDArray[np.uint64], keep: int) -> npt.NDArray[np.int64]: ...
def find_box(
    codes: npt.NDArray[np.int32],
    bins: Sequence[int],
    groups: npt.NDArray[np.int32],
    needs: npt.NDArray[np.int64],
    max_keep: int,
    utility: npt.NDArray[np.float64] | None,
) -> tuple[list[int], list[int], int] | None: ...
def usable_isas() -> list[str]: ...
def add_logits(
    logits: npt.NDArray[np.float32] | npt.NDArray[np.uint16],
    dtype: str,
    sums: npt.NDArray[np.float64],
    scale: float,
    with_q: bool,
    n_threads: int,
    isa: str,
) -> None: ...
