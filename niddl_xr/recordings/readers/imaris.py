"""Imaris files (``.ims``), versions 5.5 and later: HDF5 with one dataset a time point and channel."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from niddl_xr.recordings.readers import Opened, Reader
from niddl_xr.recordings.readers._hdf5 import Hdf5Dataset, attribute, follow, opened, root_has, source, text
from niddl_xr.recordings.readers._hdf5_series import Hdf5Series
from niddl_xr.recordings.readers._lazy import choose_channel, lazy, modified_ns, require_axes
from niddl_xr.recordings.readers._units import um_per
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import h5py

READER = Reader("an image of Imaris", suffixes=(".ims",), needs=("h5py",))
_LEVEL = "DataSet/ResolutionLevel 0"


def recognises_file(path: Path, head: bytes) -> bool:
    """Say whether a file is HDF5 with the groups of Imaris."""
    return root_has(path, head, "DataSetInfo", "DataSet")


def read(path: Path, *, axes: str | None, channel: int | str | None, chunks: Any) -> Opened:
    """Open an Imaris file lazily, at full resolution.

    Parameters
    ----------
    path
        The file.
    axes
        Letters of (time, z, y, x), where the file was written with another meaning of its dims.
    channel, chunks
        See :func:`niddl_xr.open_recording`. Names of channels are those of the file.

    Returns
    -------
    Opened
        Voxel size from the extents ``ExtMin``, ``ExtMax`` over ``X``, ``Y``, ``Z`` pixels in their ``Unit``, times
        from the dates of the time points, wavelengths of the channel. Datasets are larger than the image where
        their chunks stand over it; that edge is cut off (Imaris 5.5 File Format Description).

    Raises
    ------
    NiddlError
        For time points or channels that are missing, or that differ in size, and for a damaged file.
    """
    with opened(path) as file:
        level = follow(file, _LEVEL)
        frames, count = _count(level, "TimePoint"), _count(follow(file, f"{_LEVEL}/TimePoint 0"), "Channel")
        if not frames or not count:
            raise NiddlError(f"{path} has no {_LEVEL}/TimePoint 0/Channel 0/Data: it holds no image")
        infos = [follow(file, f"DataSetInfo/Channel {at}") for at in range(count)]
        names = tuple(_said(info, "Name") or "" for info in infos)
        picked, label = choose_channel(channel, "tczyx", (frames, count), names if all(names) else (), path)
        found, notes = source(path, _first_volume(path, file, picked))
        shape = _image_shape(file, found, picked, path)
        voxel, times = _voxel_um(file, shape), _times(file, frames)
        attrs = _attrs(file, infos[picked], names)
    letters = require_axes(axes, 4, str(path)) if axes else "tzyx"
    name = (f"{_LEVEL}/TimePoint ", 1, f"/Channel {picked}/Data")
    image = Hdf5Series(str(path), *name, range(frames), (frames, *shape), found.stored, modified_ns(path))
    return Opened(lazy(image, letters, chunks), voxel_um=voxel, t_s=times, channel=label, attrs=attrs, notes=notes)


def _count(group: Any, kind: str) -> int:
    """Return how many members ``kind 0``, ``kind 1``, … a group has."""
    names = set(group) if group is not None and hasattr(group, "keys") else set()
    return next(at for at in range(len(names) + 1) if f"{kind} {at}" not in names)


def _first_volume(path: Path, file: h5py.File, channel: int) -> h5py.Dataset:
    import h5py

    name = f"{_LEVEL}/TimePoint 0/Channel {channel}/Data"
    found = follow(file, name, strict=True)
    if not isinstance(found, h5py.Dataset) or found.shape is None or len(found.shape) != 3:
        raise NiddlError(f"{path} has no volume {name}; it is damaged or cut short")
    return found


def _said(item: Any, name: str) -> str | None:
    return text(attribute(item, name)) if item is not None else None


def _value(item: Any, name: str) -> float | None:
    """Return a number that the file states as text."""
    try:
        value = float(_said(item, name) or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _image_shape(file: h5py.File, found: Hdf5Dataset, channel: int, path: Path) -> tuple[int, ...]:
    stored, chunk = found.shape, found.chunk or (1, 1, 1)  # larger than the image by less than a chunk
    group = follow(file, f"{_LEVEL}/TimePoint 0/Channel {channel}")
    sizes = [_value(group, f"ImageSize{dim}") for dim in "ZYX"]
    if any(size is None for size in sizes):
        image = follow(file, "DataSetInfo/Image")
        sizes = [_value(image, dim) for dim in "ZYX"]
    shape = tuple(int(size) if size is not None else have for size, have in zip(sizes, stored, strict=True))
    if any(not 1 <= size <= have < size + step for size, have, step in zip(shape, stored, chunk, strict=True)):
        raise NiddlError(f"{path} states an image of {shape} (z, y, x) voxels, but stores {stored}: it is damaged")
    return shape


def _voxel_um(file: h5py.File, shape: tuple[int, ...]) -> dict[str, float]:
    image = follow(file, "DataSetInfo/Image")
    per = um_per(_said(image, "Unit"))
    voxel = {}
    for dim, at, size in zip("xyz", range(3), shape[::-1], strict=True):
        low, high = _value(image, f"ExtMin{at}"), _value(image, f"ExtMax{at}")
        if per is not None and low is not None and high is not None and high > low:
            voxel[dim] = (high - low) / size * per
    return voxel


def _times(file: h5py.File, frames: int) -> np.ndarray | None:
    """Return the times in s since the first time point, where all have a date."""
    info = follow(file, "DataSetInfo/TimeInfo")
    try:
        dates = [datetime.fromisoformat(_said(info, f"TimePoint{at + 1}") or "") for at in range(frames)]
        times = np.array([(date - dates[0]).total_seconds() for date in dates])
    except (ValueError, TypeError):
        return None  # a date is missing, or not written as one
    return times if frames > 1 and np.all(np.diff(times) > 0) else None


def _attrs(file: h5py.File, channel: Any, names: tuple[str, ...]) -> dict[str, Any]:
    image = follow(file, "DataSetInfo/Image")
    attrs = {
        "acquired": _date(_said(image, "RecordingDate")),
        "description": _said(image, "Description"),
        "excitation_nm": _value(channel, "LSMExcitationWavelength"),
        "emission_nm": _value(channel, "LSMEmissionWavelength"),
        "numerical_aperture": _value(image, "NumericalAperture"),
        "magnification": _value(image, "LensPower"),
        "channels": list(names) if all(names) else None,
    }
    return {name: value for name, value in attrs.items() if value is not None and value != 0}


def _date(said: str | None) -> str | None:
    try:
        return datetime.fromisoformat(said or "").isoformat()
    except ValueError:
        return None  # not written as a date
