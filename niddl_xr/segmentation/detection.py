"""The verb detect: where the neurons are in every frame, streamed over a recording of any length."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import warn

import numpy as np
import xarray as xr

from niddl_xr import neurons, schema
from niddl_xr.filling import identity
from niddl_xr.schema import MICROMETRE, SPACE_DIMS, NiddlError
from niddl_xr.segmentation import _detection_parts as parts
from niddl_xr.segmentation._channels import chosen_channel
from niddl_xr.segmentation._detection_tasks import frames_per_part_of, stacked, worked_on
from niddl_xr.segmentation._frame_detection import METHODS, Settings
from niddl_xr.segmentation._given_mask import given_mask

if TYPE_CHECKING:
    import pandas as pd

_UNEVEN = 0.1


def detect(
    recording: xr.DataArray | xr.Dataset | Mapping[str, xr.DataArray],
    *,
    radius_um: float = 1.6,
    snr: float = 5.0,
    min_distance_um: float = 1.6,
    channel: str | None = None,
    mask: xr.DataArray | np.ndarray | bool | None = None,
    method: str = "dog",
    time: slice | float | Sequence[float] | None = None,
    to: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Find the neurons in every frame: bright blobs of about the size of a nucleus.

    Frames are read and worked on one by one, on the threads, processes or cluster that dask is told to use; the points
    are the same for any chunking and scheduler, to the bit.

    Of two colours detect the one that does not follow activity, ``detect(red)``, because silent neurons are dark in the
    other, and extract traces from the other: points are in µm, which both share. A recording of one colour that
    follows activity is detected as it is.

    Parameters
    ----------
    recording
        (t, z, y, x) in µm, raw or denoised; z of size 1 is a plane movie. Or several channels, a Dataset or mapping
        of names, with ``channel``.
    radius_um
        Radius of a nucleus. 1.6 µm is that of a small nucleus in a worm's head; they have 1.3 to 2.8.
    snr
        How many times its noise the filtered frame has to be at a neuron. Noise is 1.4826 times the median absolute
        deviation, in the mask, of each frame by itself, so that bleaching does not move the threshold; at the second
        look that of what the found neurons leave over. Less finds more of the dim neurons and more of what is none.
        Where neurons fill the field, most of that deviation is theirs: take 2 to 3 there.
    min_distance_um
        Points nearer to one another than this are one.
    channel
        Which of several channels. A DataArray is one channel, for which this stays None.
    mask
        Where to look: boolean, dims or shape (z, y, x), (t, z, y, x), or fewer of them. None finds the outline of the
        worm in each frame; False looks everywhere. Without an outline (False, or where it holds more than 80 % of the
        frame) the threshold is 1.2 ``snr``.
    method
        The filter that finds the first points: "dog", difference of Gaussians, or "log", Laplacian of a Gaussian,
        sharper and noisier.
    time
        Frames to look at, in the unit of the coordinate ``t``: a slice, whose ends count, or one or several numbers,
        the nearest frames. None for all.
    to
        Folder for the points, Parquet parts of some frames each. If the work is interrupted, the same call does the
        rest; once it is finished, the same call gives the table. None keeps the points in memory.
    progress
        Show a progress bar.

    Returns
    -------
    pandas.DataFrame
        A row a point, in the order of the frames and the brightest response first: ``t_index`` (frame of the
        recording, from 0), ``t`` [s], NaN where the recording does not know it, ``z``, ``y``, ``x`` [µm, the
        recording's coordinates; at most half a voxel outside], ``radius_um`` (of the blob itself), ``intensity``
        (counts above the surroundings in its centre), ``snr``. ``attrs``: ``frames`` (of the recording), ``t_s`` (their
        times, where known), ``recording_id``, ``t_index_searched`` (with ``time``), and the history. No row for frames
        without neurons.

    Raises
    ------
    NiddlError
        Where coordinates are not in µm or not evenly spaced, and for arguments that do not fit the recording.
    FileExistsError
        If ``to`` holds something else.

    Warns
    -----
    UserWarning
        Where frames are blank (one value, or NaN alone), and where voxels are NaN or infinite: no neuron is there.
        Where no frame has any neuron.

    Notes
    -----
    The difference of Gaussians has sigma = radius / sqrt(dims) and 1.6 times that (Lindeberg, IJCV 30:79, 1998; Marr &
    Hildreth, Proc. R. Soc. B 207:187, 1980), in µm, so that voxels may be anisotropic. Its peaks are then fitted by
    Gaussians of similar size; where these leave another peak over, a second nucleus is fitted beside the first, unless
    it is nearer than 1.85 radii or gives less than 0.3 of its neighbour's response. Nearer, down to 1.7 radii, it stays
    if it is 15 times the noise of the pixels there, and the nearer the more it has to be as bright as its neighbour:
    so in good light, and after denoising. ``radius_um`` of a point is its sigma in the plane / 0.6. The outline is
    described in docs/decisions/0016-detection.md, with what was measured.

    Examples
    --------
    >>> from niddl_xr.simulation import whole_brain
    >>> worm = whole_brain(shape=(12, 70, 90), frames=2, neurons=8, photons=100)
    >>> found = detect(worm["recording"]["F"], progress=False)
    >>> list(found.columns[:5]), found.attrs["frames"]
    (['t_index', 't', 'z', 'y', 'x'], 2)
    """
    recording, channel = chosen_channel(recording, channel)
    settings = _settings(recording, radius_um, snr, min_distance_um, method, outline=mask is None)
    where = given_mask(mask, recording)
    searched = _frames(recording, time)
    parameters = {
        "source": recording.attrs.get("source"),
        "radius_um": radius_um,
        "snr": snr,
        "min_distance_um": min_distance_um,
        "channel": channel,
        "mask": "outline" if mask is None else "none" if where is None else "given",
        "method": method,
        "time": None if time is None else str(time),
    }
    attrs = _attrs(recording, None if time is None else searched, parameters)
    frames_per_part = frames_per_part_of(recording)
    folder = None
    if to is not None:
        folder = Path(to).expanduser().absolute()  # workers have working directories of their own
        job = {"verb": "detect", "recording": identity(recording), **asdict(settings), "frames": _run_lengths(searched)}
        job["mask"] = None if where is None else where.digest()
        described = parts.begin(folder, job, frames_per_part, attrs)
        frames_per_part, attrs = described["frames_per_part"], described["attrs"]
    found = list(worked_on(recording, settings, where, searched, frames_per_part, folder, progress))
    table = stacked([table for table, _ in found])
    _warn_of_gaps([counts for _, counts in found], len(searched), len(table))
    table.attrs = attrs
    return table


