"""From labels back to detections: a point for every neuron that has an outline."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from scipy import ndimage

from niddl_xr import neurons, schema
from niddl_xr.neurons import DETECTION_COLUMNS
from niddl_xr.schema import RECORDING_DIMS, SPACE_DIMS, NiddlError
from niddl_xr.segmentation._grid import Grid, grid_of
from niddl_xr.segmentation._kernels import mixture
from niddl_xr.segmentation._kernels.splitting import noise_of
from niddl_xr.segmentation._lazy import delayed_frames

if TYPE_CHECKING:
    import pandas as pd

_BACKGROUND_UM = 4.0  # what is larger is background


def labels_to_detections(
    labels: xr.DataArray, recording: xr.DataArray, *, detections: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Give the detections that labels stand for: one row a label and frame.

    For tracking: the neurons that :func:`segment` split, and those that a function found, become points. Frames are
    read and measured one by one, on the threads, processes or cluster that dask is told to use.

    Parameters
    ----------
    labels
        (t, z, y, x), whole numbers, 0 = background, of :func:`segment` or any other source.
    recording
        (t, z, y, x) of the same sizes, in µm: its counts weigh the centroids.
    detections
        Those that :func:`segment` was given, for the column ``det_id``.

    Returns
    -------
    pandas.DataFrame
        The columns of :func:`niddl_xr.detect`: ``t_index``, ``t`` [s] (NaN where unknown), ``z``, ``y``, ``x`` [µm;
        centroids, each voxel weighted by its counts above the background], ``radius_um`` (of the ball, in a plane the
        disk, of the label's volume), ``intensity`` (mean counts above the background in the label), ``snr`` (that over
        the noise of a voxel there, from the finest detail of the planes); then ``label``, and ``det_id``, the
        row of ``detections`` or -1 for one that was split off, where these are given. ``attrs`` as of
        :func:`niddl_xr.detect`.

    Raises
    ------
    NiddlError
        For labels that are no whole numbers or of another size, and where coordinates are not in µm.

    Examples
    --------
    >>> from niddl_xr.simulation import whole_brain
    >>> worm = whole_brain(shape=(8, 48, 64), frames=2, neurons=4)
    >>> table = labels_to_detections(worm["labels"]["labels"], worm["recording"]["F"])
    >>> table.groupby("t_index").size().tolist()
    [4, 4]
    """
    import pandas as pd
    from dask.base import compute
    from dask.delayed import delayed

    schema.require_recording(recording)
    if not isinstance(labels, xr.DataArray) or labels.dims != RECORDING_DIMS or labels.dtype.kind not in "ui":
        got = f"dims {labels.dims} of {labels.dtype}" if isinstance(labels, xr.DataArray) else type(labels).__name__
        raise NiddlError(
            f"expected labels as whole numbers with dims {RECORDING_DIMS}, got {got}; see niddl_xr.segment"
        )
    if labels.shape != recording.shape:
        raise NiddlError(
            f"expected labels and recording of the same sizes, got {dict(labels.sizes)} and {dict(recording.sizes)}; "
            "select a common part with isel"
        )
    grid = grid_of(recording)
    rows = None if detections is None else neurons.frames_of(neurons.require_detections(detections)).rows
    pairs = zip(delayed_frames(labels), delayed_frames(recording), strict=True)
    tasks = [delayed(_measured, pure=False)(outline, frame, grid, t) for t, (outline, frame) in enumerate(pairs)]
    tables = compute(*tasks)
    table = pd.concat([part for part in tables if len(part)] or [tables[0]], ignore_index=True)
    times = recording["t"].values.astype(float) if recording["t"].attrs.get("units") == "s" else None
    table["t"] = np.nan if times is None else times[table["t_index"].to_numpy()]
    table = table[[*DETECTION_COLUMNS, "label"]]
    if rows is not None:
        table["det_id"] = [
            int(rows[t][label - 1]) if t < len(rows) and label <= len(rows[t]) else -1
            for t, label in zip(table["t_index"], table["label"], strict=True)
        ]
    table.attrs = {"frames": recording.sizes["t"], "recording_id": neurons.recording_id(recording)}
    if times is not None:
        table.attrs["t_s"] = times.tolist()
    source = xr.DataArray(0, attrs={schema.HISTORY: json.dumps(schema.history(labels))})
    table.attrs[schema.HISTORY] = schema.with_history(source, "labels_to_detections", {}).attrs[schema.HISTORY]
    return table


def _measured(labels: np.ndarray, frame: np.ndarray, grid: Grid, t: int) -> pd.DataFrame:
    """Return one row a label of a frame (1, z, y, x), without its time."""
    import pandas as pd

    labels, frame = labels[0], frame[0]
    numbers = np.unique(labels)
    numbers = numbers[numbers > 0]
    valid = np.isfinite(frame)
    used = np.array([size > 1 for size in frame.shape])
    voxel = np.where(used, grid.voxel_um, 1e9)
    filled = np.where(valid, frame, np.median(frame[valid]) if valid.any() else 0).astype(np.float32)
    light = filled - mixture.background(filled, voxel, _BACKGROUND_UM)
    noise = noise_of(filled, voxel)
    weights = np.maximum(light, 0) + 1e-6 * max(float(np.ptp(light)), 1e-6)  # so that a dark label has a centre too
    places = np.array(ndimage.center_of_mass(weights, labels, numbers)).reshape(-1, 3)
    volume = np.bincount(np.searchsorted(numbers, labels[labels > 0]), minlength=len(numbers)) * float(
        np.prod(grid.voxel_um[used])
    )
    radius = np.cbrt(volume * 3 / (4 * np.pi)) if used[0] else np.sqrt(volume / np.pi)
    intensity = np.asarray(ndimage.mean(light, labels, numbers)).reshape(-1)
    spread = np.sqrt(np.asarray(ndimage.mean(np.square(noise), labels, numbers))).reshape(-1)
    centres = grid.outward(places)
    return pd.DataFrame(
        {
            "t_index": np.full(len(numbers), t, np.int64),
            "t": np.full(len(numbers), np.nan),
            **{dim: centres[:, axis] for axis, dim in enumerate(SPACE_DIMS)},
            "radius_um": radius.astype(np.float32),
            "intensity": intensity.astype(np.float32),
            "snr": (intensity / np.maximum(spread, 1e-9)).astype(np.float32),
            "label": numbers.astype(np.int64),
        }
    )
