"""Near-duplicates by the words they share: exact, for pools of up to some ten thousand texts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from euds.types import Float64Array, Int64Array

SHINGLE_WORDS = 3
MIN_SIMILARITY = 0.5
"""Half of the runs of three words in common: the same text with a few words changed."""

BLOCK_ROWS = 1024


def near_duplicates(
    texts: Sequence[str], of: Sequence[str] | None = None, *, min_similarity: float = MIN_SIMILARITY
) -> Int64Array:
    """Return the positions of texts that nearly repeat one of `of`, or an earlier text that is itself no repetition.

    Similarity is the Jaccard index of the sets of runs of three lower-cased words; a text of fewer words is one run.
    Source: Broder 1997, "On the Resemblance and Containment of Documents"; computed exactly instead of by MinHash.

    Args:
        texts: to be judged.
        of: texts not to be repeated; None: the texts themselves, of which the first of each group of repetitions stays.
        min_similarity: Jaccard index in 0..1 from which two texts count as the same.

    Returns:
        Positions, ascending.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    if not texts or (of is not None and not of):
        return np.empty(0, np.int64)
    vectorizer = CountVectorizer(analyzer=_shingles, binary=True, dtype=np.int32)
    all_rows = vectorizer.fit_transform([*texts, *(of or [])])
    rows, others = all_rows[: len(texts)], all_rows[len(texts) :]
    if of is not None:
        found = [_similarities(rows, others, start).max(1) >= min_similarity for start in _starts(rows)]
        return np.flatnonzero(np.concatenate(found))
    repeated = np.zeros(len(texts), bool)
    for start in _starts(rows):
        pairs = _similarities(rows, rows, start) >= min_similarity
        for line, same in enumerate(pairs):
            earlier = np.flatnonzero(same[: start + line])
            repeated[start + line] = bool((~repeated[earlier]).any())
    return np.flatnonzero(repeated)


def _shingles(text: str) -> list[str]:
    words = text.lower().split()
    runs = [" ".join(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1)]
    return runs or [" ".join(words)]


def _starts(rows: Any) -> range:
    return range(0, rows.shape[0], BLOCK_ROWS)


def _similarities(rows: Any, others: Any, start: int) -> Float64Array:
    """Return the Jaccard indices of a block of rows with all others; both are sparse matrices of runs."""
    block = rows[start : start + BLOCK_ROWS]
    common: Float64Array = (block @ others.T).toarray().astype(np.float64)
    sizes, other_sizes = (np.asarray(part.sum(1), np.float64).ravel() for part in (block, others))
    union = sizes[:, None] + other_sizes[None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)
