"""Traces read at the true places of the neurons, and how near they are to those of the recording without noise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

import niddl_xr as nx
from benchmarks.experiments._common import denoised
from niddl_xr.metrics import trace_metrics
from niddl_xr.schema import voxel_um

# Windows (z, y, x) in voxels: one voxel, and the regions of the paper for volumes and for maximum projections.
VOLUME_READOUTS = {"single pixel": (1, 1, 1), "ROI 5×5×3": (3, 5, 5)}
PROJECTION_READOUTS = {"single pixel": (1, 1, 1), "ROI 3×3": (1, 3, 3)}
TRACE_MEASURES = ("pearson", "mae", "amplitude_ratio", "mae_of_level")


def neuron_traces(recording: xr.DataArray, position: xr.DataArray, window: tuple[int, int, int]) -> xr.DataArray:
    """Return the mean counts (t, neuron) of a window (z, y, x) around the voxel nearest to each position.

    ``position`` (t, neuron, space) is in µm. Windows are cut off at the ends of the field, and NaN outside it.
    """
    values = recording.values
    voxel = [voxel_um(recording).get(dim, np.inf) for dim in ("z", "y", "x")]  # one plane: every z is in it
    centres = np.rint(position.transpose("t", "neuron", "space").values / voxel).astype(int)
    offsets = np.stack(np.meshgrid(*(np.arange(size) - size // 2 for size in window), indexing="ij"), -1).reshape(-1, 3)
    places = centres[:, :, None] + offsets
    inside = np.all((places >= 0) & (places < values.shape[1:]), axis=-1)
    z, y, x = np.moveaxis(np.where(inside[..., None], places, 0), -1, 0)
    read = values[np.arange(len(values))[:, None, None], z, y, x].astype(np.float64)
    mean = np.where(inside, read, 0.0).sum(-1) / np.where(inside.any(-1), inside.sum(-1), np.nan)
    return xr.DataArray(mean, dims=("t", "neuron"), coords={"neuron": position["neuron"].values})


def relative_change(traces: xr.DataArray, resting: xr.DataArray) -> xr.DataArray:
    """Return the change of traces (t, neuron) about their own median, relative to the true ``resting`` (neuron)."""
    return (traces - traces.median("t")) / resting


def judge_traces(scene: xr.DataTree, denoisers: Mapping[str, nx.Denoiser], *, projected: bool = False) -> pd.DataFrame:
    """Return one row a method, readout and neuron with ``TRACE_MEASURES`` of dF/F, and whether the neuron is active.

    The truth is read from the recording without noise, with the same window at the same places. dF/F is the change
    about a trace's own median over the true F0 (the true median above the offset), so that a method which dims a
    neuron shows it in ``amplitude_ratio``, and none divides by noise. ``mae_of_level`` is the mean absolute error of
    the counts themselves over the true F0, without taking out any median: it sees the level, too. Frames in which a
    neuron is outside the field do not count, and neurons that are outside in half of the frames are left out.
    """
    recording, clean = (scene[node].to_dataset()["F"].load() for node in ("recording", "clean"))
    tracks = scene["tracks"].to_dataset()
    tracks = tracks.sel(neuron=tracks["observed"].mean("t") > 0.5)
    position, observed = tracks["position"], tracks["observed"].values
    if projected:
        # z of size 1 has no spacing: the neurons of all planes are in it.
        recording, clean = (
            movie.max("z", keep_attrs=True).expand_dims(z=[0.0], axis=1) for movie in (recording, clean)
        )
    silent = position["group"].values == "inactive"
    arms = denoised(recording, denoisers)
    rows = []
    for readout, window in (PROJECTION_READOUTS if projected else VOLUME_READOUTS).items():
        truth = neuron_traces(clean, position, window).where(observed)
        resting = truth.median("t") - clean.attrs["offset_counts"]
        true_change = relative_change(truth, resting)
        for method, arm in arms.items():
            traces = neuron_traces(arm, position, window).where(observed)
            table = trace_metrics(relative_change(traces, resting), true_change)
            table["mae_of_level"] = (np.abs(traces - truth) / resting).mean("t").values
            table = table[list(TRACE_MEASURES)].rename_axis("neuron").reset_index()
            rows.append(table.assign(method=method, readout=readout, activity=np.where(silent, "silent", "active")))
    return pd.concat(rows, ignore_index=True)
