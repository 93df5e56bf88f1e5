"""The contract between the rooms: dims, units, attributes, their checks, and provenance.

A *recording* is a DataArray with dims ``(t, z, y, x)`` in this order: a plane movie has z of size 1, and of
several channels one is chosen when the file is opened. Coordinates are ``t`` in s and ``z``, ``y``, ``x`` in µm
where the file states them, else plain indices whose ``units`` are ``"frame"`` and ``"pixel"``.
*Pairs* are a Dataset with dims ``(stack, z, y, x)`` and the variables ``noisy`` and ``clean``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Hashable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np
import xarray as xr

RECORDING_DIMS = ("t", "z", "y", "x")
PAIR_DIMS = ("stack", "z", "y", "x")
VARIABLE = "F"  # fluorescence, the one variable of a stored recording
HISTORY = "niddl_history"
SPACE_DIMS = ("z", "y", "x")
MICROMETRE = frozenset({"µm", "μm", "um", "micrometer", "micrometre", "micron"})

XarrayObject = TypeVar("XarrayObject", xr.DataArray, xr.Dataset)


class NiddlError(ValueError):
    """What was given cannot be used as it is; the message says what was expected, what came and what to do."""


class MissingMetadataWarning(UserWarning):
    """The file does not state a physical quantity; the message names the argument that sets it."""


def make_recording(
    data: Any,
    *,
    voxel_um: Sequence[float | None] | Mapping[str, float] | None = None,
    dt_s: float | None = None,
    t_s: np.ndarray | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Label an array as a recording.

    Parameters
    ----------
    data
        Array (t, z, y, x), numpy or dask; its dtype is kept.
    voxel_um
        Size of a voxel along (z, y, x) in µm, as three numbers or a mapping of dims; None where unknown.
    dt_s
        Time between two frames (volumes) in s.
    t_s
        Time of every frame in s; used in place of ``dt_s``.
    attrs
        Attributes to keep, of types that JSON can hold.

    Returns
    -------
    xarray.DataArray
        Named ``"F"``, with coordinates in s and µm, or in indices where a quantity is unknown; then one
        :class:`MissingMetadataWarning` names the arguments that set it.

    Raises
    ------
    NiddlError
        For another number of dims, an empty array, values that are no real numbers, or a size ≤ 0.

    Examples
    --------
    >>> movie = make_recording(np.zeros((5, 1, 3, 4), "uint16"), voxel_um=(1, 0.4, 0.4), dt_s=0.25)
    >>> float(movie.t[-1]), movie.t.attrs["units"]
    (1.0, 's')
    """
    if data.ndim != 4:
        raise NiddlError(f"expected an array (t, z, y, x), got {data.ndim} dims of shape {tuple(data.shape)}")
    sizes = dict(zip(RECORDING_DIMS, data.shape, strict=True))
    voxel = voxel_mapping(voxel_um)
    if dt_s is not None and not (np.isfinite(dt_s) and dt_s > 0):
        raise NiddlError(f"expected dt_s, the time between frames, as a positive number of seconds, got {dt_s}")
    if t_s is not None:
        times = np.asarray(t_s, dtype=float)
        if times.shape != (sizes["t"],) or not np.all(np.isfinite(times)):
            raise NiddlError(f"expected {sizes['t']} finite frame times in s, got an array of shape {times.shape}")
        coords: dict[Hashable, Any] = {"t": ("t", times, {"units": "s"})}
    elif dt_s is not None:
        coords = {"t": ("t", np.arange(sizes["t"]) * float(dt_s), {"units": "s"})}
    else:
        coords = {"t": ("t", np.arange(sizes["t"]), {"units": "frame"})}
    coords |= space_coordinates(sizes, voxel)
    # A dim of size 1 has no spacing that could be missing.
    missing = [d for d in SPACE_DIMS if d not in voxel and sizes[d] > 1]
    wanted = []
    if missing:
        wanted.append(f"voxel size along {', '.join(missing)} (set voxel_um=(z, y, x))")
    if dt_s is None and t_s is None and sizes["t"] > 1:
        wanted.append("time step (set dt_s=)")
    if wanted:
        source = (attrs or {}).get("source", "the recording")
        warnings.warn(
            f"{source} does not state its {' nor its '.join(wanted)}; coordinates are indices",
            MissingMetadataWarning,
            stacklevel=3,
        )
    recording = xr.DataArray(data, dims=RECORDING_DIMS, coords=coords, name=VARIABLE, attrs=dict(attrs or {}))
    return require_recording(recording)


def space_coordinates(sizes: Mapping[str, int], voxel: Mapping[str, float]) -> dict[Hashable, Any]:
    """Return the coordinates z, y, x: in µm where the voxel size is known, else indices in pixels."""
    return {
        dim: (dim, np.arange(sizes[dim]) * voxel[dim], {"units": "µm"})
        if dim in voxel
        else (dim, np.arange(sizes[dim]), {"units": "pixel"})
        for dim in SPACE_DIMS
    }


