"""Recordings: files of many formats become lazy labelled arrays."""

from niddl_xr.recordings.opening import from_numpy, open_recording
from niddl_xr.recordings.pairs import open_pairs
from niddl_xr.recordings.readers import readers

__all__ = ["from_numpy", "open_pairs", "open_recording", "readers"]
