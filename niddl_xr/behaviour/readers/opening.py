"""The verb open_posture: how a worm lies, as another tool has found it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import xarray as xr

from niddl_xr.behaviour._kernels.polyline import polyline_curvature, polyline_length, resampled
from niddl_xr.behaviour.readers import Lines, hdf5, wcon
from niddl_xr.posture import make_posture
from niddl_xr.schema import NiddlError, with_history

READERS = {".wcon": wcon.read, ".json": wcon.read, ".hdf5": hdf5.read, ".h5": hdf5.read}
NO_LINE = "no centreline in the file"


def open_posture(
    path: str | os.PathLike[str],
    *,
    worm: str | int | None = None,
    pixel_um: float | None = None,
    dt_s: float | None = None,
    ventral_side: str = "unknown",
    y_up: bool = False,
) -> xr.Dataset:
    """Open the posture of one worm from a file of another tool.

    WCON (``.wcon``, ``.json``); Tierpsy Tracker's skeletons (``_skeletons.hdf5``, ``_features.hdf5``,
    ``_featuresN.hdf5``); WormPose's results (``.h5`` with ``skeletons`` and ``scores``). Told by the suffix, then by
    what they hold.

    Parameters
    ----------
    path
        The file.
    worm
        Which worm, as the file names it, where it holds several.
    pixel_um
        Size of a pixel in µm, where lines are in pixels and the file does not state it.
    dt_s
        Time between frames in s, where the file counts frames and does not state it. None then leaves frame numbers.
    ventral_side
        "right" or "left" of one who walks over the displayed image (y downwards) from head to tail; or "unknown".
    y_up
        Whether y of the file points upwards, as in a graph. False: downwards, as in images.

    Returns
    -------
    xarray.Dataset
        A posture as of :func:`niddl_xr.centerline`: ``centerline`` (t, s, space) in µm with as many points as the
        longest line of the file, shorter ones cut anew into equal steps; z is 0. ``curvature`` (t, s) in 1/mm is that
        of circles through three points, not smoothed: :func:`niddl_xr.centerline` of the result smooths it. s runs as
        the points do, from head to tail where the file keeps to that. ``quality`` is the file's score, else 1.

    Raises
    ------
    NiddlError
        For a file that is not there, is malformed, holds no lines or several worms of which none is chosen, or lines in
        pixels whose size is not known.

    Examples
    --------
    >>> posture = open_posture("worm.wcon", worm="1")  # doctest: +SKIP
    """
    file = Path(path)
    if not file.is_file():
        raise NiddlError(f"no file {file}")
    if file.suffix.lower() not in READERS:
        raise NiddlError(f"expected a file {', '.join(READERS)}, got {file.name!r}: compressed ones are to be unpacked")
    for name, value in (("pixel_um", pixel_um), ("dt_s", dt_s)):
        wrong = isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < np.inf
        if value is not None and wrong:
            raise NiddlError(f"expected {name} as a positive number, got {value!r}")
    held = READERS[file.suffix.lower()](file, worm)
    if not any(line is not None for line in held.lines):
        raise NiddlError(f"{file}: expected a line of two points or more in one frame at least, got none")
    posture = _posture(held, file, pixel_um, dt_s, ventral_side, y_up)
    parameters = {"path": str(file), "worm": worm, "pixel_um": pixel_um, "dt_s": dt_s}
    return with_history(posture, "open_posture", {**parameters, "ventral_side": ventral_side, "y_up": y_up})


def _posture(
    held: Lines, file: Path, pixel_um: float | None, dt_s: float | None, ventral_side: str, y_up: bool
) -> xr.Dataset:
    scale = 1.0 if held.in_um else _known(held.pixel_um, pixel_um, "pixel_um", file)
    if scale is None:
        raise NiddlError(f"{file} keeps lines in pixels and does not state their size: give pixel_um=")
    interval = None if held.in_s else _known(held.dt_s, dt_s, "dt_s", file)
    if held.in_s or interval is not None:
        t = ("t", held.times * (interval or 1.0), {"units": "s"})
    else:
        t = ("t", held.times, {"units": "frame"})
    points = max(len(line) for line in held.lines if line is not None)
    lines = np.full((len(held.lines), points, 3), np.nan)
    for frame, line in enumerate(held.lines):
        if line is not None:
            even = line if len(line) == points else resampled(line, points)
            lines[frame, :, 0], lines[frame, :, 1:] = 0.0, even * scale * ([-1, 1] if y_up else [1, 1])
    known = np.array([line is not None for line in held.lines])
    sign = -1.0 if ventral_side == "left" else 1.0
    quality = np.ones(len(known)) if held.quality is None else held.quality
    return make_posture(
        lines,
        sign * polyline_curvature(lines[..., 1:]),
        length_um=polyline_length(lines[..., 1:]),
        quality=np.where(known, quality, 0.0),
        reason=["" if line else NO_LINE for line in known],
        t=t,
        ventral_side=ventral_side,
        attrs={"source": file.name, **held.attrs},
    )


def _known(stated: float | None, given: float | None, name: str, file: Path) -> float | None:
    """Return the number that is stated or given; two that differ are an error."""
    if stated is not None and given is not None and not np.isclose(stated, given, rtol=1e-3):
        raise NiddlError(f"{file} states {name} = {stated:g}, got {given:g}: leave it out, or mend the file")
    return stated if given is None else float(given)
