"""What a description takes from labels, attributes and files, without a look at the pixels."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from niddl_xr.schema import HISTORY, SPACE_DIMS, NiddlError, frame_interval_s, history, voxel_um

MOST_FILES = 100_000  # of a folder, that are added up
GAP = 1.5  # time steps from which on frames are missing
_NOT_STATED = frozenset({"source", "channel", "files", "coordinates", HISTORY})  # attrs that are not of the file
_CAMERA = ("gain_counts_per_photon", "offset_counts", "read_noise_counts", "excess_noise")


@dataclass(frozen=True)
class Times:
    """When the frames are, in s; ``gaps`` is how often frames are missing, ``dropped`` how many."""

    start_s: float
    duration_s: float
    shortest_s: float
    median_s: float
    longest_s: float
    gaps: int = 0
    dropped: int = 0

    @property
    def irregular(self) -> bool:
        """Whether intervals differ by more than 1 %."""
        return self.longest_s - self.shortest_s > 0.01 * abs(self.median_s)


@dataclass(frozen=True)
class Blocks:
    """How dask cuts a lazy recording: how many blocks, of what largest shape (t, z, y, x)."""

    number: int
    shape: tuple[int, int, int, int]
    bytes: int


def source_of(recording: xr.DataArray) -> str | None:
    """Return where a recording is from, None where that is not known."""
    source = recording.attrs.get("source")
    return source if isinstance(source, str) and source else None


def _files(recording: xr.DataArray) -> list[Path]:
    """Return the files or folders that a recording lies in, as far as its attributes tell and they are there."""
    from niddl_xr.recordings.sessions import files_of

    source = source_of(recording)
    if source is None:
        return []
    path, names = Path(source), recording.attrs.get("files")
    try:
        if path.is_file() and isinstance(names, (list, tuple)):
            found = [path.parent / str(name) for name in names]
        else:
            found = files_of(path)
        return [file for file in found if file.exists()]
    except (NiddlError, OSError, ValueError):  # a path of another machine, or no path at all
        return []


def format_of(recording: xr.DataArray) -> str | None:
    """Return what the reader of a recording's file opens, in its words."""
    from niddl_xr.recordings.readers import find_reader

    files = _files(recording)
    if not files:
        return None
    try:
        name = find_reader(files[0])
    except (NiddlError, OSError):
        return None  # the file has changed since it was opened
    return str(import_module(f"niddl_xr.recordings.readers.{name}").READER.what)


def disk_bytes_of(recording: xr.DataArray) -> int | None:
    """Return the size of the files of a recording; None where they are not there, or too many to be added up."""
    files = _files(recording)
    total = entries = 0
    folders = [file for file in files if file.is_dir()]
    try:
        total = sum(file.stat().st_size for file in files if not file.is_dir())
        while folders:
            with os.scandir(folders.pop()) as found:
                for entry in found:
                    entries += 1
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
                    else:
                        total += entry.stat().st_size
            if entries > MOST_FILES:
                return None
    except OSError:
        return None
    return total if files else None


def bit_depth_of(recording: xr.DataArray) -> int | None:
    """Return the stated bits of a pixel, None for a statement that the dtype cannot hold."""
    stated = recording.attrs.get("bit_depth")
    if isinstance(stated, (bool, str)) or not isinstance(stated, (int, float, np.integer, np.floating)):
        return None
    most = 8 * recording.dtype.itemsize
    return int(stated) if np.isfinite(stated) and 1 <= stated <= most and stated == int(stated) else None


def times_of(recording: xr.DataArray) -> Times | None:
    """Return when the frames are, None where t is not in s or there is one frame."""
    median = frame_interval_s(recording)
    if median is None:
        return None
    times = np.asarray(recording["t"].values, dtype=float)
    intervals = np.diff(times)
    missing = np.rint(intervals[intervals > GAP * median] / median) - 1 if median > 0 else np.empty(0)
    return Times(
        start_s=float(times[0]),
        duration_s=float(times[-1] - times[0]) + median,
        shortest_s=float(intervals.min()),
        median_s=median,
        longest_s=float(intervals.max()),
        gaps=int(missing.size),
        dropped=int(missing.sum()),
    )


def blocks_of(recording: xr.DataArray) -> Blocks | None:
    """Return how a recording is cut, None for one in memory."""
    if not recording.chunks:
        return None
    t, z, y, x = (max(lengths) for lengths in recording.chunks)
    number = int(np.prod([len(lengths) for lengths in recording.chunks]))
    return Blocks(number, (t, z, y, x), t * z * y * x * recording.dtype.itemsize)


def given_of(recording: xr.DataArray) -> dict[str, Any]:
    """Return what the caller of open_recording said in place of the file, at any time in the recording's history."""
    try:
        entries: Any = history(recording)
    except NiddlError:
        return {}
    given: dict[str, Any] = {}
    for entry in entries if isinstance(entries, list) else []:
        said = entry.get("parameters") if isinstance(entry, dict) and entry.get("verb") == "open_recording" else None
        given |= said if isinstance(said, dict) else {}
    return given


def stated_of(recording: xr.DataArray, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the voxel size, times and attributes that nobody gave by hand."""
    said = given.get("voxel_um")
    by_hand = said if isinstance(said, Mapping) else {}
    stated: dict[str, Any] = {}
    voxel = {dim: size for dim, size in voxel_um(recording).items() if dim not in by_hand}
    if voxel:
        stated["voxel_um"] = voxel
    interval = frame_interval_s(recording)
    if interval is not None and "dt_s" not in given:
        stated["dt_s"] = interval
    attrs: dict[Hashable, Any] = recording.attrs
    return stated | {str(name): value for name, value in attrs.items() if name not in _NOT_STATED}


def missing_of(recording: xr.DataArray) -> dict[str, str]:
    """Return what is not known, each with what sets it."""
    missing = {}
    lacking = [dim for dim in SPACE_DIMS if recording.sizes[dim] > 1 and dim not in voxel_um(recording)]
    if lacking:
        missing[f"voxel size along {', '.join(lacking)}"] = f"open_recording(…, {_voxel_argument(lacking)})"
    if recording.sizes["t"] > 1 and frame_interval_s(recording) is None:
        missing["time between frames"] = "open_recording(…, dt_s=…)"
    if recording.dtype.kind in "ui" and recording.dtype.itemsize > 1 and bit_depth_of(recording) is None:
        missing["bit depth of the camera"] = "recording.assign_attrs(bit_depth=…)"
    camera = [name for name in _CAMERA if name not in recording.attrs]
    if camera:
        missing["camera"] = f"recording.assign_attrs({', '.join(f'{name}=…' for name in camera)})"
    return missing


def _voxel_argument(lacking: list[str]) -> str:
    if len(lacking) == 1:
        return f'voxel_um={{"{lacking[0]}": …}}'
    return f"voxel_um=({', '.join('…' if dim in lacking else 'None' for dim in SPACE_DIMS)})"
