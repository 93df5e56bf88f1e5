"""Maximum projections along z, which some denoisers are trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr


def maximum_projection(recording: xr.DataArray) -> xr.DataArray:
    """Return the maximum of each volume along z, lazy where the recording is.

    Parameters
    ----------
    recording
        (t, z, y, x). One of a single plane is taken to be a projection already, and returned as it is.

    Returns
    -------
    xarray.DataArray
        (t, z, y, x) with z of size 1, in the dtype of the recording; NaN where a plane has NaN. Its z is the mean of
        the planes' z, and the attrs of z hold ``projection`` ("maximum") and ``projected_planes``; it has no voxel size
        along z. Other coordinates along z are dropped.

    Examples
    --------
    >>> volume = xr.DataArray(np.arange(6.0).reshape(1, 3, 1, 2), dims=("t", "z", "y", "x"), coords={"z": [0, 1, 2]})
    >>> projection = maximum_projection(volume)
    >>> projection.values.tolist(), projection.z.values.tolist(), projection.z.attrs["projected_planes"]
    ([[[[4.0, 5.0]]]], [1.0], 3)
    """
    planes = recording.sizes["z"]
    if planes == 1:
        return recording
    coords: dict[Any, Any] = {name: coord for name, coord in recording.coords.items() if "z" not in coord.dims}
    if "z" in recording.coords:
        attrs = {**recording["z"].attrs, "projection": "maximum", "projected_planes": planes}
        coords["z"] = ("z", np.mean(recording["z"].values, keepdims=True, dtype=np.float64), attrs)
    data = recording.data.max(axis=recording.get_axis_num("z"), keepdims=True)
    return xr.DataArray(data, dims=recording.dims, coords=coords, name=recording.name, attrs=recording.attrs)
