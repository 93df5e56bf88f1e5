"""The verb curvature: how strongly the body bends, over time and along the body."""

from __future__ import annotations

import numpy as np
import xarray as xr

from niddl_xr.behaviour._kernels.smoothing import smooth_known
from niddl_xr.posture import CURVATURE_DIMS, require_posture
from niddl_xr.schema import NiddlError, with_history

EVEN = 0.2  # of the median time between frames


def curvature(
    posture: xr.Dataset, *, smooth_s: float = 0.0, smooth_body: float = 0.0, times_length: bool = False
) -> xr.DataArray:
    """Return the curvature of a posture, smoothed where asked for.

    Parameters
    ----------
    posture
        Of :func:`niddl_xr.centerline` or :func:`niddl_xr.open_posture`, with ``curvature`` (t, s) in 1/mm.
    smooth_s
        Sigma in s of a Gaussian along time; 0 for none. 0.1 s leaves an undulation of 0.5 Hz as it is.
    smooth_body
        Sigma of a Gaussian along the body, as a part of its length; 0 for none.
    times_length
        True for curvature times the median length of the body, which has no unit: worms of different sizes have
        the same.

    Returns
    -------
    xarray.DataArray
        ``curvature`` (t, s), float32, in 1/mm, or 1 with ``times_length``; positive where the body bends to its ventral
        side, or to the right where that is unknown (attribute ``ventral_side``). NaN where the posture has none:
        nothing is filled, and smoothing leaves out what is not known.

    Raises
    ------
    NiddlError
        Without curvature, and to smooth along times that are not in s or not evenly spaced.

    Notes
    -----
    Smoothing divides by the weights of what is known, so that it does not fade beside gaps and ends. A gap between two
    known frames is not a border for it: both sides count, as far apart as they are.

    Examples
    --------
    >>> from niddl_xr.simulation import freely_moving
    >>> worm = freely_moving(shape=(1, 64, 80), voxel_um=(1, 12, 12), frames=5, neurons=6, seed=1)
    >>> bending = curvature(worm["posture"].to_dataset(), smooth_s=0.1)
    >>> bending.dims, bending.attrs["units"]
    (('t', 's'), '1/mm')
    """
    checked = require_posture(posture, "curvature")
    for name, value in (("smooth_s", smooth_s), ("smooth_body", smooth_body)):
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 <= value < np.inf:
            raise NiddlError(f"expected {name} as a finite number from 0 on, got {value!r}")
    values = checked["curvature"].transpose(*CURVATURE_DIMS).values.astype(np.float64)
    if smooth_s:
        values = smooth_known(values, smooth_s / _interval_s(checked["t"]), axis=0)
    if smooth_body:
        values = smooth_known(values, smooth_body * (values.shape[1] - 1), axis=1)
    side = str(checked.attrs.get("ventral_side", "unknown"))
    attrs = {**checked["curvature"].attrs, "units": "1/mm", "ventral_side": side}
    if times_length:
        require_posture(posture, "length")
        known = checked["length"].values[np.isfinite(checked["length"].values)]
        if not known.size:
            raise NiddlError("expected a posture with a length in one frame at least, for times_length=True")
        values = values * float(np.median(known)) / 1000
        attrs["units"] = "1"
    result = xr.DataArray(
        values.astype(np.float32),
        dims=CURVATURE_DIMS,
        coords={name: coord for name, coord in checked["curvature"].coords.items() if name != "space"},
        name="curvature",
        attrs=attrs,
    )
    if "niddl_history" in posture.attrs:
        result = result.assign_attrs(niddl_history=posture.attrs["niddl_history"])
    parameters = {"smooth_s": smooth_s, "smooth_body": smooth_body, "times_length": times_length}
    return with_history(result, "curvature", parameters)


def _interval_s(t: xr.DataArray) -> float:
    if t.attrs.get("units") != "s" or t.size < 2:
        raise NiddlError(
            f"expected times t in s to smooth along them, got units {t.attrs.get('units')!r}: set t with assign_coords "
            "and its attrs['units'] = 's', or smooth_s=0"
        )
    steps = np.diff(t.values.astype(np.float64))
    interval = float(np.median(steps))
    if np.any(np.abs(steps - interval) > EVEN * interval):
        raise NiddlError(
            f"expected frames evenly spaced in time to smooth along it, got steps of {steps.min():.4g} to "
            f"{steps.max():.4g} s; see DataArray.interp, or smooth_s=0"
        )
    return interval