def voxel_mapping(voxel_um: Sequence[float | None] | Mapping[str, float] | None) -> dict[str, float]:
    """Return the known sizes of a voxel by dim, in µm, from three numbers (z, y, x) or a mapping; others are errors."""
    if voxel_um is None:
        return {}
    if isinstance(voxel_um, Mapping):
        unknown = set(voxel_um) - set(SPACE_DIMS)
        if unknown:
            raise NiddlError(f"expected voxel_um along z, y, x, got {sorted(unknown)}")
        given: list[tuple[str, float | None]] = list(voxel_um.items())
    else:
        if isinstance(voxel_um, str) or not hasattr(voxel_um, "__len__") or len(voxel_um) != 3:
            raise NiddlError(f"expected voxel_um as three numbers (z, y, x) in µm, got {voxel_um!r}")
        given = list(zip(SPACE_DIMS, voxel_um, strict=True))
    try:
        sizes = {dim: float(size) for dim, size in given if size is not None}
    except (TypeError, ValueError) as error:
        raise NiddlError(f"expected voxel_um as numbers in µm, got {voxel_um!r}") from error
    for dim, size in sizes.items():
        if not (np.isfinite(size) and size > 0):
            raise NiddlError(f"expected a positive voxel size in µm along {dim}, got {size}")
    return sizes


def require_recording(recording: xr.DataArray) -> xr.DataArray:
    """Return ``recording`` if it keeps the contract, else raise one error that names everything amiss."""
    if not isinstance(recording, xr.DataArray):
        raise NiddlError(
            f"expected a recording, a DataArray with dims {RECORDING_DIMS}, got {type(recording).__name__}; "
            "see niddl_xr.open_recording and niddl_xr.from_numpy"
        )
    if recording.dims != RECORDING_DIMS:
        missing = [dim for dim in RECORDING_DIMS if dim not in recording.dims]
        remedy = f"add the missing {missing} with expand_dims" if missing else "see DataArray.transpose"
        raise NiddlError(f"expected dims {RECORDING_DIMS}, got {recording.dims}: {remedy}")
    if recording.size == 0:
        raise NiddlError(f"the recording is empty: its sizes are {dict(recording.sizes)}; every dim needs one element")
    if recording.dtype.kind not in "uif":
        raise NiddlError(
            f"expected integer or floating-point counts, got dtype {recording.dtype}; see DataArray.astype"
        )
    return recording


def require_pairs(pairs: xr.Dataset) -> xr.Dataset:
    """Return ``pairs`` if they keep the contract, else raise one error."""
    if not isinstance(pairs, xr.Dataset) or not {"noisy", "clean"} <= set(pairs.data_vars):
        raise NiddlError(
            "expected pairs, a Dataset with the variables noisy and clean over (stack, z, y, x), "
            f"got {type(pairs).__name__}; see niddl_xr.open_pairs"
        )
    for name in ("noisy", "clean"):
        if pairs[name].dims != PAIR_DIMS:
            raise NiddlError(f"expected dims {PAIR_DIMS} for {name}, got {pairs[name].dims}; see DataArray.transpose")
        if pairs[name].dtype.kind not in "uif":
            raise NiddlError(f"expected {name} as counts, integer or floating-point, got dtype {pairs[name].dtype}")
        if pairs[name].size == 0:
            raise NiddlError(f"the pairs are empty: {name} has sizes {dict(pairs[name].sizes)}")
    return pairs


def voxel_um(recording: xr.DataArray) -> dict[str, float]:
    """Return the voxel size in µm of the dims whose coordinate is in µm and has two elements or more."""
    return {
        dim: abs(float(recording[dim][1] - recording[dim][0]))
        for dim in SPACE_DIMS
        if dim in recording.coords and recording.sizes[dim] > 1 and recording[dim].attrs.get("units") in MICROMETRE
    }


def frame_interval_s(recording: xr.DataArray) -> float | None:
    """Return the median time between frames in s, or None where the time coordinate is not in s."""
    if recording["t"].attrs.get("units") != "s" or recording.sizes["t"] < 2:
        return None
    return float(np.median(np.diff(recording["t"].values)))


def history(obj: xr.DataArray | xr.Dataset) -> list[dict[str, Any]]:
    """Return the list of what was done to ``obj``, oldest first; empty where nothing is recorded."""
    stored = obj.attrs.get(HISTORY, "[]")
    try:
        entries = json.loads(stored)
    except (TypeError, ValueError):
        entries = None
    if not isinstance(entries, list):
        raise NiddlError(f"expected attrs[{HISTORY!r}] as a JSON list, got {stored!r:.60}; delete that attribute")
    return entries


def with_history(obj: XarrayObject, verb: str, parameters: Mapping[str, Any], **identity: str) -> XarrayObject:
    """Return a shallow copy of ``obj`` whose history ends with this call.

    ``identity`` holds what else names the result, such as ``denoiser_sha256``. The time is UTC, ISO 8601.
    """
    from niddl_xr import __version__

    entry = {
        "verb": verb,
        "parameters": dict(parameters),
        "version": __version__,
        **identity,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return obj.assign_attrs({HISTORY: json.dumps([*history(obj), entry], default=str)})
