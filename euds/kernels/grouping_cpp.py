"""Groups of generations by cosine similarity, sample by sample, in C++."""

import numpy as np

from euds import _core
from euds.types import BoolArray, Float32Array, Int64Array

ISA = _core.usable_isas()[0]
"""The instruction set in use, the best of this processor; tests set it to each of them."""


def similarity_groups(
    embeddings: Float32Array,
    offsets: Int64Array,
    empty: BoolArray,
    *,
    least: float,
    components: bool,
    n_threads: int,
) -> Int64Array:
    """Group of every generation (total,), numbered from 0 within each sample by first appearance.

    Cosines are summed in float32, and once more in float64 for a sample where that does not settle every comparison.

    Args:
        embeddings: (total, H).
        offsets: (n + 1,), rising from 0 to total.
        empty: (total,), the generations that are one group of their own in each sample.
        least: smallest cosine at which two rows are alike.
        components: groups are what chains of alike pairs connect; False: by the first alike representative.
        n_threads: at most; >= 1.
    """
    groups = np.empty(len(embeddings), np.int64)
    # Copies only of what is strided or at an odd address.
    rows = np.require(embeddings, requirements=["C", "A"])
    starts = np.require(offsets, requirements=["C", "A"])
    _core.find_groups(rows, starts, np.ascontiguousarray(empty), least, components, groups, n_threads, ISA)
    return groups
