"""Neurons followed through a recording: linking of detections, their quality, and corrections by hand."""

from niddl_xr.tracking._edit_rows import EditWarning
from niddl_xr.tracking.applying import apply_edits, merge_edits
from niddl_xr.tracking.edits import EditLog
from niddl_xr.tracking.quality import track_quality
from niddl_xr.tracking.retracking import retrack
from niddl_xr.tracking.tracking import track

__all__ = ["EditLog", "EditWarning", "apply_edits", "merge_edits", "retrack", "track", "track_quality"]
