"""euds: entropy-based data selection for language-model training.

Every public name is loaded on first use, so `import euds` stays light: it loads neither torch, triton, faiss,
transformers nor ray. Every error of euds is an `EudsError`; `euds.errors` names them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from euds.assets import fetch
    from euds.corpus import read_scores
    from euds.engine.estimate import estimate
    from euds.engine.estimate_result import Estimate
    from euds.engine.generations_config import SampleSettings
    from euds.engine.label_words_config import LabelWordSettings
    from euds.engine.score import score
    from euds.engine.status import RunStatus
    from euds.engine.status import run_status as status
    from euds.errors import (
        BackendUnavailable,
        EudsError,
        InputError,
        InvalidArgument,
        InvalidType,
        MissingExtra,
        RunStopped,
    )
    from euds.ops.box import find_box, find_boxes
    from euds.ops.calibration import EndShares, TemperatureCalibration, calibrate_temperature, share_at_ends
    from euds.ops.cluster import cluster_entropy, fit_centroids
    from euds.ops.entailment import EntailmentGroups, entailment_groups
    from euds.ops.grouping import embedding_groups, label_groups
    from euds.ops.groups import find_by_group
    from euds.ops.histogram import Histogram, equal_mass_edges, equal_width_edges
    from euds.ops.information import information_entropy
    from euds.ops.intersection import find_intersection
    from euds.ops.interval import find_interval
    from euds.ops.quantiles import EqualMassEdges
    from euds.ops.semantic import kernel_language_entropy, nearest_neighbor_entropy, semantic_entropy
    from euds.ops.stability import region_stability
    from euds.ops.token_stats import linear_token_stats, token_entropy, token_stats
    from euds.pipeline.run import RunResult, run
    from euds.progress import Message, StepProgress, listen
    from euds.report import write_report
    from euds.selection.select import select
    from euds.selection.streaming import select_streaming
    from euds.study.finetune import finetune
    from euds.study.types import CellResult, Spread, StudyRow, StudyTable
    from euds.types import (
        AxisBounds,
        BoundSpread,
        Box,
        Intersection,
        Interval,
        ScoreResult,
        Selection,
        Stability,
        TokenStats,
    )

__version__ = "0.1.0"

# Module by name; behind a colon what it is called there, if otherwise.
_HOME = {
    "AxisBounds": "euds.types",
    "BackendUnavailable": "euds.errors",
    "BoundSpread": "euds.types",
    "Box": "euds.types",
    "CellResult": "euds.study.types",
    "EndShares": "euds.ops.calibration",
    "EntailmentGroups": "euds.ops.entailment",
    "EqualMassEdges": "euds.ops.quantiles",
    "Estimate": "euds.engine.estimate_result",
    "EudsError": "euds.errors",
    "Histogram": "euds.ops.histogram",
    "InputError": "euds.errors",
    "Intersection": "euds.types",
    "Interval": "euds.types",
    "InvalidArgument": "euds.errors",
    "InvalidType": "euds.errors",
    "LabelWordSettings": "euds.engine.label_words_config",
    "Message": "euds.progress",
    "MissingExtra": "euds.errors",
    "RunResult": "euds.pipeline.run",
    "RunStatus": "euds.engine.status",
    "RunStopped": "euds.errors",
    "SampleSettings": "euds.engine.generations_config",
    "ScoreResult": "euds.types",
    "Selection": "euds.types",
    "Spread": "euds.study.types",
    "Stability": "euds.types",
    "StepProgress": "euds.progress",
    "StudyRow": "euds.study.types",
    "StudyTable": "euds.study.types",
    "TemperatureCalibration": "euds.ops.calibration",
    "TokenStats": "euds.types",
    "calibrate_temperature": "euds.ops.calibration",
    "cluster_entropy": "euds.ops.cluster",
    "embedding_groups": "euds.ops.grouping",
    "entailment_groups": "euds.ops.entailment",
    "equal_mass_edges": "euds.ops.histogram",
    "equal_width_edges": "euds.ops.histogram",
    "estimate": "euds.engine.estimate",
    "fetch": "euds.assets",
    "find_box": "euds.ops.box",
    "find_boxes": "euds.ops.box",
    "find_by_group": "euds.ops.groups",
    "find_intersection": "euds.ops.intersection",
    "find_interval": "euds.ops.interval",
    "finetune": "euds.study.finetune",
    "fit_centroids": "euds.ops.cluster",
    "information_entropy": "euds.ops.information",
    "kernel_language_entropy": "euds.ops.semantic",
    "label_groups": "euds.ops.grouping",
    "linear_token_stats": "euds.ops.token_stats",
    "listen": "euds.progress",
    "nearest_neighbor_entropy": "euds.ops.semantic",
    "read_scores": "euds.corpus",
    "region_stability": "euds.ops.stability",
    "run": "euds.pipeline.run",
    "score": "euds.engine.score",
    "select": "euds.selection.select",
    "select_streaming": "euds.selection.streaming",
    "semantic_entropy": "euds.ops.semantic",
    "share_at_ends": "euds.ops.calibration",
    "status": "euds.engine.status:run_status",
    "token_entropy": "euds.ops.token_stats",
    "token_stats": "euds.ops.token_stats",
    "write_report": "euds.report",
}

__all__ = [
    "AxisBounds",
    "BackendUnavailable",
    "BoundSpread",
    "Box",
    "CellResult",
    "EndShares",
    "EntailmentGroups",
    "EqualMassEdges",
    "Estimate",
    "EudsError",
    "Histogram",
    "InputError",
    "Intersection",
    "Interval",
    "InvalidArgument",
    "InvalidType",
    "LabelWordSettings",
    "Message",
    "MissingExtra",
    "RunResult",
    "RunStatus",
    "RunStopped",
    "SampleSettings",
    "ScoreResult",
    "Selection",
    "Spread",
    "Stability",
    "StepProgress",
    "StudyRow",
    "StudyTable",
    "TemperatureCalibration",
    "TokenStats",
    "__version__",
    "calibrate_temperature",
    "cluster_entropy",
    "embedding_groups",
    "entailment_groups",
    "equal_mass_edges",
    "equal_width_edges",
    "estimate",
    "fetch",
    "find_box",
    "find_boxes",
    "find_by_group",
    "find_intersection",
    "find_interval",
    "finetune",
    "fit_centroids",
    "information_entropy",
    "kernel_language_entropy",
    "label_groups",
    "linear_token_stats",
    "listen",
    "nearest_neighbor_entropy",
    "read_scores",
    "region_stability",
    "run",
    "score",
    "select",
    "select_streaming",
    "semantic_entropy",
    "share_at_ends",
    "status",
    "token_entropy",
    "token_stats",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it."""
    if name not in _HOME:
        raise AttributeError(f"module 'euds' has no attribute {name!r}")
    module, _, own = _HOME[name].partition(":")
    value = getattr(import_module(module), own or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
