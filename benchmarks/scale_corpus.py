"""Generated text for the scale benchmark: as many rows as wanted, the same ones every time."""

import json
from pathlib import Path

import numpy as np

VOCABULARY = 50_000
MEDIAN_WORDS = 40
SPREAD = 0.8
FEWEST, MOST = 3, 1000
BLOCK_ROWS = 10_000
SYLLABLES = [first + vowel for first in "bcdfghjklmnprstvwz" for vowel in ("a", "e", "i", "o", "u", "ai", "ou")]


def write_corpus(path: Path, n_rows: int) -> Path:
    """Write JSONL of n_rows texts; the first rows of a larger corpus are those of a smaller one.

    Words come from a Zipf law over `VOCABULARY` invented words, frequent ones shorter; the words of a text are
    log-normal in number (median `MEDIAN_WORDS`, mean 55), as web comments and news paragraphs are.
    """
    words = vocabulary()
    cumulative = np.cumsum(1 / np.arange(1, VOCABULARY + 1))
    with path.open("w", encoding="utf-8") as out:
        for block, start in enumerate(range(0, n_rows, BLOCK_ROWS)):
            rng = np.random.default_rng([7, block])
            lengths = np.clip(rng.lognormal(np.log(MEDIAN_WORDS), SPREAD, BLOCK_ROWS).astype(int), FEWEST, MOST)
            ends = np.cumsum(lengths)
            drawn = words[np.searchsorted(cumulative, rng.random(ends[-1]) * cumulative[-1])].tolist()
            for row in range(min(BLOCK_ROWS, n_rows - start)):
                text = " ".join(drawn[ends[row] - lengths[row] : ends[row]])
                out.write(f'{{"text": {json.dumps(text)}}}\n')
    return path


def vocabulary() -> np.ndarray:
    """Return the invented words, most frequent first; word k takes as many syllables as it takes to number it."""
    words = []
    for rank in range(1, VOCABULARY + 1):
        word = ""
        while rank:
            rank, digit = divmod(rank, len(SYLLABLES))
            word += SYLLABLES[digit]
        words.append(word)
    return np.array(words, object)
