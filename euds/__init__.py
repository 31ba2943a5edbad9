"""euds: entropy-based data selection for language-model training.

Every public name is loaded on first use, so `import euds` stays light: it loads neither torch, triton, faiss,
transformers nor ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from euds.engine.estimate import estimate
    from euds.engine.score import score
    from euds.errors import BackendUnavailable, EudsError
    from euds.ops.cluster import cluster_entropy
    from euds.ops.histogram import Histogram
    from euds.ops.information import information_entropy
    from euds.ops.search import (
        find_box,
        find_boxes,
        find_by_group,
        find_histogram_interval,
        find_intersection,
        find_interval,
        region_stability,
    )
    from euds.ops.semantic import semantic_entropy
    from euds.ops.token_stats import linear_token_stats, token_entropy, token_stats
    from euds.pipeline.run import run
    from euds.selection.select import select
    from euds.study.finetune import finetune
    from euds.types import Box, Estimate, Intersection, Interval, ScoreResult, Selection, Stability, TokenStats

__version__ = "0.1.0"

_HOME = {
    "BackendUnavailable": "euds.errors",
    "Box": "euds.types",
    "Estimate": "euds.types",
    "EudsError": "euds.errors",
    "Histogram": "euds.ops.histogram",
    "Intersection": "euds.types",
    "Interval": "euds.types",
    "ScoreResult": "euds.types",
    "Selection": "euds.types",
    "Stability": "euds.types",
    "TokenStats": "euds.types",
    "cluster_entropy": "euds.ops.cluster",
    "estimate": "euds.engine.estimate",
    "find_box": "euds.ops.search",
    "find_boxes": "euds.ops.search",
    "find_by_group": "euds.ops.search",
    "find_histogram_interval": "euds.ops.search",
    "find_intersection": "euds.ops.search",
    "find_interval": "euds.ops.search",
    "finetune": "euds.study.finetune",
    "information_entropy": "euds.ops.information",
    "linear_token_stats": "euds.ops.token_stats",
    "region_stability": "euds.ops.search",
    "run": "euds.pipeline.run",
    "score": "euds.engine.score",
    "select": "euds.selection.select",
    "semantic_entropy": "euds.ops.semantic",
    "token_entropy": "euds.ops.token_stats",
    "token_stats": "euds.ops.token_stats",
}

__all__ = [
    "BackendUnavailable",
    "Box",
    "Estimate",
    "EudsError",
    "Histogram",
    "Intersection",
    "Interval",
    "ScoreResult",
    "Selection",
    "Stability",
    "TokenStats",
    "__version__",
    "cluster_entropy",
    "estimate",
    "find_box",
    "find_boxes",
    "find_by_group",
    "find_histogram_interval",
    "find_intersection",
    "find_interval",
    "finetune",
    "information_entropy",
    "linear_token_stats",
    "region_stability",
    "run",
    "score",
    "select",
    "semantic_entropy",
    "token_entropy",
    "token_stats",
]


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it."""
    if name not in _HOME:
        raise AttributeError(f"module 'euds' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
