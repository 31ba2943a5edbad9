"""The searches for the interval of one score, or the box of several, that holds the samples to keep."""

from euds.ops.box import BOX_OBJECTIVES, find_box, find_boxes
from euds.ops.groups import find_by_group
from euds.ops.histogram_box import find_histogram_box
from euds.ops.histogram_interval import find_histogram_interval
from euds.ops.intersection import find_intersection
from euds.ops.interval import INTERVAL_RULES, find_interval
from euds.ops.stability import STABLE_RULES, quantile_stability, region_stability

__all__ = [
    "BOX_OBJECTIVES",
    "INTERVAL_RULES",
    "STABLE_RULES",
    "find_box",
    "find_boxes",
    "find_by_group",
    "find_histogram_box",
    "find_histogram_interval",
    "find_intersection",
    "find_interval",
    "quantile_stability",
    "region_stability",
]
