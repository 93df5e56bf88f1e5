"""Nuclei found, outlined, and neurites traced."""

from niddl_xr.segmentation.detection import detect
from niddl_xr.segmentation.labels import labels_to_detections, segment
from niddl_xr.segmentation.neurites import neurite_branches, segment_neurites

__all__ = ["detect", "labels_to_detections", "neurite_branches", "segment", "segment_neurites"]
