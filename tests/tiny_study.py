"""A study that tiny models of random weights score and train within seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

WriteJsonl = Callable[..., Path]


def rows(n: int, seed: int) -> list[dict[str, object]]:
    """Texts of words that say nothing, and one that tells the label."""
    rng = np.random.default_rng(seed)
    found: list[dict[str, object]] = []
    for _ in range(n):
        good = bool(rng.integers(2))
        others = rng.choice(["the", "film", "plot", "was", "story", "it", "scene"], size=int(rng.integers(4, 9)))
        found.append({"text": " ".join([*others, "wonderful" if good else "terrible"]), "label": int(good)})
    return found


def make_study(write_jsonl: WriteJsonl, folder: Path, lm: Path, encoder: Path) -> dict[str, Any]:
    """The content of its file; scores and results go into a folder."""
    return {
        "name": "tiny",
        "title": "Tiny",
        "out": str(folder / "run"),
        "results": str(folder / "results"),
        "data": {
            "train": str(write_jsonl(rows(200, 0), "train.jsonl")),
            "test": str(write_jsonl(rows(30, 1), "test.jsonl")),
            "pool": 110,
            "validation": 20,
            "test_rows": 25,
        },
        "score": {"lm": str(lm), "embedder": str(encoder)},
        "train": {"model": str(encoder), "learning_rate": 3e-3},
        "grid": [{"keep": [0.2], "steps": 3, "seeds": 2, "methods": ["random", "igse_box", "el2n_low", "leaked"]}],
    }


def changed(study: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """The content with other sections, or other settings of a section."""
    return {
        **study,
        **{name: {**study[name], **new} if isinstance(new, dict) else new for name, new in sections.items()},
    }