def _settings(
    recording: xr.DataArray, radius_um: float, snr: float, min_distance_um: float, method: str, *, outline: bool
) -> Settings:
    for name, value in (("radius_um", radius_um), ("snr", snr), ("min_distance_um", min_distance_um)):
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not (0 < value < np.inf):
            raise NiddlError(f"expected {name} as a positive number, got {value!r}")
    if method not in METHODS:
        raise NiddlError(f"expected method as one of {METHODS}, got {method!r}")
    z, y, x = (_spacing_um(recording[dim]) for dim in SPACE_DIMS)
    return Settings((z, y, x), float(radius_um), float(snr), float(min_distance_um), method, outline)


def _spacing_um(coordinate: xr.DataArray) -> float:
    """Return the distance of voxels in µm; 1 for a single one."""
    if coordinate.size == 1:
        return 1.0
    unit, dim = coordinate.attrs.get("units"), coordinate.name
    if unit not in MICROMETRE:
        raise NiddlError(
            f"expected the coordinate {dim} in µm, got units {unit!r}: "
            "say voxel_um=(z, y, x) when the recording is opened"
        )
    steps = np.diff(coordinate.values.astype(np.float64))
    middle = float(np.median(steps))
    if not (np.all(np.isfinite(steps)) and middle != 0 and np.all(np.abs(steps - middle) <= _UNEVEN * abs(middle))):
        raise NiddlError(
            f"expected voxels evenly spaced along {dim}, got steps of {steps.min():g} to {steps.max():g} µm: "
            f"resample with interp({dim}=...)"
        )
    return abs(middle)


def _frames(recording: xr.DataArray, time: slice | float | Sequence[float] | None) -> np.ndarray:
    """Return the frames to look at, in order, each once."""
    count = recording.sizes["t"]
    if time is None:
        return np.arange(count)
    frames = xr.DataArray(np.arange(count), coords={"t": recording["t"].values}, dims="t")
    try:
        if isinstance(time, slice):
            chosen = frames.sel(t=time)
        else:
            times = np.atleast_1d(np.asarray(time, dtype=float))
            low, high = float(frames["t"].min()), float(frames["t"].max())
            half = (high - low) / max(1, count - 1) / 2
            if times.size and not (np.all(times >= low - half) and np.all(times <= high + half)):
                raise NiddlError(f"expected time within the recording, {low:g} to {high:g}, got {time!r:.80}")
            chosen = frames.sel(t=times, method="nearest")
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, NiddlError):
            raise
        raise NiddlError(
            f"expected time as a slice, number or numbers of the coordinate t, got {time!r:.80}"
        ) from error
    if not chosen.size:
        raise NiddlError(
            f"expected time to hold a frame, got {time!r:.80}: t goes from {frames.t[0]} to {frames.t[-1]}"
        )
    return np.unique(chosen.values)


def _run_lengths(frames: np.ndarray) -> list[list[int]]:
    """Return runs of consecutive frames as [first, last]."""
    breaks = np.flatnonzero(np.diff(frames) != 1) + 1
    return [[int(run[0]), int(run[-1])] for run in np.split(frames, breaks)]


def _attrs(recording: xr.DataArray, searched: np.ndarray | None, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of the table, of types that JSON can hold."""
    attrs: dict[str, Any] = {"frames": recording.sizes["t"]}
    if recording["t"].attrs.get("units") == "s":
        attrs["t_s"] = recording["t"].values.astype(float).tolist()
    if searched is not None:
        attrs["t_index_searched"] = searched.tolist()
    attrs["recording_id"] = neurons.recording_id(recording)
    empty = xr.DataArray(0, attrs={schema.HISTORY: json.dumps(schema.history(recording))})
    attrs[schema.HISTORY] = schema.with_history(empty, "detect", parameters).attrs[schema.HISTORY]
    return attrs


def _warn_of_gaps(counts: Sequence[Mapping[str, int]], frames: int, points: int) -> None:
    blank, holed = (sum(count[name] for count in counts) for name in ("blank", "holed"))
    told = []
    if blank:
        told.append(f"{blank} of {frames} frames are blank (one value, or NaN alone)")
    if holed:
        told.append(f"{holed} of {frames} frames hold voxels that are NaN or infinite")
    if told:
        warn(f"{' and '.join(told)}; no neuron is found there", stacklevel=3)
    if not points and blank < frames:
        warn(f"no neuron is found in any of {frames} frames: lower snr=, or see whether radius_um= fits", stacklevel=3)
