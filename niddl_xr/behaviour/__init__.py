"""Posture, curvature and locomotion, and their relation to traces."""

from niddl_xr.behaviour.bending import curvature
from niddl_xr.behaviour.body_position import assign_body_position
from niddl_xr.behaviour.comparison import compare_curvature_correlation
from niddl_xr.behaviour.correlation import curvature_correlation
from niddl_xr.behaviour.finding import centerline
from niddl_xr.behaviour.mapping import correlation_map
from niddl_xr.behaviour.moving import locomotion
from niddl_xr.behaviour.readers.opening import open_posture
from niddl_xr.behaviour.shapes import eigenworms

__all__ = [
    "assign_body_position",
    "centerline",
    "compare_curvature_correlation",
    "correlation_map",
    "curvature",
    "curvature_correlation",
    "eigenworms",
    "locomotion",
    "open_posture",
]
