"""Several files of one session, joined along t into one recording."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from glob import has_magic
from pathlib import Path
from typing import Any

import numpy as np

from niddl_xr.recordings.readers import Opened
from niddl_xr.recordings.readers.planes import SUFFIXES
from niddl_xr.schema import RECORDING_DIMS, NiddlError


def files_of(path: Path) -> list[Path]:
    """Return the files of a session that a glob names, in natural order; nothing for a path that one reader opens.

    Numbered images are the affair of the reader of planes.
    """
    if path.exists() or not has_magic(str(path)):
        return []
    found = [Path(name) for name in glob.glob(str(path))]
    if not found or any(file.suffix.lower() in SUFFIXES for file in found):
        return []
    return sorted(found, key=_natural)


def _natural(path: Path) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]


def join(parts: Sequence[Opened], paths: Sequence[Path]) -> Opened:
    """Return one recording of several that follow each other in time.

    All need one size of a volume, dtype, voxel size and channel. Where all files state increasing times, they are
    kept; where they state when they began (``acquired``) and their own times, these are added; where they state one
    time step, every file begins one step after the last frame of the file before it. Attributes that differ between
    files are left out.
    """
    import dask.array as da

    parts = [replace(part, data=_ordered(part), axes="tzyx") for part in parts]
    first = parts[0]
    for part, path in zip(parts, paths, strict=True):
        for what, here, expected in (
            ("the size (z, y, x)", part.data.shape[1:], first.data.shape[1:]),
            ("the dtype", part.data.dtype, first.data.dtype),
            ("the channel", part.channel, first.channel),
            ("the voxel size in µm", _rounded(part), _rounded(first)),
        ):
            if here != expected:
                raise NiddlError(
                    f"expected the files of one session to agree in {what}: {paths[0]} has {expected}, {path} has "
                    f"{here}; open them one by one, or choose those that belong together"
                )
    times = _times(parts)
    steps = {part.dt_s for part in parts}
    shared = {
        name: value for name, value in first.attrs.items() if all(part.attrs.get(name) == value for part in parts)
    }
    if "acquired" in first.attrs:
        shared["acquired"] = first.attrs["acquired"]
    notes = {str(note): note for part in parts for note in part.notes}
    return Opened(
        da.concatenate([part.data for part in parts], axis=0),
        voxel_um=first.voxel_um,
        dt_s=steps.pop() if len(steps) == 1 and times is None else None,
        t_s=times,
        channel=first.channel,
        coords={dim: coord for dim, coord in first.coords.items() if dim != "t"},
        attrs={**shared, "files": [path.name for path in paths]},
        notes=tuple(notes.values()),
    )


def _ordered(part: Opened) -> Any:
    if part.axes == "tzyx":
        return part.data
    return part.data.transpose([part.axes.index(dim) for dim in RECORDING_DIMS])


def _rounded(part: Opened) -> dict[str, float]:
    return {dim: float(f"{size:.6g}") for dim, size in part.voxel_um.items()}


def _times(parts: Sequence[Opened]) -> np.ndarray | None:
    """Return the times in s of all frames, or None where one time step, or nothing, is known."""
    own = [_own_times(part) for part in parts]
    stated = [times for times in own if times is not None]
    if len(stated) < len(parts):
        return None
    joined = np.concatenate(stated)
    if np.all(np.diff(joined) > 0):
        return joined
    starts = [_start(part) for part in parts]
    began = [start for start in starts if start is not None]
    if len(began) == len(parts):
        shifts = [(start - began[0]).total_seconds() for start in began]
        shifted = np.concatenate([times + shift for times, shift in zip(stated, shifts, strict=True)])
        if np.all(np.diff(shifted) > 0):
            return shifted
    step = float(np.median(np.concatenate([np.diff(times) for times in stated if len(times) > 1] or [np.ones(1)])))
    pieces, end = [], 0.0
    for times in stated:
        pieces.append(times - times[0] + end)
        end = float(pieces[-1][-1]) + step
    return np.concatenate(pieces)


def _own_times(part: Opened) -> np.ndarray | None:
    stored = part.coords.get("t")
    if part.t_s is not None:
        return np.asarray(part.t_s, dtype=float)
    if stored is not None and stored.attrs.get("units") == "s":
        return np.asarray(stored.values, dtype=float)
    if part.dt_s is not None and "acquired" in part.attrs:
        return np.arange(part.data.shape[0]) * part.dt_s
    return None


def _start(part: Opened) -> datetime | None:
    try:
        return datetime.fromisoformat(str(part.attrs["acquired"]))
    except (KeyError, ValueError):
        return None  # not stated, or not in a form that gives a time
