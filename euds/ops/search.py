"""The searches for the interval of one score, or the box of several, that holds the samples to keep."""

from euds.ops.box import BOX_OBJECTIVES, find_box, find_boxes
from euds.ops.histogram_interval import find_histogram_interval
from euds.ops.interval import INTERVAL_RULES, find_interval

__all__ = [
    "BOX_OBJECTIVES",
    "INTERVAL_RULES",
    "find_box",
    "find_boxes",
    "find_histogram_interval",
    "find_interval",
]
